"""A node in virtual time: the product's choosers, views and reports around counts that a simulation moves.

What the data plane does with sockets happens here at once and without cost, unless the node is given a cost per item:
then its event loop is a queue with one server. Items pass down through `take`, and back up through `item_done`; every
`LEARN_TICK_S` the node learns, works out its costs anew, and reports to those parents whose report is due.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tierlb.balance.choosers import Chooser
from tierlb.balance.cost import ParentShare
from tierlb.balance.counted_host import CountedHost, learn_together
from tierlb.balance.guidance import SentGuidance, guide
from tierlb.balance.host_costs import refresh_costs
from tierlb.balance.kinds import Kinds
from tierlb.balance.learnt_speed import LearntSpeed
from tierlb.balance.load_aware import LoadAware
from tierlb.balance.load_estimate import LEARN_TICK_S, HostTraits, LoadEstimate
from tierlb.balance.peak import PeakEwma
from tierlb.balance.pool_work import Work
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.ticket import Ticket
from tierlb.dataplane.account import child_of
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.model.topology import Policy
from tierlb.simulate.agenda import Agenda
from tierlb.simulate.client_moves import ClientMoves
from tierlb.simulate.event_loop import SimulatedLoop
from tierlb.simulate.kinds import SHORT_ROUTE, KindSource
from tierlb.simulate.leaf import SimulatedLeaf
from tierlb.simulate.node_figures import NodeFigures
from tierlb.simulate.rules import ComparedRule, RecentMean, chooser_for
from tierlb.simulate.visit import LeafVisit
from tierlb.telemetry.aggregate import NodeCounters, TargetFigures
from tierlb.telemetry.pace import Pace
from tierlb.telemetry.tally import Tallies, Tally

GUIDE_S = 0.25
"""As often as a child reports, by which it is guided."""
LONG_AGO = -60.0
"""When hosts joined: slow start is over."""


class SimulatedHost(CountedHost):
    """One host as its parent sees it; `below` is the simulated node or endpoint."""

    __slots__ = ("below", "name", "parent", "peak", "sent_guidance", "share", "tally", "times_to_head", "weight")

    def __init__(
        self,
        parent: "SimulatedNode",
        below: "SimulatedNode | SimulatedLeaf",
        parents: int,
    ) -> None:
        reports, connections = isinstance(below, SimulatedNode), parent.host_set.connections
        super().__init__(
            LoadEstimate(
                HostTraits(reports, endpoint=not reports, by_connection=connections and reports, equal=connections),
                ReceivedReports(ParentShare(parents)),
                LONG_AGO,
                speed=LearntSpeed(parent.host_set.work),
            ),
            parent.kinds,
        )
        self.parent = parent
        self.below = below
        self.name = below.name
        self.weight = 1.0
        self.tally = below.tallies.of(parent.name) if isinstance(below, SimulatedNode) else Tally()
        self.share = self.estimate.received.share.value
        self.peak = PeakEwma()
        self.sent_guidance = SentGuidance()
        self.times_to_head = RecentMean()

    def settle_at_once(self, now: float) -> None:
        """All costs of its parent are worked out anew."""
        self.parent.host_set.settle(now)

    def receive(self, report: tuple[SubtreeLoad, Echo, float]) -> None:
        """The child's report has arrived."""
        self.estimate.receive(self.parent.agenda.now, *report)
        self.share = self.estimate.received.share.value


@attrs.define
class Item:
    """One item on its way, with its tickets from the top down. `entry`: the first node's tally; `served` is called at
    the end. `work`: the seconds for which a short item needs a slot, or the source of another kind. `way`: the hosts
    that it goes to, where these are not to be chosen."""

    began: float
    entry: Tally
    served: Callable[["Item"], None]
    work: float | KindSource
    way: Sequence[SimulatedHost] = ()
    path: list[Ticket[SimulatedHost]] = attrs.field(factory=list)


