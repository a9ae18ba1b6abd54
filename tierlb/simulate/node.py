"""A node in virtual time: the product's choosers, views and reports around counts that a simulation moves.

What the data plane does with sockets happens here at once and without cost, unless the node is given a cost per item:
then its event loop is a queue with one server. Items pass down through `take`, and back up through `item_done`; every
`TICK_S` the node learns, works out its costs anew, and reports to those parents whose report is due.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from tierlb.balance.choosers import Chooser
from tierlb.balance.cost import ParentShare
from tierlb.balance.counted_host import CountedHost, learn_together
from tierlb.balance.guidance import (
    CloseBudget,
    SentGuidance,
    WaitingConnection,
    closing_rate_per_s,
    combine,
    guide,
    why_close,
)
from tierlb.balance.host_costs import refresh_costs
from tierlb.balance.kinds import Kinds
from tierlb.balance.learnt_speed import LearntSpeed
from tierlb.balance.load_aware import LoadAware
from tierlb.balance.load_estimate import TICK_S, HostTraits, LoadEstimate
from tierlb.balance.peak import PeakEwma
from tierlb.balance.pool_work import Work
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.ticket import Ticket
from tierlb.dataplane.account import child_of
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.model.topology import Policy
from tierlb.simulate.agenda import Agenda
from tierlb.simulate.kinds import SHORT_ROUTE, KindSource
from tierlb.simulate.leaf import SimulatedLeaf
from tierlb.simulate.rules import ComparedRule, RecentMean, chooser_for
from tierlb.simulate.visit import LeafVisit
from tierlb.telemetry.aggregate import NodeCounters, RecentRates, TargetFigures, WorkRates, aggregate
from tierlb.telemetry.pace import Pace
from tierlb.telemetry.tally import Tallies, Tally
from tierlb.telemetry.utilisation import LoopUse, OwnCapacity

GUIDE_S = 0.25
"""As often as a child reports, by which it is guided."""
LONG_AGO = -60.0
"""When hosts joined: slow start is over."""


class Movable(WaitingConnection, Protocol):
    """A client of a kept connection. `moves`: it is to close with the answer it waits for."""

    moves: bool


class Host(CountedHost):
    """One host as its parent knows it; `below` is what it really is."""

    __slots__ = ("below", "name", "parent", "peak", "share", "tally", "times_to_head", "told", "weight")

    def __init__(
        self, parent: "Node", below: "Node | SimulatedLeaf", parents: int, *, connections: bool = False
    ) -> None:
        reports = isinstance(below, Node)
        super().__init__(
            LoadEstimate(
                HostTraits(reports, endpoint=not reports, by_connection=connections and reports, equal=connections),
                ReceivedReports(ParentShare(parents)),
                LONG_AGO,
                speed=LearntSpeed(parent.work),
            ),
            parent.kinds,
        )
        self.parent = parent
        self.below = below
        self.name = below.name
        self.weight = 1.0
        self.tally = below.tallies.of(parent.name) if isinstance(below, Node) else Tally()
        self.share = self.estimate.received.share.value
        self.peak = PeakEwma()
        self.told = SentGuidance()
        self.times_to_head = RecentMean()

    def settle_at_once(self, now: float) -> None:
        """All costs of its parent are worked out anew."""
        self.parent.settle(now)

    def hear(self, report: tuple[SubtreeLoad, Echo]) -> None:
        """The child's report has arrived."""
        self.estimate.receive(self.parent.agenda.now, *report)
        self.share = self.estimate.received.share.value


@attrs.define
class Item:
    """One item on its way: when and to whom each node gave it, from the top down. `entry`: the first node's tally;
    `served` is called at the end. `work`: the seconds for which a short item needs a slot, or the source of another
    kind. `way`: the hosts that it goes to, where these are not to be chosen."""

    began: float
    entry: Tally
    served: Callable[["Item"], None]
    work: float | KindSource
    way: Sequence[Host] = ()
    path: list[Ticket[Host]] = attrs.field(factory=list)


@attrs.define
class Uplink:
    """One parent as its child knows it."""

    host: Host
    pace: Pace


