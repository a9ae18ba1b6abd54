"""The kernel gives connections to those sockets of a group that the program names, and to all of these."""

import contextlib
import socket
from collections.abc import Iterator, Sequence

import pytest

from tierlb.net.steering import (
    JUMP_UNLESS_EQUAL,
    LOAD_RANDOM,
    MODULO,
    MULTIPLIER,
    RETURN,
    steer,
    steer_by_client,
    steering_program,
)

CLIENTS = 48
"""With three sockets, one gets none of them by chance once in 10^8 bursts."""


def run(program: Sequence[tuple[int, int, int, int]], drawn: int) -> int:
    """What the program returns where the kernel draws this number."""
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if (code, operand) == (LOAD_RANDOM[0], LOAD_RANDOM[3]):
            accumulator = drawn
        elif code == MODULO:
            accumulator %= operand
        elif code == JUMP_UNLESS_EQUAL:
            at += if_true if accumulator == operand else if_false
        else:
            assert code == RETURN
            return operand


@pytest.mark.parametrize("indices", [[0], [2], [0, 1], [3, 0, 5], list(range(100))])
def test_each_index_is_as_likely_as_another(indices: list[int]) -> None:
    program = steering_program(indices)
    assert [run(program, drawn) for drawn in range(2 * len(indices))] == 2 * indices


@pytest.fixture
def group() -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))]
        for _ in range(2):
            more = socket.create_server(sockets[0].getsockname(), reuse_port=True)
            sockets.append(stack.enter_context(more))
        yield sockets


def burst(group: list[socket.socket]) -> list[int]:
    """How many connections each socket of the group gets."""
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection(group[0].getsockname(), timeout=30))
        return [accepted(each) for each in group]


def accepted(sock: socket.socket) -> int:
    sock.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("indices", [[0, 1, 2], [0, 2], [1], [2, 1]])
def test_the_sockets_that_are_named_get_all_connections_and_no_other_gets_any(
    group: list[socket.socket], indices: list[int]
) -> None:
    assert steer(group[1], indices)
    counts = burst(group)
    assert sum(counts) == CLIENTS
    assert {index for index, count in enumerate(counts) if count} == set(indices)


def test_a_later_choice_replaces_an_earlier_one(group: list[socket.socket]) -> None:
    assert steer(group[0], [0])
    assert steer(group[2], [1])
    assert burst(group) == [0, CLIENTS, 0]


def test_where_there_are_no_such_programs_the_answer_is_no() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not steer(ours, [0])


@pytest.fixture(params=["127.0.0.1", "::1"])
def ports(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    """Four sockets for datagrams at one port. The first is bound before it may have others beside it."""
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for _ in range(4):
            sock = stack.enter_context(
                socket.socket(family_of(request.param), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            )
            if sockets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(sockets[0].getsockname() if sockets else (request.param, 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sockets.append(sock)
        yield sockets


@pytest.fixture
def clients(ports: list[socket.socket]) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.socket(ports[0].family, socket.SOCK_DGRAM)) for _ in range(CLIENTS * 4)]


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def chosen(ports: list[socket.socket], clients: list[socket.socket]) -> list[int]:
    """Which socket each client's next datagram comes to."""
    found = {}
    for number, client in enumerate(clients):
        client.sendto(b"%d" % number, ports[0].getsockname())
    for index, port in enumerate(ports):
        with contextlib.suppress(BlockingIOError):
            while True:
                found[int(port.recv(100))] = index
    return [found[number] for number in range(len(clients))]


def test_a_clients_datagrams_come_to_one_socket_and_clients_to_all(
    ports: list[socket.socket], clients: list[socket.socket]
) -> None:
    assert steer_by_client(ports[0], 4, [0, 1, 2, 3], 12345)
    first = chosen(ports, clients)
    assert chosen(ports, clients) == first
    counts = [first.count(index) for index in range(4)]
    assert min(counts) > len(clients) / 8, counts
    assert steer_by_client(ports[0], 4, [0, 1, 2, 3], 54321)
    assert chosen(ports, clients) != first


def test_a_node_that_leaves_moves_its_own_clients_only_and_has_them_again_when_it_comes_back(
    ports: list[socket.socket], clients: list[socket.socket]
) -> None:
    assert steer_by_client(ports[0], 4, [0, 1, 2, 3], 7)
    first = chosen(ports, clients)
    assert steer_by_client(ports[0], 4, [0, 2, 3], 7)
    without = chosen(ports, clients)
    moved = [other for one, other in zip(first, without, strict=True) if one == 1]
    assert [other for one, other in zip(first, without, strict=True) if one != 1] == [one for one in first if one != 1]
    assert set(moved) == {0, 2, 3}
    assert steer_by_client(ports[0], 4, [0, 1, 2, 3], 7)
    assert chosen(ports, clients) == first


def test_clients_of_one_host_are_spread_by_their_ports() -> None:
    """The hash has no weakness that shows with ports in a row."""
    for seed in range(20):
        counts = [0] * 4
        for port in range(40_000, 40_400):
            counts[hashed(seed, (0x0A00_0001, port)) % 4] += 1
        assert min(counts) > 60, (seed, counts)


def hashed(seed: int, words: tuple[int, ...]) -> int:
    """What the program works out."""
    value = seed
    for word in words:
        value = (value ^ word) * MULTIPLIER & 0xFFFFFFFF
        value ^= value >> 15
    return value