class SimulatedHostSet:
    """The hosts of one node: the choice among them, for items or for `connections`, and what they learn together."""

    __slots__ = ("_chooser", "connections", "hosts", "kinds", "times_hosts", "work")

    def __init__(self, rule: Policy | ComparedRule, rng: random.Random, *, connections: bool) -> None:
        self.connections = connections
        self.hosts: list[SimulatedHost] = []
        self.kinds: Kinds = Kinds()
        self.work: Work = Work()
        self.times_hosts = rule is Policy.PEAK_EWMA
        self._chooser: Chooser[SimulatedHost] = chooser_for(rule, rng)

    def choose(self, *, long: bool) -> SimulatedHost:
        """As dataplane.upstream.host_set.HostSet chooses."""
        if long and isinstance(self._chooser, LoadAware):
            chosen: SimulatedHost | None = self._chooser.for_long(self.hosts)
            assert chosen is not None
            return chosen
        return self._chooser.pick(0)

    def settle(self, now: float) -> None:
        """Work out all costs anew, as dataplane.upstream.registry does every tick."""
        hosts = self.hosts
        refresh_costs(hosts, now, [host.weight for host in hosts])
        self._chooser.rebuild(hosts)

    def learn(self, now: float) -> None:
        """A tick is over."""
        for host in self.hosts:
            host.learn_from_items(now)
            if not host.in_flight:
                host.peak.idle(now)
        self.kinds.learn(now)
        learn_together(self.hosts, LEARN_TICK_S)
        self.settle(now)


@attrs.define
class SimulatedUplink:
    """A child's connection to one parent, which sees it as `host`."""

    host: SimulatedHost
    pace: Pace
    delay_s: float
    sent: int = 0

    def report(self, now: float, load: SubtreeLoad) -> None:
        """Send what the child reports now, if that is due."""
        if self.pace.wait_s(now, load) <= 0:
            self.pace.sent(now, load)
            self.sent += 1
            report = (load, self.host.tally.echo(), self.pace.next_s)
            self.host.parent.agenda.at(now + self.delay_s, self.host.receive, report)


