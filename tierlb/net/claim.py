"""A name that one process of a network namespace holds at a time, and that is free as soon as the process is gone.

It is an abstract unix socket. Abstract names belong to the network namespace, as the rules of nftables do. So a name
that goes with a table is held exactly while the process lives that uses the table, in whatever container. A process
that is killed leaves nothing behind.
"""

import errno
import socket


class Claim:
    """A name that is held. `close` frees it."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self._sock = sock

    def close(self) -> None:
        self._sock.close()


def claim(name: str) -> Claim | None:
    """Hold the name; None while another process does. Raises OSError where that cannot be found out."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(f"\0{name}")
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return Claim(name, sock)
