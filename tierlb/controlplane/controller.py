"""Owns the topology, knows every node, and gives each the snapshot it should serve.

Changes (a node joined, bound its ports, left; an endpoint came or went) only mark the controller as changed;
`run` gathers what comes within a few milliseconds into one new revision and hands it to those nodes whose own
configuration differs. Each node has one place for the newest snapshot wanted from it, not a queue, so a slow
node costs nothing and skips what is already outdated.

A node whose control socket is gone stays a member of its parents' destinations, for its traffic does not
depend on that socket. It leaves when it says that it drains or when the supervisor saw its process exit.

Left out: sockets (link.py) and processes (cluster/).
"""

import attrs
import trio

from tierlb.controlplane.log import Log
from tierlb.controlplane.status import (
    ClusterStatus,
    EndpointStatus,
    NodeStatus,
    PoolStatus,
    State,
    TierStatus,
)
from tierlb.model.address import Address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Topology
from tierlb.topology.allot import Announced, node_names, snapshot_for
from tierlb.wire.frames import Ack, Drain, Hello, Refuse, Report

GATHER_S = 0.01
"""Nodes of a starting tier announce themselves within some milliseconds; one revision then serves for all."""


class Unwelcome(Exception):  # noqa: N818 (the text is the reason the node is sent)
    """The node cannot join; the text says why."""


@attrs.define(eq=False)
class Link:
    """One accepted control connection: `wake` is set when there is something to send, or it is replaced."""

    wake: trio.Event = attrs.field(factory=trio.Event)
    replaced: bool = False

    def replace(self) -> None:
        """Let the connection close: what it stood for is gone or has another one."""
        self.replaced = True
        self.wake.set()


@attrs.define
class Seat:
    """What is known of one node. `wanted` is the snapshot it should serve, `served` the revision it acked."""

    name: str
    tier: str
    hello: Hello | None = None
    link: Link | None = None
    wanted: Snapshot | None = None
    served: int = 0
    addresses: tuple[Address, ...] = ()
    draining: bool = False
    refusal: str = ""
    load: NodeLoad | None = None
    load_at_s: float = 0.0
    items_per_s: float | None = None

    @property
    def state(self) -> State:
        """Serving means: it acked the snapshot wanted now, or at least an earlier one."""
        if self.hello is None:
            return State.GONE
        if self.draining:
            return State.DRAINING
        return State.SERVING if self.served else State.STARTING


