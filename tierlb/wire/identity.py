"""Fields with which proxies pass on the identity of a client and its original request: used from trusted peers only.

From any other peer they are dropped, because applications would believe them to come from the proxy. That includes
`X-Original-URL` and `X-Rewrite-URL`, from which some frameworks take the path, past any rule for paths.

Left out: fields of one provider (`CF-Connecting-IP`, `True-Client-IP`), which applications read on purpose and which
the provider itself protects.
"""

from typing import Final

PREFIXES: Final = (b"x-forwarded", b"x-original-")
NAMES: Final = frozenset({b"forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-rewrite-url"})


def is_identity(name: bytes) -> bool:
    """Whether the field with this lower-case name is one of them."""
    return name in NAMES or name.startswith(PREFIXES)
