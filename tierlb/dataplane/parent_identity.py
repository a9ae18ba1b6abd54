"""How a parent identifies itself to a child on the data path: by a name and a key in the PROXY header.

The key keeps strangers on the same host or network from posing as a parent. It is derived from the cluster's secret,
and the controller sends it to nodes only. By the name the child counts what comes for that parent.
"""

import hmac

import attrs

from tierlb.model.snapshot import process_name
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, PROCESS, VIA, ProxyHeader, encode_tlv


@attrs.define
class ParentIdentity:
    """What this node shows as a parent and demands of its parents. `credentials` are the TLVs that it shows. Without a
    key no peer is a parent."""

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
        """The name of the parent that sent the header, or None if the header lacks the key."""
        if not self.key or not hmac.compare_digest(header.tlvs.get(DATA_KEY_TLV, b""), self.key):
            return None
        return header.tlvs.get(PARENT, b"").decode("latin-1")


def process_of(parent: str, header: ProxyHeader) -> str:
    """Which process of the parent it was, as a snapshot names it."""
    return process_name(parent, header.tlvs.get(PROCESS, b"").decode("latin-1"))


def processes_of(parent: str, header: ProxyHeader) -> tuple[str, ...]:
    """All processes that the connection passed above, the nearest parent's first."""
    above = header.tlvs.get(VIA, b"").decode("latin-1")
    return (process_of(parent, header), *(above.split("\n") if above else ()))
