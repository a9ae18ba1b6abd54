"""Who is a parent: the name counts only beside the cluster's key."""

import pytest

from tierlb.dataplane.parent_identity import ParentIdentity, process_of, processes_of
from tierlb.wire.proxy_protocol import (
    DATA_KEY_TLV,
    PARENT,
    VIA,
    ProxyHeader,
    encode_local,
    encode_tlv,
    encode_v2,
    parse_v2,
)

OURS = ParentIdentity("edge-1", b"our key")


def heard(data: bytes) -> ProxyHeader:
    header = parse_v2(data)
    assert header is not None
    return header


@pytest.mark.parametrize("header", [encode_local, lambda tlvs: encode_v2(("192.0.2.7", 1), ("192.0.2.1", 80), tlvs)])
def test_a_child_of_the_same_cluster_knows_its_parent(header: type) -> None:
    assert ParentIdentity("web-1", b"our key").parent(heard(header(OURS.credentials))) == "edge-1"


STRANGERS = {
    "another key": encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"a key"),
    "a part of the key": encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"our"),
    "the key and more": encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"our key!"),
    "an empty key": encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b""),
    "a name alone": encode_tlv(PARENT, b"edge-1"),
    "nothing": b"",
    "a wrong key after the right one": OURS.credentials + encode_tlv(DATA_KEY_TLV, b"a key"),
}


@pytest.mark.parametrize("tlvs", STRANGERS.values(), ids=STRANGERS)
def test_nobody_else_is_a_parent(tlvs: bytes) -> None:
    assert OURS.parent(heard(encode_local(tlvs))) is None


def test_a_child_can_tell_a_parents_processes_apart() -> None:
    processes = [ParentIdentity("edge-1", b"our key", boot_id).credentials for boot_id in ("b1", "b2")]
    assert [process_of("edge-1", heard(encode_local(tlvs))) for tlvs in processes] == ["edge-1/b1", "edge-1/b2"]
    assert process_of("edge-1", heard(encode_local(b""))) == "edge-1/"


@pytest.mark.parametrize(
    ("above", "way"),
    [(b"", ("mid-1/b2",)), (b"edge-1/b1", ("mid-1/b2", "edge-1/b1")), (b"a/1\nb/2", ("mid-1/b2", "a/1", "b/2"))],
)
def test_the_way_begins_with_the_nearest_parent(above: bytes, way: tuple[str, ...]) -> None:
    tlvs = ParentIdentity("mid-1", b"our key", "b2").credentials + encode_tlv(VIA, above)
    assert processes_of("mid-1", heard(encode_local(tlvs))) == way


def test_a_parent_without_a_name_is_a_parent_all_the_same() -> None:
    assert OURS.parent(heard(encode_local(encode_tlv(DATA_KEY_TLV, b"our key")))) == ""


def test_a_name_of_odd_bytes_harms_nobody() -> None:
    tlvs = encode_tlv(PARENT, b"\xff\x00\n") + encode_tlv(DATA_KEY_TLV, b"our key")
    assert OURS.parent(heard(encode_local(tlvs))) == "\xff\x00\n"


def test_the_key_is_not_shown() -> None:
    assert "our key" not in repr(OURS)
