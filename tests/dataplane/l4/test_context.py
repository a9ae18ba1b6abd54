"""A connection counts as open from its arrival until it is dropped or its relay is over."""

import socket
from typing import Any

import trio

from tests.dataplane.conftest import DEADLINE_S, Lab, l4
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.telemetry.tally import Tally

ADDRESS = ("192.0.2.7", 4711)


def caller() -> Caller:
    return Caller(ADDRESS, Tally(), 0.0)


async def front_of(lab: Lab) -> L4Context:
    await lab.serves(l4(await lab.endpoint()))
    front: Any = lab.front
    assert isinstance(front, L4Context)
    return front


async def test_a_connection_is_dropped_once(lab: Lab) -> None:
    front, (ours, theirs) = await front_of(lab), socket.socketpair()
    made = caller()
    front.counters.connections += 1
    client = ours.detach()
    front.give_up(client, made, (), "no host accepted it")
    front.drop(client, made)
    assert (front.counters.connections, front.counters.errors, made.settled) == (0, 1, True)
    assert lab.log.count("connection_dropped") == 1
    with trio.fail_after(DEADLINE_S):
        await trio.lowlevel.wait_readable(theirs)
    assert theirs.recv(1) == b""
    theirs.close()


async def test_what_this_node_lacks_is_not_logged_for_each_connection(lab: Lab) -> None:
    front, (ours, theirs) = await front_of(lab), socket.socketpair()
    front.counters.connections += 1
    front.give_up(ours.detach(), caller(), (), "")
    assert (front.counters.errors, lab.log.count("connection_dropped")) == (1, 0)
    theirs.close()
