"""The load estimate of one host, and the cost by which a node chooses.

The estimate combines the node's own counts (exact), the host's reports (late) and the times of its answers. From these
`cost` makes `in_flight * slope + offset`, which the hot path evaluates with its own count alone; slope and offset are
recomputed every `LEARN_TICK_S`, when a report arrives and after an error.

One class serves all kinds of hosts, described by `HostTraits`:
* an endpoint that reports nothing: its capacity follows from the times of its answers and its slots;
* a child node: its answers are judged in the same way, by their times here or by those that it reports;
* an agent beside an endpoint: the capacity that it reports is used;
* a host whose reports stopped (balance/staleness.py).
The data plane and the simulator both use it. Left out: the choice between hosts (balance/choosers.py).
"""

import math
from collections.abc import Sequence

import attrs

from tierlb.balance.capacity import ALIKE
from tierlb.balance.cost import NEXT_ITEM, Cost, connection_tau_s, freshness, predicted_cost, tau_s
from tierlb.balance.error_penalty import HostPenalties
from tierlb.balance.guidance import GuidedChild
from tierlb.balance.kinds import Answers
from tierlb.balance.learnt_speed import LearntSpeed
from tierlb.balance.mean_in_flight import MeanInFlight
from tierlb.balance.medians import median_low
from tierlb.balance.pool_slots import GUESSED_SLOTS, HostSlots
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.recovery_probe import RecoveryProbe
from tierlb.balance.returning import LOT, PROVEN_S, Returning
from tierlb.balance.slow_start import FIRST_SHARE, slow_start
from tierlb.balance.staleness import trusted_capacity
from tierlb.balance.stated_capacity import StatedCapacity, stated_items_per_s
from tierlb.model.load import REPORT_INTERVAL_S, Echo, SubtreeLoad

LEARN_TICK_S = 0.05
LEAST_ITEMS_PER_CONNECTION = 0.02
"""Connections without requests count as this much: they use memory, and may all send requests at once."""
MOST_OWN_SCALE = 4.0
SLOTS_ALIKE = 2.5
"""Slots per leaf of two nodes count as equal within this factor, because each node learns them by itself."""
NO_ANSWERS = Answers()
LEAST_IN_FLIGHT = 1e-3
"""Less is none: the integral of what is parked is a difference of large sums, and its last digits are noise."""
LEAST_COST_WEIGHT = 1e-9
"""Of the heaviest sibling's weight: it is divided by. Hosts of weight 0 are not chosen anyway."""


@attrs.frozen
class HostTraits:
    """What kind of host it is, which never changes."""

    reports: bool
    """It is a node or has an agent that reports."""
    endpoint: bool = True
    """It is no node."""
    by_connection: bool = False
    """This node gives it connections while its reports count requests."""
    equal: bool = False
    """This node gives it connections. The capacity of an endpoint does not show in when these end, so that all
    endpoints count the same."""

    @property
    def by_activity(self) -> bool:
        """It is given connections and does not report how they are used, so that this node watches them."""
        return self.equal and not self.reports


