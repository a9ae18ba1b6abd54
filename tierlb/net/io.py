"""System calls on non-blocking sockets: in C where the module was built, else in Python (`io_twin`)."""

from typing import Final

try:
    from tierlb.net._io import accept4, copy, recv, recvmmsg, send, sendmmsg, shutdown

    in_c = True
except ImportError:
    from tierlb.net.io_twin import accept4, copy, recv, recvmmsg, send, sendmmsg, shutdown

    in_c = False

IN_C: Final = in_c

__all__ = ["IN_C", "accept4", "copy", "recv", "recvmmsg", "send", "sendmmsg", "shutdown"]
