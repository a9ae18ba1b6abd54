"""Which route a connection takes: the first of the tier's whose conditions hold. Pure.

Conditions are compared in the order of the routes, and a route that looks at the ClientHello (`sni`, `alpn`) is asked
only if its other conditions hold. So a connection waits for its ClientHello only where one that can match comes before
the first that matches anyway. A connection without a ClientHello (another protocol, or none in time) is under none of
these.
"""

from collections.abc import Sequence
from typing import Final

from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.dataplane.upstream.split import Split
from tierlb.model.snapshot import Destination, Send, Snapshot
from tierlb.model.topology import Match
from tierlb.net.networks import AcceptedNetworks
from tierlb.topology.tree import match_text
from tierlb.wire.client_hello import ClientHello

NO_ROUTE: Final = -1
NEEDS_HELLO: Final = -2


class ConnectionMatch:
    """The conditions of one route, compiled. `protocols`: of ALPN."""

    __slots__ = ("endings", "names", "needs_hello", "networks", "ports", "protocols")

    def __init__(self, match: Match) -> None:
        self.needs_hello: Final = match.reads_hello
        self.names: Final = frozenset(name for name in match.sni if not name.startswith("*."))
        self.endings: Final = tuple(name[1:] for name in match.sni if name.startswith("*."))
        self.protocols: Final = frozenset(match.alpn)
        self.networks: Final = AcceptedNetworks(match.sources)
        self.ports: Final = frozenset(match.ports)

    def holds_for_address(self, source: str, port: int) -> bool:
        """Whether the conditions on addresses hold."""
        return (not self.ports or port in self.ports) and self.networks.accept(source)

    def holds_for_hello(self, hello: ClientHello) -> bool:
        """Whether the conditions on the ClientHello hold."""
        name = hello.server_name
        if self.names or self.endings:
            is_below = not name.startswith(".") and name.endswith(self.endings)
            if name not in self.names and not is_below:
                return False
        return not self.protocols or not self.protocols.isdisjoint(hello.protocols)


class ConnectionRoutes:
    """The routes of an l4 tier. `only`: the split that gets all connections, where the first route has no condition;
    else None. `reads_ports`: some conditions are on ports."""

    __slots__ = ("_matches", "_texts", "only", "reads_ports", "splits")

    def __init__(self, matches: Sequence[Match], splits: Sequence[Split]) -> None:
        self._matches: Final = tuple(ConnectionMatch(match) for match in matches)
        self._texts: Final = tuple(match_text(match) for match in matches)
        self.splits: Final = tuple(splits)
        self.only: Final = splits[0] if matches[0] == Match() else None
        self.reads_ports: Final = any(match.ports for match in matches)

    def find(self, source: str, port: int, hello: ClientHello | None) -> int:
        """The position of the route for a client at this address, which connected to this port; NO_ROUTE if it falls
        under none, NEEDS_HELLO if that depends on what is not known yet (`hello` None)."""
        for position, match in enumerate(self._matches):
            if match.holds_for_address(source, port):
                if not match.needs_hello:
                    return position
                if hello is None:
                    return NEEDS_HELLO
                if match.holds_for_hello(hello):
                    return position
        return NO_ROUTE

    def told(self, position: int) -> str:
        """The route in words; empty where there is no other one."""
        return self._texts[position] if self.only is None else ""


def routes_of(snapshot: Snapshot, registry: HostRegistry) -> tuple[ConnectionRoutes, list[Destination]]:
    """The routes of a snapshot, and all destinations in their order; the registry has their hosts from now on."""
    sends = [rule.action for rule in snapshot.rules if isinstance(rule.action, Send)]
    destinations = [destination for send in sends for destination in send.destinations]
    host_sets = iter(registry.rebuild_host_sets(destinations, snapshot))
    splits = [Split([next(host_sets) for _ in send.destinations], registry.rng) for send in sends]
    return ConnectionRoutes([rule.match for rule in snapshot.rules], splits), destinations
