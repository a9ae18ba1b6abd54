"""Connections that come back from a child: each is placed anew or counted as lost, also where descriptors are short."""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, FakeEndpoint, Lab, Voice, l4
from tests.dataplane.handing import FakeChild, giver_to, handoff_of, host_load, met
from tests.descriptors import descriptors_left, open_descriptors
from tierlb.dataplane.l4 import returns
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.given import Given, Waiting
from tierlb.dataplane.l4.returns import Returns, carry_out
from tierlb.dataplane.l4.shared_queue import SharedQueue
from tierlb.model.topology import Policy
from tierlb.net.reactor import Reactor
from tierlb.wire.handoff import DRAINS, back_message, decode_entries, encode_entry

TOO_FEW = 3


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """Whose nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path
    return lab


async def handed(lab: Lab, other: FakeEndpoint, count: int = 2) -> tuple[FakeChild, list[Voice]]:
    """A child that has read nothing of what it was handed, and the clients of that."""
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)
    clients = []
    for _ in range(count):
        clients.append(await lab.connects())
        await lab.until(lambda: lab.front.counters.handed == len(clients))
        await lab.connects()
        await other.accepts()
    return child, clients


async def served(lab: Lab, other: FakeEndpoint, clients: list[Voice]) -> None:
    """The other host has these clients now, each once."""
    voices = [(await lab.accepts(other))[1] for _ in clients]
    for number, client in enumerate(clients):
        await client.says(bytes([number]))
    assert sorted([await voice.hears_count(1) for voice in voices]) == [bytes([n]) for n in range(len(clients))]


def leaves(child: FakeChild, how: str) -> Any:
    """It dies, or drains. Returns the edge's end."""
    if how == "dies":
        child.dies()
    else:
        child.says(DRAINS)
        child.queue.close()


@pytest.mark.parametrize("how", ["dies", "drains"])
async def test_what_a_child_did_not_read_waits_for_descriptors_and_is_placed_then(lab: Lab, how: str) -> None:
    other = await lab.endpoint()
    child, clients = await handed(lab, other)
    giver = giver_to(lab, child)
    with descriptors_left(TOO_FEW):
        leaves(child, how)
        await lab.until(lambda: giver.returns.filed < 1e9 and lab.plane.load().short_connects)
        assert (lab.front.remainder().connections, lab.front.drained) == (2 + 2, False)
        assert handoff_of(lab).waiting == lab.front.counters.handed == 2
    await served(lab, other, clients)
    assert (host_load(lab), lab.front.counters.errors) == ((0, 0, 2 * (how == "dies")), 0)
    assert handoff_of(lab).waiting == lab.front.counters.handed == 0
    assert lab.log.count("handoff_lost") == 0
    if how == "dies":
        assert giver.returns.is_over


@pytest.mark.parametrize("how", ["dies", "drains"])
async def test_clients_that_wait_for_descriptors_too_long_are_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(returns, "MOST_WAIT_S", 0.0)
    other = await lab.endpoint()
    child, clients = await handed(lab, other)
    with descriptors_left(TOO_FEW):
        leaves(child, how)
        for client in clients:
            await client.hears_no_word()
    await lab.until(lambda: lab.front.counters.handed == 0)
    assert ("handoff_lost", {"host": "web-1", "connections": 2, "after_s": 0.0}) in lab.log.events
    assert (host_load(lab), lab.front.counters.errors, lab.front.counters.connections) == ((0, 0, 0), 2, 2)
    assert handoff_of(lab).waiting == 0


async def test_a_drains_deadline_ends_what_waits_for_descriptors(lab: Lab) -> None:
    other = await lab.endpoint()
    child, clients = await handed(lab, other)
    with descriptors_left(TOO_FEW):
        leaves(child, "dies")
        await lab.until(lambda: handoff_of(lab).waiting == 2 and lab.plane.load().short_connects)
        lab.front.cut()
        assert lab.front.drained
        for client in clients:
            await client.hears_no_word()
    await lab.until(lambda: (lab.front.counters.handed, lab.front.counters.connections) == (0, 0))
    assert host_load(lab) == (0, 0, 0)


async def test_what_the_child_had_read_is_over_while_the_rest_waits(lab: Lab) -> None:
    other = await lab.endpoint()
    child, clients = await handed(lab, other)
    await child.takes()
    with descriptors_left(TOO_FEW):
        leaves(child, "dies")
        await lab.until(lambda: lab.front.counters.handed == 1)
        assert host_load(lab)[:2] == (1, 1)
    await served(lab, other, clients[1:])


