"""How nodes of one cluster know each other on the data path: a name and a key in the PROXY header.

The key keeps strangers on the same host or network from speaking as a parent; it is derived from the join token and
never the token itself. The name tells a child for whom it counts.
"""

import hmac

import attrs

from tierlb.wire.proxy_protocol import KEY, PARENT, ProxyHeader, encode_tlv


@attrs.frozen
class Kinship:
    """This node's name and its cluster's key; `credentials` are the TLVs that say both to a child."""

    name: str
    key: bytes = attrs.field(repr=False)
    credentials: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "credentials", encode_tlv(PARENT, self.name.encode()) + encode_tlv(KEY, self.key))

    def parent(self, header: ProxyHeader) -> str | None:
        """The name of the parent that sent the header, or None if it does not know the key."""
        if not hmac.compare_digest(header.tlvs.get(KEY, b""), self.key):
            return None
        return header.tlvs.get(PARENT, b"").decode("latin-1")
