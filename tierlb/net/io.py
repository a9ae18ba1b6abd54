"""System calls on non-blocking sockets: in C where the module was built, else in Python (`io_twin`)."""

from typing import Final

from tierlb.net.io_twin import AT_RISK, HERE, SPEAKS_FIRST

try:
    from tierlb.net._io import accept4, copy, recv, recvmmsg, send, sendmmsg, shutdown, start_connect

    in_c = True
except ImportError:
    from tierlb.net.io_twin import accept4, copy, recv, recvmmsg, send, sendmmsg, shutdown, start_connect

    in_c = False

IN_C: Final = in_c

__all__ = [
    "AT_RISK",
    "HERE",
    "IN_C",
    "SPEAKS_FIRST",
    "accept4",
    "copy",
    "recv",
    "recvmmsg",
    "send",
    "sendmmsg",
    "shutdown",
    "start_connect",
]
