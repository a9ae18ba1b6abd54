"""A connection counts as open from its arrival until it is dropped or its relay is over, and a child gets the count."""

import socket
from typing import Any

import pytest

from tests.dataplane.conftest import Lab, l4
from tierlb.dataplane.l4.context import MOST_EXPLAINED_BYTES, Caller, L4Context
from tierlb.telemetry.tally import Tally
from tierlb.wire.proxy_protocol import EXPLAINED, VIA, encode_tlv

ADDRESS = ("192.0.2.7", 4711)
LINE = b"x" * 1000 + b"\n"


def caller(explained: bytes = b"", processes: bytes = b"") -> Caller:
    made = Caller(ADDRESS, Tally(), 0.0)
    made.explained, made.processes = explained, processes
    return made


TLVS = [
    (caller(), b""),
    (caller(processes=b"edge-1/b1\ntop-1/b0"), encode_tlv(VIA, b"edge-1/b1\ntop-1/b0")),
    (caller(explained=b"line\n"), encode_tlv(EXPLAINED, b"line")),
    (caller(explained=LINE * 9), encode_tlv(EXPLAINED, (LINE * (MOST_EXPLAINED_BYTES // len(LINE)))[:-1])),
    (caller(b"line\n", b"a/1"), encode_tlv(VIA, b"a/1") + encode_tlv(EXPLAINED, b"line")),
]


@pytest.mark.parametrize(("made", "tlvs"), TLVS)
def test_what_a_child_is_told_of_a_caller(made: Caller, tlvs: bytes) -> None:
    assert made.tlvs() == tlvs


async def front_of(lab: Lab) -> L4Context:
    await lab.serves(l4(await lab.endpoint()))
    front: Any = lab.front
    assert isinstance(front, L4Context)
    return front


async def test_a_connection_is_dropped_once(lab: Lab) -> None:
    front, (ours, theirs) = await front_of(lab), socket.socketpair()
    made = caller()
    front.counters.connections += 1
    front.give_up(ours, made, (), "no host accepted it")
    front.drop(ours, made)
    assert (front.counters.connections, front.counters.errors, made.settled) == (0, 1, True)
    assert lab.log.count("connection_dropped") == 1
    assert theirs.recv(1) == b""
    theirs.close()


async def test_what_this_node_lacks_is_not_logged_for_each_connection(lab: Lab) -> None:
    front, (ours, theirs) = await front_of(lab), socket.socketpair()
    front.counters.connections += 1
    front.give_up(ours, caller(), (), "")
    assert (front.counters.errors, lab.log.count("connection_dropped")) == (1, 0)
    theirs.close()