class Node:
    """`cost_s`: what an item costs the event loop; 0: nothing. `report_delay_s`: how long reports and guidance are on
    their way. A node of `connections` chooses for connections (clients.py) and sees none of their items."""

    def __init__(
        self,
        name: str,
        agenda: Agenda,
        rng: random.Random,
        rule: Policy | ComparedRule = Policy.LOAD_AWARE,
        cost_s: float = 0.0,
        report_delay_s: float = 0.0,
        *,
        connections: bool = False,
    ) -> None:
        self.name = name
        self.agenda = agenda
        self.tallies = Tallies()
        self.hosts: list[Host] = []
        self.connections = connections
        self.waited = 0
        self.reports = 0
        self.long_ones = 0
        self.closed = 0
        self.connected_s = 0.0
        self.closing = CloseBudget()
        self.waiting: dict[Movable, None] = {}
        """Clients of kept connections that wait for an answer, and are not to close with it."""
        self.moving = 0
        self.guidances: dict[str, Guidance] = {}
        self._rng = rng
        self.times_hosts = rule is Policy.PEAK_EWMA
        self._chooser: Chooser[Host] = chooser_for(rule, rng)
        self._cost_s = cost_s
        self._work_s = 0.0
        self._free_at = 0.0
        self.kinds: Kinds = Kinds()
        self.work: Work = Work()
        self._report_delay_s = report_delay_s
        self._uplinks: list[Uplink] = []
        self._rates = RecentRates()
        self._work_rates = WorkRates()
        self._use = LoopUse()
        self._own = OwnCapacity()

    def start(self, parents: Sequence["Node"], children: Sequence[tuple["Node | SimulatedLeaf", int]]) -> None:
        """Join the tree: the hosts with their numbers of parents. Top-down: a node's parents start before it."""
        self.hosts = [Host(self, *child, connections=self.connections) for child in children]
        for parent in parents:
            own = next(host for host in parent.hosts if host.below is self)
            self._uplinks.append(Uplink(own, Pace(self._rng)))
        self.settle(self.agenda.now)
        self.agenda.at(self.agenda.now + self._rng.uniform(0, TICK_S), self._tick)
        if self.connections:
            self.agenda.at(self.agenda.now + self._rng.uniform(0, GUIDE_S), self._guide)

    # Items.

    def accept(self, item: Item) -> None:
        """An item has come from outside the tree."""
        item.entry.begin()
        self.take(item)

    def take(self, item: Item) -> None:
        """An item has come; whoever gave it has counted it in this node's tally."""
        self.long_ones += isinstance(item.work, KindSource)
        if self._cost_s:
            self._free_at = max(self._free_at, self.agenda.now) + self._cost_s
            self._work_s += self._cost_s
            self.agenda.at(self._free_at, self._pass_on, item)
        else:
            self._pass_on(item)

    def _pass_on(self, item: Item) -> None:
        now = self.agenda.now
        source = item.work if isinstance(item.work, KindSource) else None
        kind = self.kinds.place(SHORT_ROUTE if source is None else source.kind.route)
        long = self.kinds.long[kind.number]
        host = item.way[len(item.path)] if item.way else self._pick(long=long)
        own = item.path[-1].host.tally if item.path else item.entry
        ticket = host.begin(now, own, kind, long=long)
        if source is None or source.sending is None:
            ticket.sent = now
        host.tally.begin()
        item.path.append(ticket)
        below = host.below
        if isinstance(below, Node):
            below.take(item)
        elif isinstance(item.work, KindSource):
            LeafVisit(self.agenda, below, item.work, item, item_sent, item_headed, item_done).begin()
        else:
            below.serve(item_done, item, item.work)

    def _pick(self, *, long: bool) -> Host:
        """As dataplane.upstream.host_set.HostSet chooses."""
        if long and isinstance(self._chooser, LoadAware):
            chosen: Host | None = self._chooser.for_long(self.hosts)
            assert chosen is not None
            return chosen
        return self._chooser.pick(0)

    def choose(self) -> Host:
        """The host for the next connection."""
        return self._chooser.pick(0)

    @property
    def in_flight(self) -> int:
        return self.tallies.total().in_flight

    @property
    def expected(self) -> tuple[float, float]:
        """At the best of the leaves below."""
        return min(host.below.expected for host in self.hosts)

    def waited_s(self) -> float:
        """How long the event loop has waited since the start."""
        now = self.agenda.now
        return now - self._work_s + max(0.0, self._free_at - now)

    # Choices.

    def settle(self, now: float) -> None:
        """Draw the lines anew, as dataplane.upstream.registry does every tick."""
        hosts = self.hosts
        refresh_costs(hosts, now, [host.weight for host in hosts])
        self._chooser.rebuild(hosts)

    # Reports.

    def _tick(self, _: Any) -> None:
        now = self.agenda.now
        for c in self.hosts:
            c.learn_from_items(now)
            if not c.in_flight:
                c.peak.idle(now)
        self.kinds.learn(now)
        learn_together(self.hosts, TICK_S)
        self.settle(now)
        counters = self.counters()
        self._rates.sample(now, counters)
        self._work_rates.sample(now, {self.name: sum(c.estimate.speed.work_done_s for c in self.hosts)})
        self._use.sample(now, self.waited_s())
        effort, done = counters.arrivals, counters.done - counters.waited
        self._own.sample(now, self.waited_s(), done, effort, parked=counters.parked > 0)
        if self._uplinks:
            load = self.subtree(now)
            self._report(now, load)
            guidance = combine(self.guidances.values())
            rising = attrs.evolve(load, response_s=self._rates.value.rising_s)
            rate_per_s = closing_rate_per_s(load.connections, rising, guidance)
            self.closing.set_rate(now, rate_per_s, why_close(rising, guidance))
            self._move(now, load.connections, rising.response_s)
        self.agenda.at(now + TICK_S, self._tick)

    def _move(self, now: float, connections: int, response_s: float) -> None:
        """Choose which connections end with the answer they wait for."""
        waiting = list(self.waiting)
        others = connections - self.moving - len(waiting)
        for client in self.closing.choose(now, waiting, others, response_s):
            client.moves = True
            self.moving += 1
            del self.waiting[client]

    def counters(self) -> NodeCounters:
        total = self.tallies.total()
        return NodeCounters(
            total.in_flight,
            total.arrivals,
            total.done,
            connections=total.connections,
            closed=self.closed,
            timed=self.kinds.heads.count,
            timed_s=self.kinds.heads.seconds,
            connected_s=self.connected_s,
            parked=total.parked,
            waited=self.waited,
            judged=self.kinds.heads.count,
            usual_s=self.kinds.heads.usual_s,
            ratios=self.kinds.heads.ratios,
        )

    def subtree(self, now: float) -> SubtreeLoad:
        """What all parents are told."""
        rate, standard_s = self._work_rates.rate(self.name), self.work.standard_s
        known = rate is not None and standard_s and self.hosts[0].estimate.traits.endpoint
        items_per_s = rate / standard_s if known and rate is not None else None
        target = TargetFigures(1.0, [child_of(host, now) for host in self.hosts], items_per_s)
        return aggregate(
            self.counters(),
            self._rates.value,
            self._use.busy,
            self._own.capacity,
            [target],
            own_age_s=self._own.age_s(now),
            kinds=self.kinds.counts.value(),
        )

    def _report(self, now: float, load: SubtreeLoad) -> None:
        for uplink in self._uplinks:
            if uplink.pace.wait_s(now, load) <= 0:
                uplink.pace.sent(now, load)
                self.reports += 1
                report = (load, uplink.host.tally.echo())
                self.agenda.at(now + self._report_delay_s, uplink.host.hear, report)

    # Guidance.

    def _guide(self, _: Any) -> None:
        """Tell the children what the others are doing, as far as they need to know now."""
        now = self.agenda.now
        heard = [(each, child) for each in self.hosts if (child := each.estimate.as_child(each.in_flight)) is not None]
        for (host, _), words in zip(heard, guide([child for _, child in heard]), strict=True):
            if isinstance(host.below, Node) and host.told.is_due(now, words):
                self.agenda.at(now + self._report_delay_s, host.below.heed, (self.name, words))
        self.agenda.at(now + GUIDE_S, self._guide)

    def heed(self, said: tuple[str, Guidance]) -> None:
        """A parent's guidance has arrived."""
        self.guidances[said[0]] = said[1]


