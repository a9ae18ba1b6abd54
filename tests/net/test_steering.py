"""The kernel gives connections to those sockets of a group that the program names, and to all of these."""

import contextlib
import socket
from collections.abc import Iterator, Sequence

import pytest

from tierlb.net.steering import JUMP_UNLESS_EQUAL, LOAD_RANDOM, MODULO, RETURN, steer, steering_program

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
