"""Where parents on the same machine find this node: a unix socket in the meeting place, for each port for parents."""

from collections.abc import Iterable

from tierlb.dataplane.handoff.taker import Taker, Takers
from tierlb.model.address import Address
from tierlb.net.descriptors import EXHAUSTED
from tierlb.net.listeners import OUT_OF_DESCRIPTORS_S
from tierlb.net.meeting_place import MeetingPlace, check_peer
from tierlb.net.reactor import READ
from tierlb.net.wheel import NEVER, Timed

PARENTS_PER_EVENT = 16
MOST_TAKERS = 4096
"""More than any tier has nodes, and two processes of one are there at a time."""


def name_of(node: str, address: Address) -> str:
    """The name of a node's socket: where its port for parents is tells one process of it from the next."""
    return f"{node}:{address.port}"


class Entrance(Timed):
    """One socket that parents connect to."""

    __slots__ = ("_identity", "_name", "place", "sock", "takers")

    def __init__(self, place: MeetingPlace, name: str, takers: Takers) -> None:
        """Raises OSError."""
        self.takers = takers
        self.place = place
        self._name = name
        self.sock = place.listen(name)
        self._identity = place.identity(name)
        self.deadline = self.filed = NEVER
        takers.reactor.add(self.sock.fileno(), READ, self._accept)

    def close(self) -> None:
        self.place.remove(self._name, self._identity)
        self.takers.reactor.wheel.forget(self)
        self.takers.reactor.close(self.sock.detach())

    def on_deadline(self) -> None:
        self.takers.reactor.modify(self.sock.fileno(), READ)

    def _accept(self, mask: int) -> None:
        takers = self.takers
        for _ in range(PARENTS_PER_EVENT):
            try:
                sock, _ = self.sock.accept()
            except OSError as error:
                if error.errno in EXHAUSTED:  # parents wait in the queue, and relay meanwhile
                    takers.reactor.modify(self.sock.fileno(), 0)
                    self.deadline = takers.reactor.now + OUT_OF_DESCRIPTORS_S
                    takers.reactor.wheel.file(self)
                return
            try:
                sock.setblocking(False)
                check_peer(sock)
                if len(takers.open) >= MOST_TAKERS:
                    raise OSError("too many parents")
                Taker(takers, sock)
            except OSError as error:
                sock.close()
                takers.log.warning("handoff_refused", reason=str(error))
            except Exception:
                sock.close()
                raise


class HandoffListener:
    """The sockets of one node. Without a meeting `place` there is none, and parents relay."""

    def __init__(self, node: str, place: MeetingPlace | None, takers: Takers) -> None:
        self._node = node
        self.place = place
        self.takers = takers
        self.open: dict[str, Entrance] = {}

    def follow(self, addresses: Iterable[Address]) -> None:
        """Listen for the parents of these ports. What cannot be opened is logged, and parents relay."""
        wanted = {name_of(self._node, address) for address in addresses}
        for name in [name for name in self.open if name not in wanted]:
            self.open.pop(name).close()
        for name in sorted(wanted - self.open.keys()):
            self._begin(name)

    def drain(self) -> None:
        """Take nothing more."""
        self.follow(())
        for taker in list(self.takers.open):
            taker.drain()

    def close(self) -> None:
        """The node ends."""
        self.follow(())
        for taker in list(self.takers.open):
            taker.close()
        if self.place is not None:
            self.place.close()

    def _begin(self, name: str) -> None:
        if self.place is None:
            return
        try:
            self.open[name] = Entrance(self.place, name, self.takers)
        except OSError as error:
            self.takers.log.warning(
                "handoff_unavailable",
                reason=str(error),
                action="connections are relayed; under 'forward: handoff' they are refused",
            )
