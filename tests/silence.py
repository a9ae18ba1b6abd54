"""Two hosts with connections between them, of which one falls silent: the power is gone, nobody says goodbye."""

import contextlib
import socket
from collections.abc import Iterator

import attrs

from tests.hosts import Host, running_network
from tierlb.model.address import Address
from tierlb.net.dial import dial


@attrs.define
class Silence:
    """`here` is where all near ends are. `mute` is to fall silent, `live` goes on."""

    here: Host
    mute: Host
    live: Host
    ends: list[socket.socket] = attrs.field(factory=list)

    def connected(self, there: Host) -> tuple[socket.socket, socket.socket]:
        """A connection as it is made to a host, and its far end."""
        with there.inside(), socket.socket() as listening:
            listening.bind((there.address, 0))
            listening.listen()
            with self.here.inside():
                near = socket.socket(fileno=dial(Address(*listening.getsockname()))[0])
            far, _ = listening.accept()
        far.setblocking(False)
        self.ends += (near, far)
        return near, far


@contextlib.contextmanager
def hosts() -> Iterator[Silence]:
    """Skips the test where there can be none."""
    with running_network() as network:
        silence = Silence(network.make("here", 2), network.make("mute", 3), network.make("live", 4))
        try:
            yield silence
        finally:
            for end in silence.ends:
                end.close()


def stuff(sock: socket.socket) -> int:
    """Send until the kernel takes no more; how many bytes that was."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(1 << 16))
    return sent