async def test_a_child_that_lives_may_read_what_waits_for_descriptors_here(lab: Lab) -> None:
    """It is not refused however long that takes."""
    other = await lab.endpoint()
    child, clients = await handed(lab, other)
    giver = giver_to(lab, child)
    with descriptors_left(TOO_FEW):
        giver.returns.begin(0)
        await lab.until(lambda: lab.plane.load().short_connects)
    (_, one), (_, another) = await child.takes(), await child.takes()
    await lab.until(lambda: giver.returns.filed > 1e9)
    for client, voice in zip(clients, (one, another), strict=True):
        await client.says(b"x")
        await voice.hears(b"x")
    assert (lab.front.counters.handed, lab.log.count("handoff_lost")) == (2, 0)


@pytest.mark.parametrize("how", ["given back", "read back"])
async def test_what_comes_back_without_its_socket_is_counted_no_more(lab: Lab, how: str) -> None:
    child = await met(lab)
    client = await lab.connects()
    packet_entry, voice = await child.takes()
    if how == "given back":
        child.says(back_message([packet_entry.raw]))
    else:
        giver_to(lab, child).returns.came_back(decode_entries(packet_entry.raw), [])
    await lab.until(lambda: lab.front.counters.connections == 0)
    assert (lab.front.counters.handed, lab.front.counters.errors, host_load(lab)) == (0, 1, (0, 0, 0))
    assert lab.plane.load().in_flight == 0
    assert lab.log.events[-1][0] == "connection_dropped"
    voice.stream.socket.close()
    await client.hears_end()


async def test_one_that_cannot_be_placed_is_dropped_and_costs_no_other(lab: Lab) -> None:
    await lab.serves(l4(await lab.endpoint()))
    front, back = lab.front, []
    (host,) = front.registry.hosts

    def fails_once(each: Waiting, passes_over: bool) -> None:
        back.append(each)
        if len(back) == 1:
            raise ValueError("of the test")

    given, queue, pairs = Given(front), SharedQueue(), [socket.socketpair() for _ in range(2)]
    for ours, _ in pairs:
        caller = Caller(("192.0.2.7", 4711), front.counters.tallies.outside, 5.0)
        front.counters.connections += 1
        given.begin(Waiting(ours.fileno(), caller, host.begin_connection(5.0, caller.tally), ()))
    entries = decode_entries(b"".join(encode_entry(number, ("192.0.2.7", 4711), 5.0, b"") for number in range(2)))
    Returns(front, host, queue, given, fails_once).came_back(entries, [ours.detach() for ours, _ in pairs])
    assert (host.in_flight, front.counters.connections, front.counters.handed, len(back)) == (0, 1, 0, 2)
    assert lab.plane.errors.counts["connection"] == 1
    lab.log.events.clear()
    queue.close(lab.plane.reactor)
    front.drop(back[1].client, back[1].caller)
    for _, theirs in pairs:
        with trio.fail_after(DEADLINE_S):
            await trio.lowlevel.wait_readable(theirs)
        theirs.close()


async def test_sockets_that_nothing_is_said_of_are_closed(lab: Lab) -> None:
    child = await met(lab)
    before = open_descriptors()
    one, another = socket.socketpair()
    child.says(back_message([]), one.fileno(), another.fileno())
    one.close()
    with trio.fail_after(DEADLINE_S):
        await trio.lowlevel.wait_readable(another)
    assert another.recv(1) == b""
    another.close()
    assert open_descriptors() == before


async def test_messages_are_taken_back_one_in_a_turn(lab: Lab) -> None:
    """So that what is in one is placed before the next one takes descriptors."""
    other = await lab.endpoint()
    child, clients = await handed(lab, other, 3)
    returns = giver_to(lab, child).returns
    returns.begin(0)
    for left in (2, 1, 0):
        returns.on_turn()
        assert returns.unread == left
    await served(lab, other, clients)


def test_all_steps_are_carried_out_whatever_fails() -> None:
    reported: list[BaseException] = []
    reactor, done = Reactor(reported.append), []

    def fails_once() -> None:
        done.append("fails")
        if done.count("fails") == 1:
            raise ValueError

    def fails() -> None:
        raise OSError

    carry_out(reactor, fails_once, fails, lambda: done.append("last"))
    assert done == ["fails", "fails", "last"]
    assert [type(error) for error in reported] == [ValueError, OSError, OSError]
    reactor.dispose()
