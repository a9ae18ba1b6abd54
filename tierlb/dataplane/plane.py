"""One node's data plane: its listeners, its front (l4 or l7), the reactor that drives them, and their upkeep.

This is the seam to the control plane, which hands in snapshots and what children and parents say, takes out counts and
loads, and never waits here.
"""

import contextlib
import random
import socket
import time
from collections.abc import Collection
from functools import partial
from typing import Any, Protocol

import attrs
import trio

from tierlb.balance.drain import BELOW_S, LAST_ANSWERS_S, DrainState, Remainder
from tierlb.dataplane.connection_cap import ConnectionCap
from tierlb.dataplane.connection_cap import Front as Capped
from tierlb.dataplane.kinship import Kinship
from tierlb.dataplane.l4.front import L4Front
from tierlb.dataplane.l7.front import L7Front
from tierlb.dataplane.maintenance import Maintenance
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upkeep import Served, Upkeep
from tierlb.dataplane.upstream.discovery import Discovery
from tierlb.dataplane.upstream.host import Host
from tierlb.model.address import Address
from tierlb.model.load import Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.model.topology import Admin, Kind
from tierlb.net.broker import Broker
from tierlb.net.descriptors import limit
from tierlb.net.listeners import ACCEPTS_PER_EVENT, Acceptor, is_kept, open_socket
from tierlb.net.lookup import LookUp, look_up
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER
from tierlb.telemetry.exposition import Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch
from tierlb.topology.allot import discovered

DRAIN_CHECK_S = 0.05
ROOM_CHECK_S = 0.1
LINGER_S = 2.0
"""A parent is told at the same time that it is to send elsewhere; until it hears of it, it may still connect."""


class Refused(Exception):  # noqa: N818 (the node refuses a snapshot; it is not an error of the node)
    """A snapshot that this node cannot carry out; the reason in words."""


class Front(Served, Capped, Protocol):
    """What an l4 and an l7 front have in common."""

    @property
    def drained(self) -> bool: ...
    @property
    def tunnels(self) -> Collection[Pipe]: ...
    def apply(self, snapshot: Snapshot) -> None: ...
    def drain(self) -> None: ...
    def remainder(self) -> Remainder: ...
    def cut(self) -> None: ...
    def cut_from(self, host: Host) -> Remainder: ...
    def close(self) -> None: ...
    def accept(self, sock: Any, peer: tuple[str, int], listener: Listener) -> None: ...


