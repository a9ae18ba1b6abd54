"""An l7 node's side of the plane: client connections, and what they share (`front_state`)."""

import random
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

from tierlb.balance.drain import Remainder, spread_s
from tierlb.dataplane.handoff.taker import Introduced
from tierlb.dataplane.l7.client import ClientConnection, placed
from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.client_stream import ClientStream
from tierlb.dataplane.l7.config import FrontConfig, RuleAction
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.max_forwards import FinalRecipient
from tierlb.dataplane.l7.plan import PlanBook
from tierlb.dataplane.l7.refusal import Refusals
from tierlb.dataplane.l7.relocation import Relocation
from tierlb.dataplane.l7.reply import ReplyBook
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.host import Host, log_change, log_insecure
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.dataplane.upstream.split import Split
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.model.topology import Admin, Limits
from tierlb.net.asked import local_name
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.net.tls_layer import TlsLayer
from tierlb.wire.announcement import Origin
from tierlb.wire.http2_blocks import BlockBook
from tierlb.wire.told_tls import read_told


class L7Front(FrontState):
    """`clients` are the connections that are open."""

    def __init__(self, name: str, reactor: Reactor, rng: random.Random, log: Any, identity: ParentIdentity) -> None:
        registry = HostRegistry(reactor, rng, self._host_changed, Shortages(log.warning))
        super().__init__(name, reactor, log, registry, Relocation(rng))
        registry.context.on_insecure = partial(log_insecure, log)
        reactor.tracks = True
        registry.kinds.places.on_freed = self._plan_anew
        self.clients: set[ClientStream] = set()
        self._identity = identity
        self._rng = rng
        self._refusals = Refusals(name, reactor)
        self._ending = self._announces = False
        self._replies = ReplyBook(Limits().headers)

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the configuration for that of this snapshot."""
        destinations = [d for rule in snapshot.rules if isinstance(rule.action, Send) for d in rule.action.destinations]
        host_sets = iter(self.registry.rebuild_host_sets(destinations, snapshot))
        actions: list[RuleAction] = []
        for rule in snapshot.rules:
            if isinstance(rule.action, Send):
                own = [next(host_sets) for _ in rule.action.destinations]
                actions.append(own[0] if len(own) == 1 else Split(own, self._rng))
            else:
                actions.append(rule.action)
        actions.append(FinalRecipient())
        if self._replies.max_headers != snapshot.limits.headers:
            self._replies = ReplyBook(snapshot.limits.headers)
        if self.exchanges.blocks.most_bytes != snapshot.limits.head:
            self.exchanges.blocks = BlockBook(snapshot.limits.head)
        kinds = self.registry.kinds
        books = tuple(
            PlanBook(snapshot, kinds, trusted=trusted, secured=secured, http2=http2)
            for http2 in (False, True)
            for secured in (False, True)
            for trusted in (False, True)
        )
        draining = self._ending or snapshot.admin is not Admin.READY
        self.config = FrontConfig(snapshot, actions, books, self._replies, self._identity, draining=draining)
        self._announces = any(pool.announces is not None for pool in snapshot.pools)
        self.relocation.note_parents(snapshot.parents)
        self.counters.tallies.forwarding = snapshot.kernel_parent_names
        self._part()
        self.exchanges.hold.note(destinations)

    def _part(self) -> None:
        """Connections that were placed by a process that is no parent any more end politely; in drain all do."""
        snapshot, draining = self.config.snapshot, self.config.draining
        within_s = spread_s(snapshot.drain_s)
        for client in self.clients:
            processes = client.identity.processes
            if draining or (client.lifetime.movable and not all(process in snapshot.parents for process in processes)):
                client.end_within(self.relocation.spread(within_s))

    def _plan_anew(self) -> None:
        for book in self.config.books:
            book.forget()

    @property
    def draining(self) -> bool:
        return self.config.draining

    def note_guidance(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        """Follow the guidance of the parents."""
        self.relocation.follow(now, load, guidance)

    def move(self, now: float) -> bool:
        """Choose connections to end, if that is due. Whether any are to end."""
        if self.relocation.is_choice_due(now, len(self.clients)):
            movable = [client.candidate() for client in self.clients if client.lifetime.movable]
            self.relocation.choose(now, movable)
        return self.relocation.closing.rate_per_s > 0

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener, origin: Origin | None = None) -> None:
        """A connection arrived. `origin`: what a balancer above told of it."""
        host, tls = peer[0], None if listener.tls is None else self.shown.get(listener.tls)
        if listener.tls is not None and tls is None:
            self.reactor.close(fd)  # the listener ends, and its certificates are not served any more
            return
        if origin is None and self._announces and not listener.inner:
            origin = Origin(peer, local_name(fd))
        identity = ClientIdentity(
            host,
            self.counters.tallies.outside,
            self.exchanges.ids.prefix,
            trusted=not listener.inner and self.config.trusts(host),
            secured=tls is not None,
            redirected=listener.redirect_https,
            origin=origin,
        )
        introduced, direct = not listener.inner, listener.direct
        client = ClientConnection(self, fd, identity, self.clients, introduced=introduced, direct=direct)
        self.counters.connections += 1
        try:
            if tls is not None:
                client.secure(tls)
            elif listener.inner and self.inner_tls is not None:
                TlsLayer(client, self.inner_tls.context, is_server=True).begin()
        except Exception as error:  # `client` owns the descriptor by now, which is to be closed once
            self.reactor.crashed(client, error)

    def take(self, fd: int, introduced: Introduced) -> None:
        """A parent handed over a connection."""
        handed, address, told = introduced.handed, introduced.source[0], read_told(introduced.told)
        identity = ClientIdentity(
            address,
            handed.tally,
            self.exchanges.ids.prefix,
            trusted=self.config.trusts(address),
            secured=introduced.secured or self.tls is not None,
            processes=introduced.processes,
            explained=introduced.explained,
            handed=handed,
            certificate=told.certificate,
            shown=told.shown,
            origin=_origin(fd, introduced) if self._announces else introduced.origin,
        )
        client = ClientConnection(self, fd, identity, self.clients, introduced=True)
        self.counters.connections += 1
        try:
            if self.tls is not None and not introduced.secured:
                client.secure(self.tls)
            placed(client, introduced.arrived)
        except Exception as error:  # as in `accept`
            self.reactor.crashed(client, error)

    def may_give_way(self) -> Iterable[ClientStream]:
        """Connections that can be closed for new ones if they are idle."""
        return self.clients

    def turn_away(self, fd: int, *, at_once: bool, secured: bool) -> None:
        """The node is full: 503, which takes a handshake where TLS is spoken. So these are closed."""
        if secured:
            self.reactor.close(fd)
        elif at_once:
            self._refusals.refuse_at_once(fd)
        else:
            self._refusals.refuse(fd)

    @property
    def tunnels(self) -> Collection[Pipe]:
        return self.exchanges.tunnels.pipes

    def drain(self) -> None:
        """Let requests under way finish, close what is idle; what a snapshot had drained before ends as it was to end.
        Tunnels last until the deadline."""
        self._ending = True
        if not self.config.draining:
            self.config = self.config.in_drain()
            for client in list(self.clients):
                client.end_within(0.0)

    @property
    def drained(self) -> bool:
        return not self.clients and not self.tunnels

    def remainder(self) -> Remainder:
        """What is under way."""
        requests = [len(client.under_way()) for client in self.clients]
        return Remainder(sum(requests), len(self.tunnels), requests.count(0))

    def cut_from(self, host: Host) -> Remainder:
        """End what is under way at one host; what that was."""
        under_way = [each for client in self.clients for each in client.under_way()]
        exchanges = [each for each in under_way if each.ticket is not None and each.ticket.host is host]
        for exchange in exchanges:
            exchange.withdraw()
        return Remainder(len(exchanges), self.exchanges.tunnels.cut(host))

    def cut(self) -> None:
        """The deadline is over: end what is left. Answers that were sent for it may still have to be taken."""
        for client in list(self.clients):
            client.cut()
        self.exchanges.tunnels.cut()

    def close(self) -> None:
        """The node ends."""
        for client in list(self.clients):
            client.on_broken(OSError("the node ends"))
        self.exchanges.tunnels.cut()
        self._refusals.close()
        self.exchanges.hold.close()
        self.registry.close()

    def _host_changed(self, event: HostEvent, host: Host) -> None:
        log_change(self.log, event, host)


def _origin(fd: int, introduced: Introduced) -> Origin:
    """Where a connection that was handed over comes from."""
    return introduced.origin or Origin(introduced.source, introduced.destination or local_name(fd))
