"""What nodes below are told of a client's TLS."""

import pytest

from tierlb.wire.announcement import ALPN_TLV, AUTHORITY, KEPT
from tierlb.wire.proxy_protocol import encode_tlv, read_tlvs
from tierlb.wire.shown_certificate import ShownCertificate
from tierlb.wire.told_tls import (
    CLIENT_CERTIFICATE,
    MOST_CERTIFICATE_BYTES,
    NOTHING_TOLD,
    SHOWN,
    passed_on,
    read_told,
    told_tlvs,
)

LONG = b"x" * MOST_CERTIFICATE_BYTES


def test_what_is_told_is_read_and_passed_on_as_it_was() -> None:
    shown = ShownCertificate({"a.example"}, {"b.example"}, is_default=False)
    tlvs = told_tlvs("a.example", "h2", b"Hash=1", shown.encoded())
    assert {kind: read_tlvs(tlvs)[kind] for kind in (ALPN_TLV, AUTHORITY)} == {ALPN_TLV: b"h2", AUTHORITY: b"a.example"}
    assert passed_on(read_tlvs(tlvs + encode_tlv(0xE1, b"the key"))) == tlvs
    told = read_told(tlvs)
    assert told.certificate == b"Hash=1"
    assert told.shown is not None
    assert told.shown.own == {"a.example"}


def test_nothing_is_told_where_there_is_nothing() -> None:
    assert told_tlvs("", None, b"", b"") == passed_on({}) == b""
    assert read_told(b"") == NOTHING_TOLD


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        (b'Hash=1;Subject="CN=a";DNS=b', b'Hash=1;Subject="CN=a";DNS=b'),
        (b'Hash=1;Subject="CN=a";URI=c;DNS=' + LONG, b'Hash=1;Subject="CN=a"'),
        (b'Hash=1;Subject="CN=a";DNS=' + LONG, b'Hash=1;Subject="CN=a"'),
        (b'Hash=1;Subject="CN=' + LONG + b'"', b"Hash=1"),
    ],
)
def test_a_certificate_with_much_in_it_is_told_by_what_says_most(certificate: bytes, told: bytes) -> None:
    assert read_told(told_tlvs("", None, certificate, b"")).certificate == told


def test_balancers_outside_of_the_cluster_are_not_asked_for_what_nodes_tell() -> None:
    assert not {CLIENT_CERTIFICATE, SHOWN} & {*KEPT}
