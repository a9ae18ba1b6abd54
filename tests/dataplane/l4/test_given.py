"""The connections that a child was given: what is said of them, and how they end or come back."""

import os
import socket
from typing import Any

import pytest

from tests.dataplane.conftest import Lab, l4
from tierlb.dataplane.handoff.taker import Handed, Taker
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.given import ENDS_PER_TURN, Given, Waiting
from tierlb.wire.handoff import MAX_ENTRIES, decode_entries
from tierlb.wire.proxy_protocol import EXPLAINED, VIA

SOURCE = ("192.0.2.7", 4711)


async def front_of(lab: Lab) -> Any:
    await lab.serves(l4(await lab.endpoint()))
    return lab.front


def waiting(front: Any, client: int = -1, **options: Any) -> Waiting:
    (host,) = front.registry.hosts
    front.counters.connections += 1
    caller = Caller(SOURCE, front.counters.tallies.of("top-1"), 5.0)
    return Waiting(client, caller, host.begin_connection(5.0, caller.tally), (), **options)


async def test_a_message_holds_a_limited_number_and_says_who_they_are(lab: Lab) -> None:
    front = await front_of(lab)
    given = Given(front)
    given.number = 100
    each = waiting(front, is_last=True)
    each.caller.explained, each.caller.processes = b"line\n", b"top-1/a"
    batch, data = given.encoded([each] * (MAX_ENTRIES + 1))
    entries = decode_entries(data)
    assert batch == [each] * MAX_ENTRIES
    assert [entry.number for entry in entries] == list(range(100, 100 + MAX_ENTRIES))
    assert (entries[0].source, entries[0].arrived, entries[0].is_last) == (SOURCE, 5.0, True)
    assert entries[0].tlvs == {VIA: b"top-1/a", EXPLAINED: b"line"}


async def test_a_message_is_never_longer_than_can_be_read(lab: Lab) -> None:
    front = await front_of(lab)
    each = waiting(front)
    each.caller.processes = b"x" * 30_000
    batch, data = Given(front).encoded([each] * 5)
    assert len(batch) == 2
    assert len(decode_entries(data)) == 2


async def test_an_end_counts_once(lab: Lab) -> None:
    front = await front_of(lab)
    given, each = Given(front), waiting(front)
    given.begin(each)
    tally, host = each.caller.tally, each.ticket.host
    assert (tally.in_flight, tally.connections, tally.arrivals, front.counters.handed) == (1, 1, 1, 1)
    for _ in range(2):
        given.over(0)
    assert (tally.in_flight, tally.connections, tally.done, front.counters.handed) == (0, 0, 1, 0)
    assert (front.counters.connections, front.counters.ended, host.in_flight, host.done) == (0, 1, 0, 1)


async def test_what_comes_back_is_as_it_was_and_counts_as_one_item(lab: Lab) -> None:
    front = await front_of(lab)
    given, each = Given(front), waiting(front)
    control, parents_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parents_end.close()
    handed = Handed(Taker(lab.plane.listening.handoffs.takers, control), 7)
    each.tried, each.is_last = (each.ticket.host,), True
    each.caller.explained, each.caller.processes = b"line\n", b"top-1/a"
    each.caller.handed = handed
    _, data = given.encoded([each])
    given.begin(each)
    (entry,) = decode_entries(data)
    back = given.take_back(entry, each.client)
    assert back is not None
    caller = back.caller
    assert (caller.source, caller.began, caller.explained, caller.processes) == (SOURCE, 5.0, b"line\n", b"top-1/a")
    assert (caller.handed, caller.tally, back.tried) == (handed, each.caller.tally, each.tried)
    assert caller.had_last_try
    assert (front.counters.handed, front.counters.connections, len(given)) == (0, 1, 0)
    assert given.take_back(entry, each.client) is None
    given.begin(back)
    assert (caller.tally.arrivals, caller.tally.in_flight) == (1, 1)


async def test_what_comes_back_and_finds_no_host_is_counted_no_more(lab: Lab) -> None:
    front = await front_of(lab)
    given, each = Given(front), waiting(front, os.dup(0))
    _, data = given.encoded([each])
    given.begin(each)
    (entry,) = decode_entries(data)
    back = given.take_back(entry, each.client)
    assert back is not None
    back.ticket.give_back(6.0)
    front.drop(back.client, back.caller)
    tally = back.caller.tally
    assert (tally.in_flight, tally.connections, tally.done, front.counters.connections) == (0, 0, 0, 0)


async def test_what_is_lost_counts_as_an_error_and_no_more(lab: Lab) -> None:
    front = await front_of(lab)
    given, each = Given(front), waiting(front)
    given.begin(each)
    host = each.ticket.host
    for _ in range(2):
        given.lose(0)
    tally = each.caller.tally
    assert (tally.in_flight, tally.connections, tally.done, front.counters.handed) == (0, 0, 0, 0)
    assert (front.counters.connections, front.counters.errors, host.in_flight, host.done) == (0, 1, 0, 0)


async def test_those_from_a_number_on_are_lost_and_those_below_it_end(lab: Lab) -> None:
    front = await front_of(lab)
    given = Given(front)
    for _ in range(5):
        given.begin(waiting(front))
    assert not given.end_some(2)
    assert (front.counters.ended, len(given)) == (2, 3)
    assert given.lose_from(3) == 2
    assert (front.counters.errors, len(given)) == (2, 1)


@pytest.mark.parametrize("count", [1, ENDS_PER_TURN, 2 * ENDS_PER_TURN + 1])
async def test_the_ends_of_a_child_that_is_gone_are_counted_in_turns(lab: Lab, count: int) -> None:
    front = await front_of(lab)
    given = Given(front)
    for _ in range(count):
        given.begin(waiting(front))
    turns = 1
    while given.end_some(count):
        turns += 1
    assert (front.counters.handed, front.counters.ended) == (0, count)
    assert turns == -(-count // ENDS_PER_TURN)
