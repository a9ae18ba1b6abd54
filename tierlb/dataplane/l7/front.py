"""An l7 node's side of the plane: the current snapshot made ready to be read by every connection."""

import ipaddress
import random
import secrets
import socket
from collections.abc import Iterable
from typing import Any

from tierlb.balance.drain import Remainder, grace_s, spread_s
from tierlb.balance.guidance import CloseBudget, closing_rate_per_s, why_close
from tierlb.balance.hashing import stable_hash
from tierlb.balance.retry_budget import RetryBudget
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.hold import Hold
from tierlb.dataplane.kinship import Kinship
from tierlb.dataplane.l7.client import ClientConnection
from tierlb.dataplane.l7.max_forwards import FinalRecipient
from tierlb.dataplane.l7.plan import Plan, PlanBook
from tierlb.dataplane.l7.refusal import Refusals
from tierlb.dataplane.l7.reply import ReplyBook
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.host import Host, log_change
from tierlb.dataplane.upstream.host_set import Choice, HostSet
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.dataplane.upstream.split import Split
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.model.topology import Admin, ClientAbort, Limits, Policy, Redirect, Respond
from tierlb.net import peer_liveness
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.telemetry.sketch import Sketch
from tierlb.telemetry.tally import Tally
from tierlb.wire.proxy_protocol import encode_local

LONGEST_AGE_S = 300.0
GONE_KEPT = 64
MOVE_S_PER_CLIENT = 2e-5
"""Between two looks at all of them for those to move, which take some 0.5 µs for each: at most 3 % of the time."""
AGE_JITTER = 0.1
"""However even the load is, a connection that an l4 parent placed is placed anew after this long (BALANCING.md §6)."""