@attrs.define
class Controller:
    """The desired topology and the nodes and local endpoints that exist."""

    topology: Topology
    log: Log
    report_interval_s: float = 1.0
    revision: int = 0
    seats: dict[str, Seat] = attrs.field(factory=dict, init=False)
    _endpoints: dict[str, dict[Address, EndpointStatus]] = attrs.field(factory=dict, init=False)
    _dirty: trio.Event = attrs.field(factory=trio.Event, init=False)
    _progress: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        for tier in self.topology.tiers.values():
            self.seats.update((name, Seat(name, tier.name)) for name in node_names(tier))

    async def run(self) -> None:
        """Publish a new revision after changes, for ever."""
        while True:
            await self._dirty.wait()
            await trio.sleep(GATHER_S)
            self._dirty = trio.Event()
            self._publish()

    async def wait_progress(self) -> None:
        """Return when anything that `missing` reports may have changed."""
        await self._progress.wait()

    def join(self, hello: Hello, link: Link) -> Seat:
        """Seat a node that said hello; a second connection of the same node replaces the first."""
        seat = self.seats.get(hello.node, Seat(hello.node, hello.tier))
        if hello.tier not in self.topology.tiers or seat.tier != hello.tier:
            raise Unwelcome(f"{hello.node} is not a node of tier {hello.tier}: check --name and --tier")
        self.seats[hello.node] = seat
        if seat.hello is None or seat.hello.boot_id != hello.boot_id:
            seat = self._vacate(seat)
            self.log.info("node joined", node=hello.node, pid=hello.pid)
        elif seat.link is not None:
            seat.link.replace()
        seat.hello, seat.link = hello, link
        link.wake.set()
        self._changed()
        return seat

    def receive(self, seat: Seat, frame: Ack | Refuse | Report | Drain) -> None:
        """Take note of what the node said."""
        match frame:
            case Ack():
                self._on_ack(seat, frame)
            case Refuse():
                seat.refusal = frame.reason
                self.log.error("node refused", node=seat.name, revision=frame.revision, reason=frame.reason)
                self._moved()
            case Report():
                _note_load(seat, frame.load, trio.current_time())
            case Drain():
                seat.draining = True
                self.log.info("node drains", node=seat.name)
                self._changed()

    def lost(self, seat: Seat, link: Link) -> None:
        """The node's control socket is gone; its traffic goes on."""
        if seat.link is link:
            seat.link = None
            self._moved()

    def exited(self, node: str, pid: int) -> None:
        """The node's process is gone: nobody is to send to it any more."""
        seat = self.seats[node]
        if seat.hello is not None and seat.hello.pid == pid:
            self._vacate(seat)
            self._changed()

    def note_endpoint(self, pool: str, endpoint: EndpointStatus) -> None:
        """A locally run endpoint starts, serves or is gone; only serving ones are members."""
        self._endpoints.setdefault(pool, {})[endpoint.address] = endpoint
        self._changed()

    def missing(self) -> tuple[str, ...]:
        """What is not up yet, each a phrase for a person; empty when the whole tree serves."""
        contents = self._contents()
        return (
            *(phrase for seat in self.seats.values() if (phrase := _lack_of(seat, contents[seat.tier]))),
            *(
                f"pool {name}: {endpoint.address} does not accept connections yet"
                for name, pool in self._endpoints.items()
                for endpoint in pool.values()
                if endpoint.state is not State.SERVING
            ),
        )

    def status(self) -> ClusterStatus:
        """Everything that is known now."""
        now_s = trio.current_time()
        tiers = {
            tier.name: TierStatus(
                tier.kind.value,
                tier.listen,
                tier.targets,
                tuple(_node_status(seat, now_s) for seat in self.seats.values() if seat.tier == tier.name),
            )
            for tier in self.topology.tiers.values()
        }
        pools = {name: PoolStatus(self._endpoints_of(name)) for name in self.topology.pools}
        serving = all(any(node.state is State.SERVING for node in tier.nodes) for tier in tiers.values()) and all(
            any(e.state is State.SERVING for e in pool.endpoints) for pool in pools.values()
        )
        return ClusterStatus(self.topology.cluster, self.revision, serving, self.missing(), tiers, pools)

    def _endpoints_of(self, pool_name: str) -> tuple[EndpointStatus, ...]:
        pool = self.topology.pools[pool_name]
        if pool.run is not None:
            return tuple(self._endpoints.get(pool_name, {}).values())
        return tuple(EndpointStatus(address, State.SERVING) for address in pool.endpoints)

    def _on_ack(self, seat: Seat, ack: Ack) -> None:
        seat.served, seat.refusal = ack.revision, ""
        if seat.addresses != ack.addresses:
            seat.addresses = ack.addresses
            self._changed()
        self._moved()

    def _publish(self) -> None:
        revision = self.revision + 1
        contents = self._contents()
        for seat in self.seats.values():
            content = contents[seat.tier]
            if seat.hello is None or _same(seat.wanted, content):
                continue
            seat.wanted = attrs.evolve(content, revision=revision)
            self.revision = revision
            if seat.link is not None:
                seat.link.wake.set()
        self._moved()

    def _vacate(self, seat: Seat) -> Seat:
        """A new seat for the node, which is gone or another process now; its old connection closes."""
        if seat.link is not None:
            seat.link.replace()
        self.seats[seat.name] = Seat(seat.name, seat.tier)
        return self.seats[seat.name]

    def _contents(self) -> dict[str, Snapshot]:
        """What the nodes of each tier should serve now, as revision 0."""
        announced, endpoints = self._announced(), self._run_endpoints()
        return {name: snapshot_for(self.topology, name, 0, announced, endpoints) for name in self.topology.tiers}

    def _announced(self) -> Announced:
        announced: dict[str, dict[str, tuple[Address, ...]]] = {}
        for seat in self.seats.values():
            if seat.addresses and not seat.draining:
                announced.setdefault(seat.tier, {})[seat.name] = seat.addresses
        return announced

    def _run_endpoints(self) -> dict[str, tuple[Address, ...]]:
        return {
            name: tuple(e.address for e in pool.values() if e.state is State.SERVING)
            for name, pool in self._endpoints.items()
        }

    def _changed(self) -> None:
        self._dirty.set()
        self._moved()

    def _moved(self) -> None:
        self._progress.set()
        self._progress = trio.Event()


def _same(wanted: Snapshot | None, content: Snapshot) -> bool:
    return wanted is not None and attrs.evolve(wanted, revision=0) == content


def _lack_of(seat: Seat, content: Snapshot) -> str:
    if seat.hello is None:
        return f"{seat.name} has not joined"
    if seat.refusal:
        return f"{seat.name} refused its configuration: {seat.refusal}"
    if seat.wanted is None or seat.served != seat.wanted.revision or not _same(seat.wanted, content):
        return f"{seat.name} does not serve its latest configuration yet"
    return ""


def _note_load(seat: Seat, load: NodeLoad, now_s: float) -> None:
    before = seat.load
    if before is not None and now_s > seat.load_at_s:
        seat.items_per_s = max(0, load.items - before.items) / (now_s - seat.load_at_s)
    seat.load, seat.load_at_s = load, now_s


def _node_status(seat: Seat, now_s: float) -> NodeStatus:
    return NodeStatus(
        name=seat.name,
        state=seat.state,
        connected=seat.link is not None,
        pid=seat.hello.pid if seat.hello else None,
        revision=seat.served,
        addresses=seat.addresses,
        load=seat.load,
        items_per_s=seat.items_per_s,
        report_age_s=now_s - seat.load_at_s if seat.load else None,
        problem=seat.refusal,
    )
