"""How nodes of one cluster know each other on the data path: a name and a key in the PROXY header.

The key keeps strangers on the same host or network from speaking as a parent; it is derived from the join token and
never the token itself. The name tells a child for whom it counts.
"""

import hmac

import attrs

from tierlb.model.snapshot import process_name
from tierlb.wire.proxy_protocol import KEY, PARENT, PROCESS, WAY, ProxyHeader, encode_tlv


@attrs.frozen
class Kinship:
    """This node's name, its cluster's key and its process; `credentials` are the TLVs that say all to a child."""

    name: str
    key: bytes = attrs.field(repr=False)
    boot_id: str = ""
    credentials: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        tlvs = ((PARENT, self.name.encode()), (KEY, self.key), (PROCESS, self.boot_id.encode()))
        object.__setattr__(self, "credentials", b"".join(encode_tlv(kind, value) for kind, value in tlvs))

    def parent(self, header: ProxyHeader) -> str | None:
        """The name of the parent that sent the header, or None if it does not know the key."""
        if not hmac.compare_digest(header.tlvs.get(KEY, b""), self.key):
            return None
        return header.tlvs.get(PARENT, b"").decode("latin-1")


def process_of(parent: str, header: ProxyHeader) -> str:
    """Which process of the parent it was, as a snapshot names it."""
    return process_name(parent, header.tlvs.get(PROCESS, b"").decode("latin-1"))


def way_of(parent: str, header: ProxyHeader) -> tuple[str, ...]:
    """All processes through which the connection came, this parent's first."""
    above = header.tlvs.get(WAY, b"").decode("latin-1")
    return (process_of(parent, header), *(above.split("\n") if above else ()))
