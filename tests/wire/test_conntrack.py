"""Tracked connections as the kernel dumps them (Linux 6.18, captured)."""

import ipaddress
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.address import Address
from tierlb.wire.conntrack import (
    DELETE,
    MOST_OPENING,
    SEEN_REPLY,
    SYN_SENT,
    Census,
    ConnectionPhase,
    Flow,
    ask_connections,
    deletions,
)
from tierlb.wire.netlink import IPV4, IPV6, attribute, attributes, messages, request

pytestmark = pytest.mark.skipif(
    sys.byteorder == "big", reason="NOT TESTED: the capture is from a little-endian machine"
)

LABEL = 93
PLAIN = bytes.fromhex(
    "d400000000012200000000002d050000020000003400018014000180080001000a4d0002080002000a4d00011c00028005000100"
    "0600000006000200842c00000600030001bb00003400028014000180080001000a4d0001080002000a4d00021c00028005000100"
    "060000000600020001bb000006000300842c0000080003000000018e080008000000000008000c00ea42343208000b0000000001"
    "080007000006977f300004802c0001800500010003000000050002000a000000050003000a000000060004002300000006000500"
    "23000000"
)
"""A connection to the node itself."""
FORWARDED = bytes.fromhex(
    "e800000000012200000000002d050000020000003400018014000180080001000a4d0002080002000a4d00011c00028005000100"
    "0600000006000200841e00000600030001bb00003400028014000180080001000a4d0102080002000a4d00021c00028005000100"
    "06000000060002000050000006000300841e000008000300000001ae080008000000000008000c0005143a1908000b0000000001"
    "080007000006977f300004802c0001800500010003000000050002000a000000050003000a000000060004002300000006000500"
    "230000001400160000000000000000000000002000000000"
)
FORWARDED_V6 = bytes.fromhex(
    "1801000000012200000000002d0500000a0000004c0001802c00018014000300fd77000000000000000000000000000214000400"
    "fd7700000000000000000000000000011c000280050001000600000006000200d35000000600030001bb00004c0002802c000180"
    "14000300fd77000000000001000000000000000214000400fd7700000000000000000000000000021c0002800500010006000000"
    "060002000050000006000300d350000008000300000001ae080008000000000008000c009a7a2a1308000b000000000108000700"
    "0006977f300004802c0001800500010003000000050002000a000000050003000a00000006000400230000000600050023000000"
    "1400160000000000000000000000002000000000"
)
FLOW = Flow(6, Address("10.77.0.1", 443), Address("10.77.1.2", 80), ConnectionPhase.OPEN)
FLOW_V6 = Flow(6, Address("fd77::1", 443), Address("fd77:0:0:1::2", 80), ConnectionPhase.OPEN)


def entry(
    source: str, port: int, host: str, *, state: int = 3, label: int = LABEL, protocol: int = 6, status: int = 0x1AE
) -> bytes:
    """A message as FORWARDED is one."""

    def pair(kind: int, one: str, other: str, ports: tuple[int, int]) -> bytes:
        ips = [ipaddress.ip_address(each).packed for each in (one, other)]
        first = 1 if len(ips[0]) == 4 else 3
        addresses = attribute(first, ips[0]) + attribute(first + 1, ips[1])
        numbers = attribute(1, bytes([protocol])) + b"".join(
            attribute(2 + index, each.to_bytes(2, "big")) for index, each in enumerate(ports)
        )
        return attribute(kind, attribute(1, addresses, nested=True) + attribute(2, numbers, nested=True), nested=True)

    family = IPV6 if ":" in source else IPV4
    edge = "fd77::1" if ":" in source else "10.77.0.1"
    body = (
        pair(1, source, edge, (port, 443)) + pair(2, host, source, (80, port)) + attribute(3, struct.pack(">I", status))
    )
    if protocol == 6:
        tcp = attribute(1, bytes([state])) + attribute(2, b"\n")
        body += attribute(4, attribute(1, tcp, nested=True), nested=True)
    body += attribute(22, (1 << label).to_bytes(16, "little"))
    return request(1, 0, family, body)


