"""The seam between a node's data plane and its control plane.

The control plane hands in snapshots and what children and parents report, takes out counts and loads, and never waits
here. What is served is in `dataplane.runtime`; here are the ports, the reactor and the life of the whole.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import attrs
import trio

from tierlb.dataplane.certificates import Certificates
from tierlb.dataplane.draining import finish_drain
from tierlb.dataplane.handoff.listener import HandoffListener
from tierlb.dataplane.handoff.taker import Takers
from tierlb.dataplane.listening import LISTENER_LINGER_S, Listening
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.runtime import Runtime, Serving
from tierlb.dataplane.tier_tls import TierTls
from tierlb.dataplane.upstream.discovery import Discovery
from tierlb.dataplane.upstream.endpoint_tls import EndpointTls
from tierlb.model.address import Address, Transport
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Admin, Forwarding
from tierlb.net.broker import Broker
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.descriptors import limit
from tierlb.net.lookup import LookUp, look_up
from tierlb.net.meeting_place import NOT_GIVEN, MeetingPlace
from tierlb.net.reactor import Reactor
from tierlb.net.tls import TlsProblem
from tierlb.telemetry.exposition import Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.allot import discovered


class Refused(Exception):  # noqa: N818 (the node refuses a snapshot; it is not an error of the node)
    """A snapshot that this node cannot carry out; the reason in words."""


class Plane:
    """`data_key` is what nodes of the cluster show each other on the data path, until a snapshot has another one.
    Public sockets come from `broker`, and `ask` finds endpoints that are looked up in DNS. `descriptors`: how many this
    process may hold, if not by its own limit. In the `meeting_place` nodes of the same machine find each other, to hand
    connections over; `why_none` says why there is no such place. `cluster_tls` secures connections between tiers.
    `listening` has the sockets, and `serving` is a `Runtime` from the first snapshot on."""

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
        clock: Callable[[], float] = time.monotonic,
        meeting_place: MeetingPlace | None = None,
        why_none: str = NOT_GIVEN,
        cluster_tls: ClusterTls | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.errors = errors or InternalErrors(log)
        self.reactor = Reactor(lambda error: self.errors.note("connection", error), clock)
        self.serving = Serving(name, self.errors)
        self._identity = ParentIdentity(name, data_key, boot_id)
        descriptors = limit() if descriptors is None else descriptors
        self._parts = (self.reactor, random.Random(seed), log, self._identity, self.errors, descriptors)
        self._meets = (meeting_place, why_none)
        self.certificates = Certificates(log)
        self.endpoint_tls = EndpointTls(log)
        self.tier_tls = TierTls(cluster_tls)
        self._discovery = Discovery(self._serve, log, ask, self.errors)
        takers = Takers(
            self.reactor,
            self._identity,
            lambda: self.serving,
            log,
            descriptors,
            meeting_place.network if meeting_place else b"",
        )
        self.listening = Listening(
            self.reactor,
            broker,
            HandoffListener(name, meeting_place, takers),
            lambda sock, peer, listener: self.serving.accept(sock, peer, listener),
            lambda listening, listener: self.serving.out_of_descriptors(listening, listener),
            lambda port, key, data: self.serving.newcomer(port, key, data),
            lambda: self.serving.counters,
        )
        self._configured = trio.Event()
        self._drained = trio.Event()
        self.reactor.beat.begin(self._beat)

    def apply(self, snapshot: Snapshot, had: tuple[Address, ...] = ()) -> tuple[Address, ...]:
        """Swap to this snapshot; returns the bound addresses, parallel to its listeners, as are those that it `had`
        when it ran before: parents find it there, if they are free.

        A draining node opens nothing; its ports are returned as they were. Raises Refused, and goes on as before, if
        a port cannot be opened or the tier's kind would change.
        """
        before = self.serving.snapshot if isinstance(self.serving, Runtime) else snapshot
        if (before.kind, before.protocol) != (snapshot.kind, snapshot.protocol):
            raise Refused(f"a node cannot change from {_nature(before)} to {_nature(snapshot)}")
        if snapshot.forward is Forwarding.NFTABLES and (lack := _lack_for_nftables()):
            raise Refused(f"'forward: nftables' is not possible on this machine: {lack}. Or write 'forward: relay'")
        try:
            tls = self.certificates.prepare((snapshot.tls, *(each.tls for each in snapshot.listeners)))
            to_endpoints = self.endpoint_tls.prepare(snapshot.pools, snapshot.kind)
            self.tier_tls.check(snapshot)
        except TlsProblem as error:
            raise Refused(str(error)) from None
        wanted = _wanted(snapshot)
        try:
            new = () if self._drained.is_set() else wanted
            opened = self.listening.open(new, dict(zip(snapshot.listeners, had, strict=False)))
        except OSError as error:
            raise Refused(str(error.strerror)) from None
        if snapshot.data_key:
            self._identity.rekey(snapshot.data_key.encode())
        runtime = self._runtime_for(snapshot)
        self._discovery.replace(snapshot.pools)
        now = self.reactor.look()
        self.certificates.use(tls, now)
        self.endpoint_tls.use(to_endpoints, now)
        self.tier_tls.use(snapshot, now)
        self._serve()

        def linger_s(listener: Listener) -> float:
            return runtime.upkeep.replies.notice_s(now) if listener in snapshot.listeners else LISTENER_LINGER_S

        self.listening.replace(wanted, opened, linger_s, now)
        runtime.front.listen(self.listening.addresses(each for each in wanted if not each.inner))
        return self.listening.addresses(snapshot.listeners)

    def _runtime_for(self, snapshot: Snapshot) -> Runtime:
        if isinstance(self.serving, Runtime):
            self.serving.snapshot = snapshot
            return self.serving
        self.serving = runtime = Runtime(snapshot, *self._parts, *self._meets)
        self._configured.set()
        return runtime

    def _serve(self) -> None:
        """Serve the snapshot, with the endpoints that are found by now."""
        self.reactor.beat.stir()
        assert isinstance(self.serving, Runtime)
        self._show_certificates(self.serving)
        front, context = self.serving.front, self.serving.front.registry.context
        front.inner_tls = self.tier_tls.inner
        context.tls = context.recovery.tls = {**self.endpoint_tls.by_pool, **self.tier_tls.to_tiers}
        self.serving.apply(discovered(self.serving.snapshot, self._discovery.found), ends=self._drained.is_set())

    def _show_certificates(self, runtime: Runtime) -> None:
        front, tls = runtime.front, runtime.snapshot.tls
        front.shown = self.certificates.shown
        front.tls = None if tls is None else self.certificates.served.get(tls)

    # What is reported of this node.

    def load(self) -> NodeLoad:
        """The counters now; `busy` is of the last second or so."""
        load = self.serving.load(self.listening.strangers)
        found = (*self.certificates.expiries(), *self.endpoint_tls.expiries(), *self.tier_tls.expiries())
        return attrs.evolve(load, certificates=found) if found else load

    def subtree(self) -> SubtreeLoad:
        """This node and everything below it."""
        return self.serving.subtree()

    def echo(self, parent: str) -> Echo:
        """What of its counts came from this parent."""
        return self.serving.echo(parent)

    def row(self) -> NodeRow:
        """The detail, while it is watched."""
        return self.serving.row(self.load())

    def metrics(self) -> Exposed:
        """Everything for a page of metrics; latencies since the start."""
        return self.serving.metrics(self.load())

    # What others report.

    def note_report(self, child: str, load: SubtreeLoad, echo: Echo, next_s: float = REPORT_INTERVAL_S) -> None:
        """A child reported its subtree, how much of that came from here, and when the next report is due."""
        self.serving.note_report(child, load, echo, next_s)

    def note_lost(self, child: str) -> None:
        """A child's control connection is gone; its data path may work."""
        self.serving.note_lost(child)
        self.reactor.beat.stir()

    def guide(self, child: str) -> Guidance | None:
        """The guidance for a child; None for any other name."""
        return self.serving.guide(child)

    def note_guidance(self, parent: str, guidance: Guidance) -> None:
        """A parent's guidance on this node's siblings."""
        self.serving.note_guidance(parent, guidance)

    def explain(self, nonce: str, until_s: float) -> None:
        """Explain requests that carry this nonce, until then by `time.monotonic`."""
        self.serving.explain(nonce, until_s)

    def announce_drain(self) -> float:
        """Answer agent checks that this node drains, and serve on; in how many seconds all of them have asked."""
        self.reactor.beat.stir()
        return self.serving.announce_drain()

    # Its life.

    def regularly(self, work: Callable[[], float]) -> Callable[[], None]:
        """Do this with the regular work. It returns in how many seconds to do it again at the latest if nothing happens
        until then. What is returned here has it done soon."""

        def barred(now: float) -> float:
            wait_s = 0.0
            with self.errors.barrier("reports"):
                wait_s = work()
            return now + wait_s

        self.reactor.beat.begin(barred)
        return self.reactor.beat.stir

    def drain(self) -> None:
        """Stop accepting, finish what is under way, close kept-alive connections politely; `run` then returns."""
        self.reactor.beat.stir()
        self.listening.drain()
        self.serving.drain()
        self._drained.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or cancelled; what is left at the deadline is cut."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.reactor.run)
                nursery.start_soon(self._look_after)
                nursery.start_soon(self._discovery.run)
                task_status.started()
                await self._drained.wait()
                await finish_drain(self.serving, self.reactor)
                nursery.cancel_scope.cancel()
        finally:
            self.serving.close()
            self.listening.close()
            self.reactor.dispose()

    async def _look_after(self) -> None:
        await self._configured.wait()
        assert isinstance(self.serving, Runtime)
        await self.serving.upkeep.run()

    def _beat(self, now: float) -> float:
        """All regular work. Returns when it is due at the latest if nothing happens until then."""
        listening_at = serving_at = certificates_at = now
        with self.errors.barrier("certificates"):
            certificates_at = min(self.certificates.tick(now), self.endpoint_tls.tick(now), self.tier_tls.tick(now))
            if isinstance(self.serving, Runtime):
                self._show_certificates(self.serving)
        with self.errors.barrier("room"):
            listening_at = self.listening.tick(now)
        with self.errors.barrier("room"):
            serving_at = self.serving.tick(now, ends=self._drained.is_set())
        return min(listening_at, serving_at, certificates_at)


def _nature(snapshot: Snapshot) -> str:
    return f"{snapshot.kind.value}{' over UDP' if snapshot.protocol is Transport.UDP else ''}"


def _lack_for_nftables() -> str:
    """Why the kernel cannot forward; empty if it can."""
    from tierlb.net.netfilter import why_not  # few nodes need it

    return why_not()


def _wanted(snapshot: Snapshot) -> tuple[Listener, ...]:
    """The listeners to open: in drain only the one for parents, which are informed of it, and none for clients."""
    return tuple(each for each in snapshot.listeners if each.inner or snapshot.admin is Admin.READY)
