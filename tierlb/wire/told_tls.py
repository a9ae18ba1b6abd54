"""What an l4 node that ends the TLS of a client tells nodes below of it: TLVs of the PROXY header, or of the message
with which a socket is handed over.

The server name and the protocol have the types that the PROXY protocol gives them (AUTHORITY, ALPN); the client's
certificate, as endpoints get it, and the one that it was shown have types of their own. They are believed from nodes
of the cluster alone, as the key in the same header proves.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from tierlb.wire.announcement import ALPN_TLV, AUTHORITY
from tierlb.wire.proxy_protocol import encode_tlv, read_tlvs
from tierlb.wire.shown_certificate import ShownCertificate, read_shown

CLIENT_CERTIFICATE: Final = 0xEB
"""TLV between nodes: the value of X-Forwarded-Client-Cert."""
SHOWN: Final = 0xEC
"""TLV between nodes: the certificate that the client was shown (`ShownCertificate.encoded`)."""
TOLD: Final = (ALPN_TLV, AUTHORITY, CLIENT_CERTIFICATE, SHOWN)
MOST_CERTIFICATE_BYTES: Final = 1024
"""A header has room for it beside the rest. Of a longer value the part before its names is told: hash and subject."""


@attrs.frozen
class ToldTls:
    """`certificate`: the value of X-Forwarded-Client-Cert, empty if the client showed none. `shown`: None where the
    client's name decided nothing, or that is not known."""

    certificate: bytes = b""
    shown: ShownCertificate | None = None


NOTHING_TOLD: Final = ToldTls()


def told_tlvs(server_name: str, protocol: str | None, certificate: bytes, shown: bytes) -> bytes:
    """The TLVs, encoded; those of what is not there are left out."""
    values = {
        ALPN_TLV: (protocol or "").encode("latin-1", "replace"),
        AUTHORITY: server_name.encode("latin-1", "replace"),
        CLIENT_CERTIFICATE: _shortened(certificate),
        SHOWN: shown,
    }
    return b"".join(encode_tlv(kind, value) for kind, value in values.items() if value)


def passed_on(tlvs: Mapping[int, bytes]) -> bytes:
    """Those of a parent's TLVs, encoded, that nodes below are to get as well."""
    return b"".join(encode_tlv(kind, tlvs[kind]) for kind in TOLD if kind in tlvs) if tlvs else b""


def read_told(encoded: bytes) -> ToldTls:
    """What was told."""
    if not encoded:
        return NOTHING_TOLD
    tlvs = read_tlvs(encoded)
    return ToldTls(tlvs.get(CLIENT_CERTIFICATE, b""), read_shown(tlvs.get(SHOWN, b"")))


def _shortened(certificate: bytes) -> bytes:
    """Without its names, and then without its subject, where it is too long."""
    for key in (b";URI=", b";DNS=", b";Subject="):
        if len(certificate) > MOST_CERTIFICATE_BYTES:
            certificate = certificate.partition(key)[0]
    return certificate
