"""How nodes of one cluster know each other on the data path: a name and a key in the PROXY header.

The key keeps strangers on the same host or network from speaking as a parent; it is derived from the cluster's secret,
and the controller tells it to nodes alone. The name tells a child for whom it counts.
"""

import hmac

import attrs

from tierlb.model.snapshot import process_name
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, PROCESS, VIA, ProxyHeader, encode_tlv


@attrs.define
class Kinship:
    """This node's name, its cluster's key and its process; `credentials` are the TLVs that say all to a child. Without
    a key no peer is a parent."""

    name: str
    key: bytes = attrs.field(repr=False)
    boot_id: str = ""
    credentials: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.rekey(self.key)

    def rekey(self, key: bytes) -> None:
        """Show this one from now on, and demand it."""
        self.key = key
        tlvs = ((PARENT, self.name.encode()), (DATA_KEY_TLV, key), (PROCESS, self.boot_id.encode()))
        self.credentials = b"".join(encode_tlv(kind, value) for kind, value in tlvs)

    def parent(self, header: ProxyHeader) -> str | None:
        """The name of the parent that sent the header, or None if it does not know the key."""
        if not self.key or not hmac.compare_digest(header.tlvs.get(DATA_KEY_TLV, b""), self.key):
            return None
        return header.tlvs.get(PARENT, b"").decode("latin-1")


def process_of(parent: str, header: ProxyHeader) -> str:
    """Which process of the parent it was, as a snapshot names it."""
    return process_name(parent, header.tlvs.get(PROCESS, b"").decode("latin-1"))


def way_of(parent: str, header: ProxyHeader) -> tuple[str, ...]:
    """All processes through which the connection came, this parent's first."""
    above = header.tlvs.get(VIA, b"").decode("latin-1")
    return (process_of(parent, header), *(above.split("\n") if above else ()))