def census(*portions: bytes, family: int = IPV4, label: int = LABEL) -> Census:
    found = Census(family, label)
    for portion in portions:
        found.take(portion)
    return found


def test_what_the_kernel_says_is_counted() -> None:
    assert census(PLAIN + FORWARDED, FORWARDED).flows() == {FLOW: 2}
    assert census(FORWARDED_V6, family=IPV6).flows() == {FLOW_V6: 1}


def test_the_entries_of_these_tests_are_as_the_kernel_s() -> None:
    assert census(entry("10.77.0.2", 0x841E, "10.77.1.2")).flows() == {FLOW: 1}
    assert census(entry("fd77::2", 0xD350, "fd77:0:0:1::2"), family=IPV6).flows() == {FLOW_V6: 1}


@pytest.mark.parametrize("label", [0, 1, 63, 64, 92, 94, 127])
def test_only_the_own_label_counts(label: int) -> None:
    assert census(FORWARDED, label=label).flows() == {}
    assert census(entry("10.77.0.2", 1, "10.77.1.2", label=label), label=label).flows() == {FLOW: 1}


OPENING, OPEN, OVER = ConnectionPhase


@pytest.mark.parametrize(
    ("state", "phase"),
    [(1, OPENING), (2, OPEN), (3, OPEN), (4, OPEN), (5, OPEN), (6, OVER), (7, OVER), (8, OVER)],
)
def test_phases(state: int, phase: ConnectionPhase) -> None:
    (flow,) = census(entry("10.77.0.2", 1, "10.77.1.2", state=state)).flows()
    assert flow.phase is phase


def test_udp_has_no_states() -> None:
    (flow,) = census(entry("10.77.0.2", 1, "10.77.1.2", protocol=17)).flows()
    assert (flow.protocol, flow.phase) == (17, ConnectionPhase.OPEN)
    waiting = census(entry("10.77.0.2", 1, "10.77.1.2", protocol=17, status=0x1AE & ~SEEN_REPLY))
    assert [flow.phase for flow in waiting.flows()] == [ConnectionPhase.OPENING]
    assert len(waiting.opening()) == 1


def test_connections_without_an_answer_are_told_apart_and_bounded() -> None:
    waiting = [entry("10.77.0.2", port, "10.77.1.2", state=SYN_SENT) for port in range(MOST_OPENING + 5)]
    opening = census(*waiting).opening()
    assert len(opening) == MOST_OPENING
    assert {flow.host for flow in opening.values()} == {FLOW.host}
    assert census(waiting[3]).opening().keys() <= opening.keys()
    assert census(FORWARDED).opening() == {}


def test_deletions_name_what_is_to_go_and_nothing_else() -> None:
    portion = FORWARDED + PLAIN + entry("10.77.0.2", 5, "10.77.2.2")
    text = deletions(portion, IPV4, LABEL, lambda flow: flow == FLOW)
    ((kind, start, end),) = messages(text)
    assert kind == 1 << 8 | DELETE
    (sent,) = attributes(text, start, end).values()
    assert sent == attributes(FORWARDED, 20, len(FORWARDED))[1]


def test_a_question_is_one_message() -> None:
    question = ask_connections(IPV4, "tcp", 443)
    ((kind, start, end),) = messages(question)
    assert (kind, end) == (1 << 8 | 1, len(question))
    assert set(attributes(question, start, end)) == {1, 25}


@given(st.binary(max_size=300), st.integers(0, 232))
def test_any_bytes_are_counted_without_an_error(data: bytes, cut: int) -> None:
    for portion in (data, FORWARDED[:cut] + data, FORWARDED[:cut] + bytes(20) + FORWARDED[cut:]):
        census(portion).flows()
        deletions(portion, IPV4, LABEL, lambda flow: True)
