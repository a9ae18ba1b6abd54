"""Where a node's ports are on its machine, and which addresses others get for them.

A snapshot names the ports for clients, and that there is one for parents. This machine decides on which of its
addresses they are opened, and where others find them.
"""

import ipaddress

import attrs

from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Snapshot

EVERY_V4, EVERY_V6 = "0.0.0.0", "::"  # noqa: S104 (compared, and asked for)
LOOPBACK = "127.0.0.1"


@attrs.frozen
class Placement:
    """`host`: open every port there ("": public ones as the topology says, all others on loopback). `control`: where
    children report, `data_port`: where parents send to, 0 for any that is free. `advertised`: the host in the addresses
    that others get. Empty: where a port is open on all addresses, the one from which this node is connected to the
    controller. `control_name`: a HOST:PORT that stands for all nodes of the tier, for children instead of the address.
    """

    host: str = ""
    control: Address = Address(LOOPBACK, 0)
    data_port: int = 0
    advertised: str = ""
    control_name: str = ""

    def localised(self, snapshot: Snapshot) -> Snapshot:
        """With the addresses that are to be opened here. Where parents are on other machines, what they show in their
        PROXY header proves them, not their addresses."""
        check = snapshot.agent_check
        if check is not None and self.host:
            check = attrs.evolve(check, host=self.host)
        return attrs.evolve(snapshot, listeners=tuple(map(self._localised, snapshot.listeners)), agent_check=check)

    def announced(self, address: Address, here: str) -> Address:
        """The address for others; `here` is the IP address from which this node is connected to the controller."""
        if address.is_unix:
            return address
        if self.advertised or ipaddress.ip_address(address.host).is_unspecified:
            return attrs.evolve(address, host=self.advertised or _of_family(address.host, here) or address.host)
        return address

    def _localised(self, listener: Listener) -> Listener:
        if not listener.inner:
            return self._public(listener)
        host = self.host or (listener.address.host if listener.direct else LOOPBACK)
        parents_are_here = ipaddress.ip_address(host).is_loopback
        return attrs.evolve(
            listener,
            address=Address(host, self.data_port),
            accept_from=listener.accept_from if parents_are_here else (),
        )

    def _public(self, listener: Listener) -> Listener:
        """One for clients. Where this node is to listen at every address, one for IPv6 does so in its family, if the
        machine has it."""
        at = listener.address
        if not self.host or at.is_unix:
            return listener
        if ":" in at.host and self.host == EVERY_V4:
            return attrs.evolve(listener, address=Address(EVERY_V6, at.port), spare=True)
        return attrs.evolve(listener, address=attrs.evolve(at, host=self.host))


def _of_family(host: str, here: str) -> str:
    """The address from which this node is connected; on loopback that of the family of a port that is open on all."""
    return "::1" if ":" in host and here == LOOPBACK else here