class L7Front:
    """Accepts client connections and owns what they share."""

    def __init__(self, name: str, reactor: Reactor, rng: random.Random, log: Any, kin: Kinship) -> None:
        self.name = name
        self.kin = kin
        self.preface = b""
        self.reactor = reactor
        self.log = log
        self.rng = rng
        self.counters = Counters()
        self.latencies = Sketch()
        self.retry_budget = RetryBudget()
        self.replies = ReplyBook(Limits().headers)
        self.clients: set[ClientConnection] = set()
        self.gone: dict[str, None] = {}
        """Processes that were parents until lately: what they still place here is not to stay."""
        self._parents: tuple[str, ...] = ()
        self.tunnels: dict[Pipe, Host] = {}
        self.draining = self._ending = False
        self.full = False
        reactor.tracks = True
        self._refusals = Refusals(name, reactor)
        self.explaining = Explaining()
        self.closing = CloseBudget()
        self._moved_at = self._response_s = 0.0
        self.movable = 0
        self.load_field = b""
        self.requests_named = 0
        self.id_prefix = b"%b-" % secrets.token_hex(6).encode()
        self.hold = Hold(reactor, log)
        self.registry = HostRegistry(reactor, rng, self._host_changed, Shortages(log.warning))
        self.long = self.registry.kinds.long
        self.registry.kinds.on_freed = self._plan_anew
        self.snapshot: Snapshot
        self.books: tuple[PlanBook, PlanBook]
        self._actions: tuple[HostSet | Split | Respond | Redirect | FinalRecipient, ...] = ()
        self._networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the snapshot whole; exchanges under way end under the one they began with."""
        destinations = [d for rule in snapshot.rules if isinstance(rule.action, Send) for d in rule.action.destinations]
        host_sets = iter(self.registry.rebuild_host_sets(destinations, snapshot))
        actions: list[HostSet | Split | Respond | Redirect] = []
        for rule in snapshot.rules:
            if isinstance(rule.action, Send):
                own = [next(host_sets) for _ in rule.action.destinations]
                actions.append(own[0] if len(own) == 1 else Split(own, self.rng))
            else:
                actions.append(rule.action)
        if self.replies.max_headers != snapshot.limits.headers:
            self.replies = ReplyBook(snapshot.limits.headers)
        self.preface = encode_local(self.kin.credentials)
        self.snapshot = snapshot
        self.hashes = snapshot.balance is Policy.MAGLEV
        self.times_hosts = snapshot.balance is Policy.PEAK_EWMA
        self._hash_header = snapshot.hash_header.encode() if snapshot.hash_header else None
        self.cancels = snapshot.client_abort is ClientAbort.CANCEL
        self.idle_s = snapshot.timeouts.idle
        self.head_bytes = snapshot.limits.head
        self.body_rate = snapshot.limits.body_rate
        self.response_s = snapshot.timeouts.response
        self.quiet_s = min(self.response_s, peer_liveness.LOOK_S)
        self.grace_s = grace_s(snapshot.drain_s)
        self.draining = self._ending or snapshot.admin is not Admin.READY
        self._actions = (*actions, FinalRecipient())
        self._networks = tuple(ipaddress.ip_network(text) for text in snapshot.trusted_peers)
        self.books = (
            PlanBook(snapshot, self.registry.kinds, trusted=False),
            PlanBook(snapshot, self.registry.kinds, trusted=True),
        )
        self._part_with(self._parents, snapshot.parents)
        self._move_on()
        self.hold.note(destinations)

    def _plan_anew(self) -> None:
        for book in self.books:
            book.forget()

    def _part_with(self, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        self._parents = after
        self.gone |= dict.fromkeys(process for process in before if process not in after)
        for process in after:
            self.gone.pop(process, None)
        while len(self.gone) > GONE_KEPT:
            del self.gone[next(iter(self.gone))]

    def _move_on(self) -> None:
        """Connections that were placed by who is no parent any more, or all of them in drain, are to end politely."""
        parents, within_s = self.snapshot.parents, spread_s(self.snapshot.drain_s)
        for client in self.clients:
            if self.draining or (client.movable and not all(process in parents for process in client.way)):
                client.end_within(self.rng.uniform(0.0, within_s))

    def action(self, plan: Plan) -> HostSet | Respond | Redirect | FinalRecipient | None:
        """What the snapshot says of a request; a weighted split is drawn here, per request."""
        if plan.rule is None:
            return None
        action = self._actions[plan.rule]
        return action.pick() if isinstance(action, Split) else action

    def host_set_now(self, before: Choice) -> HostSet | None:
        """The host set of the current snapshot that sends where this one of an earlier snapshot did; rather not one
        whose split leads elsewhere too, for that is another rule's."""
        targets, shares = before.destination.targets, before.shares
        host_sets = [host_set for host_set in self.registry.host_sets if host_set.destination.targets == targets]
        return min(
            host_sets, key=lambda host_set: (host_set.shares != shares, host_set.split is not None), default=None
        )

    def key_of(self, client: ClientConnection, plan: Plan) -> int:
        """What consistent hashing goes by: the header field named, where it is there, else the client's address."""
        if self._hash_header is not None and (value := plan.head.get(self._hash_header)) is not None:
            return stable_hash(value)
        said = plan.head.get(b"x-forwarded-for") if client.trusted else None
        return stable_hash(said.partition(b",")[0].strip() if said else client.peer)

    def expiry(self) -> float:
        """When a connection that begins now has lasted long enough."""
        if self.draining:
            return self.reactor.now
        return self.reactor.now + self.rng.uniform(1 - AGE_JITTER, 1 + AGE_JITTER) * LONGEST_AGE_S

    def heed(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        """What the parents say of this node's siblings: if there is too much here, kept connections are closed."""
        self._response_s = load.response_s
        rate_per_s = closing_rate_per_s(self.movable, load, guidance)
        self.closing.set_rate(now, rate_per_s, why_close(load, guidance))

    def move(self, now: float) -> None:
        """Where it is not left to chance: choose which connections end with the answer they wait for."""
        if not self.closing.chooses or now - self._moved_at < MOVE_S_PER_CLIENT * len(self.clients):
            return
        self._moved_at = now
        movable = [client for client in self.clients if client.movable]
        waiting = [client for client in movable if not client.moves and client.waits]
        others = len(movable) - len(waiting) - sum(client.moves for client in movable)
        for client in self.closing.choose(now, waiting, others, self._response_s):
            client.moves = True

    def trusts(self, host: str) -> bool:
        """Whether a peer's X-Forwarded-* and request id are believed."""
        if not self._networks:
            return False
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)

    def accept(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        """A connection arrived."""
        host = peer[0]
        trusted = not listener.inner and self.trusts(host)
        self.clients.add(ClientConnection(self, sock, host, trusted=trusted, introduced=not listener.inner))
        self.counters.connections += 1

    def may_give_way(self) -> Iterable[ClientConnection]:
        """Connections that can be closed for new ones if they are idle."""
        return self.clients

    def turn_away(self, sock: socket.socket, *, at_once: bool) -> None:
        """The node is full: 503."""
        if at_once:
            self._refusals.refuse_at_once(sock)
        else:
            self._refusals.refuse(sock)

    def client_gone(self, client: ClientConnection) -> None:
        self._connection_over(client.tally, client.began)
        self.clients.discard(client)

    def _connection_over(self, tally: Tally, began: float) -> None:
        counters = self.counters
        counters.connections -= 1
        counters.ended += 1
        counters.lived_s += self.reactor.now - began
        tally.connections -= 1

    def tunnel_lost(self, tally: Tally, began: float) -> None:
        """What was to become a tunnel could not be joined."""
        self._connection_over(tally, began)
        tally.in_flight -= 1

    def tunnel_over(self, pipe: Pipe, host: Host, tally: Tally, began: float) -> None:
        """Its time says nothing about how fast requests are answered, so it counts as a connection's only."""
        self.tunnel_lost(tally, began)
        tally.done += 1
        counters = self.counters
        counters.waited += 1
        counters.bytes_in += pipe.client.carried
        counters.bytes_out += pipe.upstream.carried
        counters.piped_bytes += pipe.client.carried + pipe.upstream.carried
        host.finish()
        host.done += 1
        host.tunnel_over(tally, pipe)
        self.tunnels.pop(pipe, None)

    def drain(self) -> None:
        """Let requests under way finish, close what is idle; what a snapshot had drained before ends as it was to end.
        Tunnels last until the deadline."""
        self._ending = True
        if not self.draining:
            self.draining = True
            for client in list(self.clients):
                client.end_within(0.0)

    @property
    def drained(self) -> bool:
        return not self.clients and not self.tunnels

    def remainder(self) -> Remainder:
        """What is under way."""
        requests = sum(client.exchange is not None for client in self.clients)
        return Remainder(requests, len(self.tunnels), len(self.clients) - requests)

    def cut_from(self, host: Host) -> Remainder:
        """End what is under way at one host; what that was."""
        exchanges = [each for client in self.clients if (each := client.exchange) and each.host is host]
        for exchange in exchanges:
            exchange.take_from_host()
        tunnels = [pipe for pipe, host in self.tunnels.items() if host is host]
        for pipe in tunnels:
            pipe.finish(broken=True)
        return Remainder(len(exchanges), len(tunnels))

    def cut(self) -> None:
        """The deadline is over: end what is left. Answers that were sent for it may still have to be taken."""
        for client in list(self.clients):
            client.cut()
        for pipe in list(self.tunnels):
            pipe.finish(broken=True)

    def close(self) -> None:
        """The node ends."""
        for client in list(self.clients):
            client.on_broken(OSError("the node ends"))
        for pipe in list(self.tunnels):
            pipe.finish(broken=True)
        self._refusals.close()
        self.hold.close()
        self.registry.close()

    def _host_changed(self, event: str, host: Host) -> None:
        log_change(self.log, event, host)