def way_to(node: Node, leaf: SimulatedLeaf) -> list[Host]:
    """The hosts between the node and the leaf, from the top down; empty if the leaf is not below it."""
    for host in node.hosts:
        if host.below is leaf:
            return [host]
        if isinstance(host.below, Node) and (further := way_to(host.below, leaf)):
            return [host, *further]
    return []


def item_sent(item: Item) -> None:
    """The client has sent all of it: from now on the head of the answer is owed."""
    for ticket in item.path:
        ticket.sent = ticket.host.parent.agenda.now


def item_headed(item: Item) -> None:
    """The answer's head has come, and its body follows."""
    streamed = isinstance(item.work, KindSource) and item.work.kind.streamed
    for ticket in item.path:
        host, now = ticket.host, ticket.host.parent.agenda.now
        host.times_to_head.add(now - ticket.began)
        ticket.answered(now, streamed)


def item_done(item: Item) -> None:
    """The leaf has served it; all nodes on the way learn that at once."""
    if not isinstance(item.work, KindSource):
        item_headed(item)
    item.entry.end(done=True)
    for ticket in item.path:
        host, node = ticket.host, ticket.host.parent
        now = node.agenda.now
        if node.times_hosts:
            host.peak.observe(now, now - ticket.began)
        if ticket.done(now):
            node.waited += 1
        host.tally.end(done=True)
    item.served(item)
