"""A machine that lacks something for connects: `dial` with errors of its own, or with connections that reach nobody."""

import errno
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from tests.dataplane.conftest import FakeEndpoint, Lab
from tierlb.model.address import Address
from tierlb.net import io_twin
from tierlb.net.dial import Dial, dial

IN_SOCKET = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What socket(2) raises; connect(2) returns the others."""
LACKS = (*IN_SOCKET, errno.EADDRNOTAVAIL, errno.EAGAIN)


def lacking(lab: Lab, code: int, towards: Iterable[FakeEndpoint]) -> None:
    """Connects to these endpoints fail with `code`, which is this machine's fault."""
    addresses = {endpoint.address for endpoint in towards}

    def failing(address: Address, **how: Any) -> tuple[int, int]:
        if address not in addresses:
            return dial(address, **how)
        if code in IN_SOCKET:
            raise OSError(code, "lack")
        return -1, code

    lab.front.registry.context.dial = failing


def reaching_itself(lab: Lab, towards: FakeEndpoint) -> None:
    """A connect to this endpoint, whose port is nobody's, reaches itself."""
    lab.front.registry.context.dial = looping_dial(towards)


def looping_dial(towards: FakeEndpoint) -> Dial:
    """A `dial` that reaches itself there."""

    class Bound(socket.socket):
        """As if the kernel chose the port that is connected to."""

        def connect_ex(self, to: Any) -> int:
            if self.getsockname()[1] == 0:
                self.bind(to)
            return super().connect_ex(to)

    def looping(address: Address, **how: Any) -> tuple[int, int]:
        with pytest.MonkeyPatch.context() as patched:
            if address == towards.address:
                patched.setattr(socket, "socket", Bound)
            return dial(address, connect=io_twin.start_connect, **how)

    return looping