class SimulatedNode:
    """`cost_s`: what an item costs the event loop; 0: nothing. `report_delay_s`: how long reports and guidance are on
    their way. A node of `connections` chooses for connections (clients.py) and sees none of their items. `waited`:
    items that were parked at their end. `long_ones`: items that were no short ones."""

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
        self.host_set = SimulatedHostSet(rule, rng, connections=connections)
        self.waited = 0
        self.long_ones = 0
        self.moves = ClientMoves()
        self._rng = rng
        self._report_delay_s = report_delay_s
        self._loop = SimulatedLoop(agenda, cost_s)
        self._uplinks: list[SimulatedUplink] = []
        self._figures = NodeFigures()

    def start(
        self, parents: Sequence["SimulatedNode"], children: Sequence[tuple["SimulatedNode | SimulatedLeaf", int]]
    ) -> None:
        """Join the tree: the hosts with their numbers of parents. Top-down: a node's parents start before it."""
        self.host_set.hosts = [SimulatedHost(self, *child) for child in children]
        for parent in parents:
            own = next(host for host in parent.hosts if host.below is self)
            self._uplinks.append(SimulatedUplink(own, Pace(self._rng), self._report_delay_s))
        self.host_set.settle(self.agenda.now)
        self.agenda.at(self.agenda.now + self._rng.uniform(0, LEARN_TICK_S), self._tick)
        if self.host_set.connections:
            self.agenda.at(self.agenda.now + self._rng.uniform(0, GUIDE_S), self._guide)

    # Items.

    def accept(self, item: Item) -> None:
        """An item has come from outside the tree."""
        item.entry.begin()
        self.take(item)

    def take(self, item: Item) -> None:
        """An item has come; the node that gave it has counted it in this node's tally."""
        self.long_ones += isinstance(item.work, KindSource)
        self._loop.serve(self._pass_on, item)

    def _pass_on(self, item: Item) -> None:
        now = self.agenda.now
        source = item.work if isinstance(item.work, KindSource) else None
        host_set = self.host_set
        kind = host_set.kinds.place(SHORT_ROUTE if source is None else source.kind.route)
        long = host_set.kinds.long[kind.number]
        host = item.way[len(item.path)] if item.way else host_set.choose(long=long)
        own = item.path[-1].host.tally if item.path else item.entry
        ticket = host.begin(now, own, kind, long=long)
        if source is None or source.sending is None:
            ticket.sent = now
        host.tally.begin()
        item.path.append(ticket)
        below = host.below
        if isinstance(below, SimulatedNode):
            below.take(item)
        elif isinstance(item.work, KindSource):
            LeafVisit(self.agenda, below, item.work, item, item_sent, item_headed, item_done).begin()
        else:
            below.serve(item_done, item, item.work)

    def choose(self) -> SimulatedHost:
        """The host for the next connection."""
        return self.host_set.choose(long=False)

    @property
    def hosts(self) -> list[SimulatedHost]:
        return self.host_set.hosts

    @property
    def kinds(self) -> Kinds:
        return self.host_set.kinds

    @property
    def in_flight(self) -> int:
        return self.tallies.total().in_flight

    @property
    def expected(self) -> tuple[float, float]:
        """At the best of the leaves below."""
        return min(host.below.expected for host in self.hosts)

    def waited_s(self) -> float:
        """How long the event loop has waited since the start."""
        return self._loop.waited_s()

    # Reports.

    def _tick(self, _: Any) -> None:
        now = self.agenda.now
        self.host_set.learn(now)
        counters = self.counters()
        work_done_s = sum(host.estimate.speed.work_done_s for host in self.hosts)
        self._figures.sample(now, counters, work_done_s, self.waited_s())
        if self._uplinks:
            load = self.subtree(now)
            for uplink in self._uplinks:
                uplink.report(now, load)
            self.moves.follow(now, load, self._figures.rising_s)
        self.agenda.at(now + LEARN_TICK_S, self._tick)

    def counters(self) -> NodeCounters:
        total = self.tallies.total()
        return NodeCounters(
            total.in_flight,
            total.arrivals,
            total.done,
            connections=total.connections,
            closed=self.moves.closed,
            timed=self.kinds.heads.count,
            timed_s=self.kinds.heads.seconds,
            connected_s=self.moves.connected_s,
            parked=total.parked,
            waited=self.waited,
            judged=self.kinds.heads.count,
            usual_s=self.kinds.heads.usual_s,
            ratios=self.kinds.heads.ratios,
        )

    def subtree(self, now: float) -> SubtreeLoad:
        """What is reported to all parents."""
        of_leaves = self.hosts[0].estimate.traits.endpoint
        items_per_s = self._figures.items_per_s(self.host_set.work.standard_s) if of_leaves else None
        target = TargetFigures(1.0, [child_of(host, now) for host in self.hosts], items_per_s)
        return self._figures.subtree(now, self.counters(), target, self.kinds.counts.value())

    @property
    def reports(self) -> int:
        """How many it has sent."""
        return sum(uplink.sent for uplink in self._uplinks)

    # Guidance.

    def _guide(self, _: Any) -> None:
        """Send the children that report their guidance, if it is due."""
        now = self.agenda.now
        reporting = [
            (each, child) for each in self.hosts if (child := each.estimate.as_child(each.in_flight)) is not None
        ]
        for (host, _), guidance in zip(reporting, guide([child for _, child in reporting]), strict=True):
            if isinstance(host.below, SimulatedNode) and host.sent_guidance.is_due(now, guidance):
                self.agenda.at(now + self._report_delay_s, host.below.note_guidance, (self.name, guidance))
        self.agenda.at(now + GUIDE_S, self._guide)

    def note_guidance(self, said: tuple[str, Guidance]) -> None:
        """A parent's guidance has arrived."""
        self.moves.note_guidance(*said)


def way_to(node: SimulatedNode, leaf: SimulatedLeaf) -> list[SimulatedHost]:
    """The hosts between the node and the leaf, from the top down; empty if the leaf is not below it."""
    for host in node.hosts:
        if host.below is leaf:
            return [host]
        if isinstance(host.below, SimulatedNode) and (further := way_to(host.below, leaf)):
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
        if node.host_set.times_hosts:
            host.peak.observe(now, now - ticket.began)
        if ticket.done(now):
            node.waited += 1
        host.tally.end(done=True)
    item.served(item)
