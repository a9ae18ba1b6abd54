"""Which of a server's certificates a client got that asked for a name, and for which hosts that is the right one.

The node that ended the client's TLS knows all of its certificates. Where that is an l4 node, the l7 node below answers
the requests, and learns from the PROXY header as much of this as it needs (`encoded`). A request for a host for which
the client would have got another certificate is misdirected (RFC 9110 §15.5.20).
"""

from collections.abc import Set
from typing import Final

import attrs

from tierlb.wire.client_hello import normal_server_name

MOST_SHOWN_BYTES: Final = 1024
"""What a header has room for: the names of some thirty certificates. Of more, only those of the shown one are told; if
these are too many as well, or if it is the default one, nothing is, and no request is taken for misdirected."""


@attrs.frozen(eq=False)
class ShownCertificate:
    """`own`: the names that lead to it, exact ones and wildcards; `others`: those that lead to other certificates.
    `is_default`: it is for all names that lead to none."""

    own: Set[str]
    others: Set[str]
    is_default: bool

    def serves(self, host_name: bytes) -> bool:
        """Whether a client that asks for this host would get the same one. A request without a host is for any."""
        if not host_name:
            return True
        wanted = normal_server_name(host_name.decode("latin-1"))
        for name in (wanted, "*." + wanted.partition(".")[2]):
            if name in self.own:
                return True
            if name in self.others:
                return False
        return self.is_default

    def encoded(self) -> bytes:
        """For a node below; empty where there is no room for enough of it."""
        own, others = " ".join(sorted(self.own)), " ".join(sorted(self.others))
        whole = f"{int(self.is_default)}\n{own}\n{others}".encode("latin-1", "replace")
        if len(whole) <= MOST_SHOWN_BYTES:
            return whole
        short = f"0\n{own}\n".encode("latin-1", "replace")
        return b"" if self.is_default or len(short) > MOST_SHOWN_BYTES else short


def read_shown(encoded: bytes) -> ShownCertificate | None:
    """The same, read; None where nothing was told."""
    parts = encoded.decode("latin-1").split("\n")
    if len(parts) != 3:
        return None
    return ShownCertificate(frozenset(parts[1].split()), frozenset(parts[2].split()), parts[0] == "1")