@attrs.define(slots=True)
class LoadEstimate:
    """One host. `joined`: when its slow start began."""

    traits: HostTraits
    received: ReceivedReports
    joined: float
    slots: HostSlots = attrs.field(factory=HostSlots)
    speed: LearntSpeed = attrs.field(factory=LearntSpeed)
    stated: StatedCapacity = attrs.field(factory=StatedCapacity)
    penalties: HostPenalties = attrs.field(factory=HostPenalties)
    probe: RecoveryProbe = attrs.field(factory=RecoveryProbe)
    returning: Returning = attrs.field(factory=Returning)
    in_flight: MeanInFlight = attrs.field(
        default=attrs.Factory(lambda self: MeanInFlight(self.joined), takes_self=True)
    )

    def receive(self, now: float, load: SubtreeLoad, echo: Echo, next_s: float = REPORT_INTERVAL_S) -> None:
        """A report came, and says when the next one is due."""
        self.received.receive(now, load, echo, by_connection=self.traits.by_connection, next_s=next_s)
        if load.slots and self.traits.endpoint and not self.traits.by_connection:
            self.slots.declare(load.slots)

    def note_stated(self, now: float, rate: float, busy: float, slots: int) -> None:
        """An endpoint stated in a response its rate in items per second, its utilisation (0..1) and its slots (0: not
        stated)."""
        if slots:
            self.slots.declare(slots)
        if (capacity := stated_items_per_s(rate, busy)) is not None:
            self.stated.note(now, self.speed.in_standard_items(capacity))

    @property
    def knows_slots(self) -> bool:
        """Whether its slots are more than the first guess."""
        return self.slots.declared > 0 or self.speed.work.slots.known

    @property
    def learns_slots(self) -> bool:
        """Whether its slots are to be learnt from its items."""
        return not (self.slots.declared or self.traits.equal or self.traits.reports)

    def learn_slots(self, usual_s: float, here: int, time_s: float) -> None:
        """An item, usually of `usual_s` (0: unknown), began when so many of this node's competed, and took `time_s`.
        Every other parent is assumed to have as many items there as this one has on average."""
        if usual_s:
            others = (self.received.share.parents - 1) * self.in_flight.value
            self.slots.concurrency.add(usual_s, ((round(here + others), time_s),))

    def advance(
        self, now: float, area_s: float, answers: Answers = NO_ANSWERS, *, overdue: float = 0.0, parked: int = 0
    ) -> None:
        """Learn from this node's own counts: the integral of its items in flight there, of which so many are parked
        now, and the answers. `overdue`: how late items are that wait, as a sum of ratios (balance/slowness.py)."""
        dt_s, in_flight = self.in_flight.advance(now, area_s, parked)
        busy = in_flight > LEAST_IN_FLIGHT
        self.slots.concurrency.wait(dt_s)
        if answers.count:
            self.speed.learnt_at = now
        if self.traits.by_connection:
            self.speed.learn_reported(dt_s, answers, overdue)
        elif not self.traits.equal:
            self.speed.learn_timed(dt_s, answers, overdue, busy=busy)
        if self.traits.by_connection and self.speed.known:
            self.probe.due = False
        elif self.received.latest is not None:
            self.probe.advance(dt_s, busy or self.received.latest.queued > 0)

    def compare(self, dt_s: float, answers: Answers, usual_slowness: float, leaf_slots: float) -> None:
        """Compare it with its siblings, whose slowness is `usual_slowness` and whose leaves have `leaf_slots` each.
        Slots are learnt, and not everywhere at the same time: nodes that differ little in them, or have learnt none,
        are assumed to have the same. A child that is much slower is watched for its return."""
        self.speed.usual_slowness = usual_slowness
        latest = self.received.latest
        if not self.traits.endpoint and latest is not None and latest.ready_leaves:
            own = self.received.leaf_slots or leaf_slots
            alike = 1 / SLOTS_ALIKE <= own / leaf_slots <= SLOTS_ALIKE
            self.slots.declare((leaf_slots if alike else own) * latest.ready_leaves)
        if not self.traits.by_connection or not self.speed.known:
            return
        slowness = self.speed.slowness
        found = self.returning.look(dt_s, answers, self.received.overdue, slowness.value, usual_slowness)
        if found is not None:
            slowness.believe(max(found, usual_slowness), LOT)
            self.joined = self.in_flight.at - PROVEN_S

    @property
    def return_looked_at(self) -> float:
        """When the rest or probe (balance/returning.py) of a slow child is over, as of the last tick; never for any
        other."""
        is_watched = self.traits.by_connection and self.speed.known and self.speed.is_slow
        return self.in_flight.at + self.returning.left_s if is_watched else math.inf

    def as_child(self, connections: int) -> GuidedChild | None:
        """What guidance compares; None while no report arrives. `connections`: those of this node at the host."""
        load = self.received.latest
        if load is None or not self.received.connected:
            return None
        known = self.traits.by_connection and self.speed.known
        usual_slowness = self.speed.usual_slowness
        own_scale = self._own_scale(load)
        return GuidedChild(
            load.utilisation / own_scale,
            load.capacity,
            self.speed.slowness.value / usual_slowness if known else 0.0,
            self.speed.own_work.usual_s * usual_slowness if known else 0.0,
            self._allowed_part(self.in_flight.at),
            connections,
            self.returning.probing,
            self.returning.climbs_s > 0,
            own_scale,
        )

    def _own_scale(self, load: SubtreeLoad) -> float:
        """The factor by which the child overestimates its use: it learns its slots from its own items alone."""
        shown = self._reported_capacity() if self.traits.by_connection else None
        if not shown or not load.capacity:
            return 1.0
        return min(MOST_OWN_SCALE, max(1 / MOST_OWN_SCALE, shown / load.capacity))

    def _allowed_part(self, now: float) -> float:
        """The part of its capacity that slow start, or a probe of its return, allows."""
        return FIRST_SHARE if self.returning.probing else slow_start(now - self.joined)

    def capacity(self, now: float, median: float | None) -> float | None:
        """Standard items per second (balance/pool_work.py), as far as they can be trusted now; None: unknown. `median`:
        that of its siblings."""
        if self.traits.reports:
            reported = self._reported_capacity()
            age_s = self.received.age_s(now)
            known = trusted_capacity(reported, age_s, REPORT_INTERVAL_S, self.received.connected, median)
            if known is not None or self.traits.equal:
                return known
        return None if self.traits.equal else self.stated.at_most(now, self.learnt_capacity)

    def capacity_to_report(self, now: float) -> float | None:
        """The same for reports and operators, who need the most that it can do: without the waits of items for one
        another, and a second or more late."""
        if self.traits.equal or (self.traits.reports and self.capacity(now, None) != self.learnt_capacity):
            return self.capacity(now, None)
        return self.stated.at_most(now, self.speed.capacity_without_waits(self.slots))

    def _reported_capacity(self) -> float | None:
        """By its reports; None where they hold no capacity, and for a child that is probed."""
        load = self.received.latest
        if load is None or self.returning.probing:
            return None
        shown = None if self.traits.endpoint else self.learnt_capacity
        if shown is not None:
            return min(shown, load.own_capacity) if load.own_capacity else shown
        if load.capacity <= 0:
            return None
        return self.speed.in_standard_items(load.capacity) if self.traits.endpoint else load.capacity

    @property
    def learnt_capacity(self) -> float | None:
        """By its answers, in standard items per second; None before the first."""
        return self.speed.capacity(self.slots.value)

    def likeness(self, now: float) -> float:
        """The factor by which its capacity may seem lower than that of an equal host."""
        if self.traits.equal or self.traits.by_connection or self.stated.value(now) is not None:
            return ALIKE
        reported = self.received.has_capacity and (self.traits.endpoint or not self.speed.known)
        return ALIKE if reported else self.speed.slowness.likeness

    def capacity_age_s(self, now: float) -> float | None:
        """The age of the newest figure behind `capacity`; None where nothing is known of this host itself."""
        load = self.received.latest
        if load is not None and self.received.has_capacity:
            return now - self.received.received_at + load.capacity_age_s
        if self.traits.equal:
            return None
        if (age_s := self.stated.age_s(now)) is not None:
            return age_s
        return None if self.learnt_capacity is None else now - self.speed.learnt_at

    def cost(
        self,
        now: float,
        capacity: float,
        own: int = 0,
        weight: float = 1.0,
        left_out: float = 0.0,
        *,
        probe: bool = False,
    ) -> Cost:
        """The cost of this host. `capacity` has been settled among the siblings. `own`: how many items this node has in
        flight there. `weight` (0..1): as a part of its heaviest sibling's. Like slow start it scales the queue and not
        the time of an item, because an idle tier would else send everything to the heaviest host. `left_out`: how many
        of the own items count as no queue. `probe`: it is to get the next item."""
        if (probe or self.speed.slowness.probe.active or self.probe.due) and not self.penalties.value(now):
            slope, offset = NEXT_ITEM
        else:
            slope, offset = self._predicted_cost(now, capacity, own, weight)
        return slope, offset - left_out * slope

    def _predicted_cost(self, now: float, capacity: float, own: int, weight: float) -> Cost:
        part, penalty = self._allowed_part(now) * max(weight, LEAST_COST_WEIGHT), self.penalties.value(now)
        received, share = self.received, self.received.share.value
        if not self.traits.reports:
            return predicted_cost(0.0, 0, share, penalty, capacity, 1.0, self.slots.item_weight, part)
        items, ahead = 1.0, 1.0
        if self.traits.by_connection:
            items = max(LEAST_ITEMS_PER_CONNECTION, received.items_per_connection)
            ahead = self.speed.items_in_item_time(capacity, probing=self.returning.probing)
        load = received.latest
        if load is None or not received.connected:
            return predicted_cost(0.0, 0, share, penalty, capacity, items, ahead, part)
        age_s = received.elapsed_s(now) + load.age_s
        tau = connection_tau_s(load.connection_s) if self.traits.by_connection else tau_s(load.response_s)
        others = max(0, load.queued - received.echo.queued)
        counted = min(received.echo.connections, own) if self.traits.by_connection else 0
        return predicted_cost(freshness(age_s, tau), others, share, penalty, capacity, items, ahead, part, counted)


def usual_leaf_slots(siblings: Sequence[LoadEstimate]) -> float:
    """Slots for each ready leaf below the nodes among the siblings: as most of them report it. Where none does, it is
    what would give the capacities that they report: a leaf that several nodes share counts in each by a part, which no
    other figure shows."""
    nodes = [each for each in siblings if not each.traits.endpoint]
    reported = [slots for each in nodes if (slots := each.received.leaf_slots)]
    if reported or not nodes:
        return median_low(reported or [GUESSED_SLOTS])
    implied = [slots for each in nodes if (slots := _implied_leaf_slots(each))]
    return median_low(implied or [GUESSED_SLOTS])


def _implied_leaf_slots(node: LoadEstimate) -> float | None:
    load = node.received.latest
    if load is None or not load.ready_leaves:
        return None
    slots = node.speed.slots_of(load.capacity)
    return None if slots is None else slots / load.ready_leaves