class Plane:
    """Listeners are kept over snapshots by their value, so that a change never closes a port it does not name.

    `data_key` is what nodes of the cluster show each other on the data path, until a snapshot has another one; public
    sockets come from `broker`. By
    `ask` endpoints are found that are looked up in DNS. `descriptors`: how many this process may hold, if not by its
    own limit.
    """

    def __init__(
        self,
        name: str,
        log: Any,
        seed: int | None = None,
        *,
        data_key: bytes = b"",
        boot_id: str = "",
        broker: Broker | None = None,
        ask: LookUp = look_up,
        descriptors: int | None = None,
        errors: InternalErrors | None = None,
    ) -> None:
        self._broker = broker
        self.name = name
        self.log = log
        self.errors = errors or InternalErrors(log)
        self._kin = Kinship(name, data_key, boot_id)
        self.reactor = Reactor(self._handler_failed)
        self._rng = random.Random(seed)
        self._front: Front | None = None
        self._upkeep: Upkeep | None = None
        self._cap: ConnectionCap | None = None
        self._descriptors = limit() if descriptors is None else descriptors
        self._discovery = Discovery(self._serve, log, ask, self.errors)
        self._configured = trio.Event()
        self._snapshot: Snapshot | None = None
        self._acceptors: dict[Listener, Acceptor] = {}
        self._addresses: dict[Listener, Address] = {}
        self._lingering: dict[Listener, tuple[Acceptor, float]] = {}
        """Listeners that are named no more, and until when they accept."""
        self._drained = trio.Event()
        self._drain = DrainState()
        self._maintenance = Maintenance()

    def apply(self, snapshot: Snapshot, had: tuple[Address, ...] = ()) -> tuple[Address, ...]:
        """Swap to this snapshot; returns the bound addresses, parallel to its listeners, as are those that it `had`
        when it ran before: parents find it there, if they are free.

        A draining node opens nothing; its ports are told as they were. Raises Refused, and goes on as before, if
        a port cannot be opened or the tier's kind would change.
        """
        if self._snapshot is not None and self._snapshot.kind is not snapshot.kind:
            raise Refused(f"a node cannot change from {self._snapshot.kind.value} to {snapshot.kind.value}")
        wanted = _wanted(snapshot)
        opened = self._open_new(wanted, self._addresses | dict(zip(snapshot.listeners, had, strict=False)))
        if snapshot.data_key:
            self._kin.rekey(snapshot.data_key.encode())
        if self._front is None or self._upkeep is None:
            kind = L4Front if snapshot.kind is Kind.L4 else L7Front
            self._front = kind(self.name, self.reactor, self._rng, self.log, self._kin)
            self._upkeep = Upkeep(self._front, self.reactor, self._rng, self.log, self.errors)
            self._cap = ConnectionCap(self._front, self.log, self._descriptors)
            self._configured.set()
        self._snapshot = snapshot
        self._discovery.replace(snapshot.pools)
        self._serve()
        self._note_drain(snapshot)
        now = self.reactor.look()
        for listener in [known for known in self._acceptors if known not in wanted]:
            wait_s = self._upkeep.notice_s(now) if listener in snapshot.listeners else LINGER_S
            self._lingering[listener] = (self._acceptors.pop(listener), now + wait_s)
        for listener in [known for known in self._lingering if known in wanted]:
            self._acceptors[listener] = self._lingering.pop(listener)[0]
        self._let_go(now)
        for listener, sock in opened.items():
            room = partial(self._room, listener)
            self._acceptors[listener] = Acceptor(self.reactor, listener, sock, room, self._accept, self._exhausted)
            self._addresses[listener] = Address(*sock.getsockname()[:2])
        return tuple(self._addresses.get(listener, listener.address) for listener in snapshot.listeners)

    def _serve(self) -> None:
        """What the snapshot says, with the endpoints that are found by now."""
        assert self._snapshot is not None
        assert self._front is not None
        assert self._upkeep is not None
        assert self._cap is not None
        snapshot = discovered(self._snapshot, self._discovery.found)
        self._cap.configure(snapshot.limits.connections)
        self._front.apply(snapshot)
        self._upkeep.apply(snapshot)
        self._maintenance.note(self._front.registry.hosts, self.reactor.look())

    def _note_drain(self, snapshot: Snapshot) -> None:
        """The drain time runs from the first snapshot that wants it, or from the end of the process being asked for."""
        if snapshot.admin is not Admin.READY or self._drained.is_set():
            self._drain.begin(self.reactor.look(), _drain_s(snapshot))
        else:
            self._drain.stop()

    def _open_new(self, wanted: tuple[Listener, ...], had: dict[Listener, Address]) -> dict[Listener, Any]:
        opened: dict[Listener, Any] = {}
        try:
            for listener in wanted:
                known = listener in self._acceptors or listener in self._lingering or listener in opened
                if not known and not self._drained.is_set():
                    opened[listener] = self._open_again(listener, had.get(listener)) or open_socket(
                        listener, self._broker
                    )
        except OSError as error:
            for sock in opened.values():
                sock.close()
            raise Refused(str(error.strerror)) from None
        return opened

    def _open_again(self, listener: Listener, had: Address | None) -> Any:
        """At the port that the kernel chose when it was open before, if it can be had."""
        if had is None or listener.address.port:
            return None
        with contextlib.suppress(OSError):
            return open_socket(attrs.evolve(listener, address=Address(listener.address.host, had.port)))
        return None

    def _let_go(self, now: float) -> None:
        """Close listeners that have lingered for long enough; one that others accept from need not."""
        for listener, (acceptor, until) in list(self._lingering.items()):
            if now >= until or self._is_borrowed(listener):
                del self._lingering[listener]
                self._end(acceptor)

    def _end(self, acceptor: Acceptor) -> None:
        """What waits in a queue of our own is taken; what waits in one that is borrowed is left to others."""
        if self._is_borrowed(acceptor.listener):
            acceptor.close()
        else:
            acceptor.finish()
        if self._front is not None:
            self._front.counters.rejected += acceptor.strangers

    def _listening(self) -> list[Acceptor]:
        return [*self._acceptors.values(), *(acceptor for acceptor, _ in self._lingering.values())]

    def _is_borrowed(self, listener: Listener) -> bool:
        return self._broker is not None and is_kept(listener)

    def _room(self, listener: Listener) -> int:
        assert self._snapshot is not None
        return ACCEPTS_PER_EVENT

    def _accept(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        assert self._front is not None
        assert self._cap is not None
        now = self.reactor.now
        if self._cap.admit(now):
            self._front.accept(sock, peer, listener)
        else:
            self._cap.turn_away(sock, now)

    def _exhausted(self, listening: socket.socket) -> bool:
        assert self._cap is not None
        return self._cap.out_of_descriptors(listening, self.reactor.now)

    # What is said of this node.

    def load(self) -> NodeLoad:
        """The counters now; `busy` is of the last second or so."""
        if self._front is None or self._upkeep is None:
            return NodeLoad(0, 0, 0, 0, 0, 0, 0, 0.0, internal_errors=self.errors.counts.total())
        c, total = self._front.counters, self._front.counters.tallies.total()
        return NodeLoad(
            c.connections,
            total.in_flight,
            total.arrivals,
            c.errors,
            c.rejected + sum(acceptor.strangers for acceptor in self._listening()),
            c.bytes_in,
            c.bytes_out,
            self._upkeep.account.busy,
            self._upkeep.told(self._front.registry.loads()),
            c.turned_away,
            c.gave_way,
            (*(() if self._cap is None else self._cap.shortages()), *self._front.registry.context.shortages.current()),
            self._front.registry.context.shortages.count,
            len(self._front.tunnels),
            self.errors.counts.total(),
            total.parked,
        )

    def subtree(self) -> SubtreeLoad:
        """This node and everything below it."""
        return SubtreeLoad() if self._upkeep is None else self._upkeep.subtree(time.monotonic())

    def echo(self, parent: str) -> Echo:
        """What of its counts came from this parent."""
        return Echo() if self._upkeep is None else self._upkeep.account.echo(parent)

    def row(self) -> NodeRow:
        """The detail, for those who watch."""
        if self._snapshot is None or self._upkeep is None:
            return NodeRow(self.name, "", 0.0, self.load(), SubtreeLoad())
        latency = self._upkeep.account.latencies.value().encode()
        return NodeRow(self.name, self._snapshot.tier, 0.0, self.load(), self.subtree(), latency)

    def metrics(self) -> Exposed:
        """Everything for a page of metrics; latencies since the start."""
        tier = "" if self._snapshot is None else self._snapshot.tier
        latency = Sketch() if self._front is None else self._front.latencies
        return Exposed(self.name, tier, self.load(), self.subtree(), latency)

    # What others say.

    def note_report(self, child: str, load: SubtreeLoad, echo: Echo) -> None:
        """A child says how its subtree fares, and how much of that came from here."""
        if self._front is not None:
            self._front.registry.note_report(child, load, echo)

    def note_lost(self, child: str) -> None:
        """A child's control connection is gone; its data path may work."""
        if self._front is not None:
            self._front.registry.note_lost(child)

    def guide(self, child: str) -> Guidance | None:
        """What a child should know of its siblings, if it is one."""
        return None if self._front is None else self._front.registry.guidance(child, time.monotonic())

    def heed(self, parent: str, guidance: Guidance) -> None:
        """What a parent said of this node's siblings."""
        if self._upkeep is not None:
            self._upkeep.heed(time.monotonic(), parent, guidance)

    def explain(self, nonce: str, until_s: float) -> None:
        """Explain requests that carry this nonce, until then by `time.monotonic`."""
        if self._front is not None:
            self._front.explaining.begin(nonce.encode(), until_s)

    def announce_drain(self) -> float:
        """Say that this node will drain, and serve on; in how many seconds all agent checks have heard of it."""
        return 0.0 if self._upkeep is None else self._upkeep.announce_drain(time.monotonic())

    def drain(self) -> None:
        """Stop accepting, finish what is under way, close kept-alive connections politely; `run` then returns."""
        for acceptor in self._listening():
            self._end(acceptor)
        self._acceptors.clear()
        self._lingering.clear()
        if self._front is not None and self._snapshot is not None:
            self._drain.begin(self.reactor.look(), _drain_s(self._snapshot))
            self._front.drain()
        self._drained.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or cancelled; what is left at the deadline is cut."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.reactor.run)
                nursery.start_soon(self._make_room)
                nursery.start_soon(self._look_after)
                nursery.start_soon(self._discovery.run)
                task_status.started()
                await self._drained.wait()
                await self._finish_up()
                nursery.cancel_scope.cancel()
        finally:
            self._close()

    async def _finish_up(self) -> None:
        """Until nothing is left, or cut what is at the deadline."""
        front = self._front
        while front is not None and not front.drained and not self._drain.is_over(self.reactor.look()):  # noqa: ASYNC110
            await trio.sleep(DRAIN_CHECK_S)
        if front is not None and not front.drained:
            self._cut(front)
            with trio.move_on_after(LAST_ANSWERS_S):
                while not front.drained:  # noqa: ASYNC110 (no hook in the hot path)
                    await trio.sleep(DRAIN_CHECK_S)

    def _cut_from_hosts(self, front: Front, now: float, drain_s: float) -> None:
        for host in self._maintenance.due(now, drain_s):
            left = front.cut_from(host)
            if left:
                self.log.warning("maintenance_deadline_reached", host=host.name, **attrs.asdict(left))

    def _cut(self, front: Front) -> None:
        left = front.remainder()
        if left:
            self.log.warning("drain_deadline_reached", **attrs.asdict(left))
            front.cut()

    async def _look_after(self) -> None:
        await self._configured.wait()
        assert self._upkeep is not None
        await self._upkeep.run()

    async def _make_room(self) -> None:
        """Look whether a node that stood back can accept again, which listeners have lingered for long enough, whether
        a shortage of connections is over, and whether the time of what a drained node has left is."""
        while True:
            await trio.sleep(ROOM_CHECK_S)
            with self.errors.barrier("room"):
                self._look_for_room(self.reactor.look())

    def _look_for_room(self, now: float) -> None:
        self._let_go(now)
        if self._cap is not None:
            self._cap.tick(now)
        if self._front is not None and self._drain.is_over(now) and not self._drained.is_set():
            self._cut(self._front)
            self._drain.repeat(now)
        if self._front is not None and self._snapshot is not None:
            self._cut_from_hosts(self._front, now, self._snapshot.drain_s)
        for listener, acceptor in self._acceptors.items():
            if not acceptor.watching and self._room(listener) > 0 and acceptor.filed is NEVER:
                acceptor.come_back()

    def _close(self) -> None:
        for acceptor in self._listening():
            acceptor.close()
        self._acceptors.clear()
        self._lingering.clear()
        if self._front is not None:
            self._front.close()
        if self._cap is not None:
            self._cap.close()
        self.reactor.dispose()

    def _handler_failed(self, error: BaseException) -> None:
        self.errors.note("connection", error)


def _wanted(snapshot: Snapshot) -> tuple[Listener, ...]:
    """What the node is to accept from: in drain its parents alone, who know of it, and no clients."""
    return tuple(each for each in snapshot.listeners if each.inner or snapshot.admin is Admin.READY)


def _drain_s(snapshot: Snapshot) -> float:
    sends = (rule.action for rule in snapshot.rules if isinstance(rule.action, Send))
    relays = snapshot.kind is Kind.L4 and any(
        host.child for send in sends for each in send.destinations for host in each.hosts
    )
    return snapshot.drain_s + (BELOW_S if relays else 0.0)
