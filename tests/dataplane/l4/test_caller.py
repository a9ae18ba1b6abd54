"""What a child is told of a client's connection."""

import pytest

from tierlb.dataplane.l4.caller import MOST_EXPLAINED_BYTES, Caller
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
