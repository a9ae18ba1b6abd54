"""Fields in which proxies say who a client is and what it asked for: believed from a trusted peer only.

From any other peer they are dropped, because applications take them for the word of the proxy in front. That holds for
`X-Original-URL` and `X-Rewrite-URL` as well, from which some frameworks take the path, past any rule for paths.

Left out: fields of one provider (`CF-Connecting-IP`, `True-Client-IP`), which applications read on purpose and which
the provider itself guards.
"""

PREFIXES = (b"x-forwarded", b"x-original-")
NAMES = frozenset({b"forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-rewrite-url"})


def is_identity(name: bytes) -> bool:
    """Whether the field with this lower-case name is one of them."""
    return name in NAMES or name.startswith(PREFIXES)
