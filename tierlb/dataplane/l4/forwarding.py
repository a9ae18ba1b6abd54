"""How connections get from an l4 node to one of its hosts: one interface, and the way to each host is chosen for it.

`placing` chooses the host. The first forwarder of `L4Context.forwarders` that `reaches` that host `begin`s: from then
on it has the client's socket and the count at the host, until the connection is over, or until it gives both back and
calls `placing.place` again with one more host that was `tried`.

A new forwarder is a module here with a subclass, a value of `model.topology.Forwarding` that `L4Front` maps to
it, and a line in the description of the key `forward` (topology/shapes.py). Values of the key that no forwarder carries
out are not accepted.
"""

from collections.abc import Iterable
from typing import ClassVar

from mypy_extensions import mypyc_attr

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.upstream.host import Host
from tierlb.model.snapshot import Snapshot


@mypyc_attr(allow_interpreted_subclasses=True)
class Forwarder:
    """One way to hosts. All methods but `begin` may be left as they are. `way`: its name, for operators."""

    way: ClassVar[str] = ""
    passes_sockets: ClassVar[bool] = False
    """The next process reads the socket: it cannot be given one whose bytes are TLS with this process."""

    def follow(self, snapshot: Snapshot, hosts: Iterable[Host]) -> None:
        """A new snapshot, and the hosts of all its destinations. Called before its first connection is placed."""

    def reaches(self, host: Host) -> bool:
        """Whether connections can be given to this host in this way now. Called for each connection: it must cost
        next to nothing and must not wait."""
        return True

    def why_not(self, host: Host) -> str:
        """Why it does not reach this host, in words."""
        return f"{host.name} cannot be reached"

    def lacks(self) -> tuple[str, ...]:
        """What operators should know of hosts that it does not reach and that nothing else does, in sentences."""
        return ()

    def begin(self, client: int, caller: Caller, host: Host, tried: tuple[Host, ...]) -> int:
        """Begin to give the connection to `host`. Returns 0 if that has begun, else the errno of why not: then nothing
        is left of it here, and another host gets the connection. With EBUSY the host is not to blame. Raises OSError if
        this node lacks a descriptor or memory."""
        raise NotImplementedError

    def turn_away(self, client: int, caller: Caller, tried: tuple[Host, ...]) -> bool:
        """Have the host that had no room for the connection (`caller.full`) say that to the client, as no other host
        was of use; whether that could be done. It is the last try, and made once."""
        return False

    @property
    def waiting(self) -> int:
        """Connections that are still here or end with this process, without those that `L4Connections` holds. A drain
        waits for them."""
        return 0

    def cut(self) -> None:
        """End what is still here."""

    def cut_from(self, host: Host) -> int:
        """End what went to one host and is not over; how many that were, without those that `L4Connections` holds."""
        return 0

    def close(self) -> None:
        """The node ends."""
