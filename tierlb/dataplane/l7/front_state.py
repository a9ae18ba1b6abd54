"""What the connections and exchanges of one l7 front share. The front itself (`front`) adds the connections."""

from collections.abc import Mapping
from typing import Any

from tierlb.balance.retry_budget import RetryBudget
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.hold import Hold
from tierlb.dataplane.l7.config import FrontConfig
from tierlb.dataplane.l7.relocation import Relocation
from tierlb.dataplane.l7.request_id import RequestIds
from tierlb.dataplane.l7.tunnels import Tunnels
from tierlb.dataplane.tier_tls import InnerTls
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.address import Address
from tierlb.model.tls import ListenerTls
from tierlb.model.topology import Limits
from tierlb.net.reactor import Reactor
from tierlb.net.server_tls import ServerTls
from tierlb.telemetry.sketch import Sketch
from tierlb.wire.http2_blocks import BlockBook


class ExchangeContext:
    """What only exchanges share: `hold` for requests that wait for the first host of a destination, the budget of
    retries, the ids of requests, and the tunnels that came of some. `long`: by the numbers of kinds, whether most
    requests of a kind are parked. `blocks`: of HTTP/2, swapped with the limit of heads."""

    __slots__ = ("blocks", "hold", "ids", "long", "retry_budget", "tunnels")

    def __init__(self, hold: Hold, tunnels: Tunnels, long: list[bool]) -> None:
        self.blocks = BlockBook(Limits().head)
        self.hold = hold
        self.long = long
        self.tunnels = tunnels
        self.ids = RequestIds()
        self.retry_budget = RetryBudget()


class FrontState:
    """`config` is set before the first connection comes, and swapped with each snapshot. `load_field` is a complete
    header line with this node's load, or empty. `full`: the node holds as many connections as it may, so responses end
    their connections. `tls`: clients that parents send speak it, and this is what they are shown; `shown`: by
    what it says of their listener, those that connect here. `inner_tls`: parents themselves speak it."""

    config: FrontConfig

    def __init__(self, name: str, reactor: Reactor, log: Any, registry: HostRegistry, relocation: Relocation) -> None:
        self.name = name
        self.reactor = reactor
        self.log = log
        self.registry = registry
        self.relocation = relocation
        self.counters = Counters()
        self.latencies = Sketch()
        self.explaining = Explaining()
        self.load_field = b""
        self.tls: ServerTls | None = None
        self.shown: Mapping[ListenerTls, ServerTls] = {}
        self.inner_tls: InnerTls | None = None
        self.full = False
        self.exchanges = ExchangeContext(Hold(reactor, log), Tunnels(reactor, self.counters), registry.kinds.long)

    def listen(self, addresses: tuple[Address, ...]) -> None:
        """Clients connect to these. Nothing to do: their connections are accepted."""

    async def run(self) -> None:
        """Beside the reactor. Nothing to do."""

    def way_to(self, host: Host) -> str:
        """How requests get to a host: there is only one way."""
        return ""

    @property
    def lacks(self) -> tuple[str, ...]:
        """What keeps it from its task, in sentences for an operator."""
        return ()
