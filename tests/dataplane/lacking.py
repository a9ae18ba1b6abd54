"""A machine that lacks something for connects: `dial` with errors of its own, or with connections that reach nobody."""

import errno
import socket
from collections.abc import Iterable
from typing import Any

from tests.dataplane.conftest import FakeEndpoint, Lab
from tierlb.model.address import Address
from tierlb.net.stream import dial

IN_SOCKET = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What socket(2) raises; connect(2) returns the others."""
LACKS = (*IN_SOCKET, errno.EADDRNOTAVAIL, errno.EAGAIN)


def lacking(lab: Lab, code: int, towards: Iterable[FakeEndpoint]) -> None:
    """Connects to these endpoints fail with `code`, which is this machine's fault."""
    addresses = {endpoint.address for endpoint in towards}

    def failing(address: Address, **how: Any) -> tuple[socket.socket, int]:
        if address not in addresses:
            return dial(address, **how)
        if code in IN_SOCKET:
            raise OSError(code, "lack")
        return socket.socket(), code

    lab.front.registry.context.dial = failing


def reaching_itself(lab: Lab, towards: FakeEndpoint) -> None:
    """A connect to this endpoint, whose port is nobody's, reaches itself."""

    def looping(address: Address, **how: Any) -> tuple[socket.socket, int]:
        if address != towards.address:
            return dial(address, **how)
        sock = socket.socket()
        sock.bind(address.sockaddr)
        sock.connect(address.sockaddr)
        sock.setblocking(False)
        return sock, 0

    lab.front.registry.context.dial = looping
