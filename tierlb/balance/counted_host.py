"""What is counted at one host, and what is learnt from it at every tick.

The data plane's hosts and those of the simulator are both `CountedHost`s, so that both learn by the same code. The hot
path writes the counts in place: `begin_item` and `end_item` say what belongs together.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median, median_low

from tierlb.balance.activity import in_whole
from tierlb.balance.capacity import settle
from tierlb.balance.chance import alike_within
from tierlb.balance.cost import comparable
from tierlb.balance.interference import Seen
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import NO_ANSWERS, LoadEstimate
from tierlb.balance.parking import PARKED_AFTER_S, StuckTrial
from tierlb.balance.pool_slots import FIRST_GUESS
from tierlb.balance.under_way import ParkedCount, UnderWay, look

SAMPLES_PER_TICK = 4
"""Items of a host per tick whose times tell of its slots. A window needs some 50 of a second."""
MOST_SAMPLED = 32
"""Of them, those that wait for their answers."""

Sample = tuple[UnderWay, float, int]
"""An item, when it began, and how many competed for slots then."""


class CountedHost:
    """`slope`, `offset` and `capacity` (items per second) are what it is chosen by. `in_flight` counts all items,
    `parked` those of them that are parked (balance/parking.py). `beginnings`: when these items, and those that became
    tunnels, began. `early` are those that were parked from their beginning, since most of their kind are. `unqueued`
    items were stuck at the last tick and are to be overtaken by one. `left_out` is how much of what is in flight the
    line takes for no queue. Of connections whose use is watched
    (balance/activity.py) `lightness` is by how much they count less than as many whole ones, and `served` when the
    latest ask was made that is known to be answered.

    What is parked counts at the host and in the tally of the connection on which it came. Both change here alone,
    together and once in each direction: `_enter` as an item is parked, `leave_parking` or `end_tunnel` when it is over,
    `count_connection` for both of connections.

    `moments` is the sum of the times at which items ended less that of the times at which they began, from which the
    integral of `in_flight` over time follows exactly at the cost of one addition per event. `done` counts items that
    are over. `times` holds the times of answers since the last tick by the number of their kind, `answers` what the
    last tick made of them, and `overdue` how late items are that wait, as a sum of ratios. `under_way` are the items in
    flight that are not parked, with how many items were over or in flight when each began. `samples`: how many of the
    next items are to be noted in `sampled`.
    """

    __slots__ = (
        "answers",
        "beginnings",
        "capacity",
        "done",
        "early",
        "estimate",
        "in_flight",
        "left_out",
        "lightness",
        "moments",
        "offset",
        "overdue",
        "parked",
        "sampled",
        "samples",
        "served",
        "slope",
        "stuck",
        "times",
        "under_way",
        "unqueued",
    )

    def __init__(self, estimate: LoadEstimate) -> None:
        self.estimate = estimate
        self.in_flight = self.parked = self.unqueued = self.done = self.samples = 0
        self.moments = self.left_out = self.overdue = self.lightness = self.served = 0.0
        self.answers = NO_ANSWERS
        self.beginnings: dict[object, float] = {}
        self.early: set[UnderWay] = set()
        self.capacity = self.slope = self.offset = 1.0
        self.times: defaultdict[int, list[float]] = defaultdict(list)
        self.stuck = StuckTrial()
        self.sampled: list[Sample] = []
        self.under_way: dict[UnderWay, int] = {}

    def begin_item(self, now: float, item: UnderWay, *, long: bool = False) -> None:
        """An item is on its way. The l7 exchange does this, and `end_item`, in place. `long`: most of its kind are
        parked, so that this one is at once."""
        self.in_flight += 1
        self.moments -= now
        if long:
            self.park_early(item)
        else:
            self.under_way[item] = self.done + self.in_flight
            if self.samples:
                self.sample(item)

    def sample(self, item: UnderWay) -> None:
        """Note how many compete for slots as it begins."""
        self.samples -= 1
        self.sampled.append((item, item.began, max(1, self.in_flight - self.parked)))

    def end_item(self, now: float, item: UnderWay, kinds: Kinds) -> bool:
        """It ended, however; whether it was parked."""
        self.in_flight -= 1
        self.moments += now
        if self.under_way.pop(item, None) is not None:
            return False
        self.leave_parking(now, item, kinds)
        return True

    def park_early(self, item: UnderWay) -> None:
        """It begins as a parked one."""
        self._enter(item)
        self.early.add(item)

    def answered_early(self, item: UnderWay, form: int, took_s: float, kinds: Kinds) -> None:
        """The head of the answer to an item that may have begun as a parked one; `form` is 1 for a stream."""
        if item not in self.early:
            self.times[item.kind + form].append(took_s)
            return
        if took_s >= PARKED_AFTER_S:
            kinds.note_waited(item.kind)
        if kinds.tells(item.kind):
            self.times[item.kind + form].append(took_s)

    def stay_parked(self, item: UnderWay, tunnel: object, kinds: Kinds) -> None:
        """It is over as an item, but a tunnel that came of it stays in flight."""
        if item in self.under_way:
            self.park(item, kinds)
        self.early.discard(item)
        self.beginnings[tunnel] = self.beginnings.pop(item)

    def end_tunnel(self, tally: ParkedCount, tunnel: object) -> None:
        """The tunnel that came of an item of this tally is over."""
        del self.beginnings[tunnel]
        self.parked -= 1
        tally.parked -= 1

    def leave_parking(self, now: float, item: UnderWay, kinds: Kinds) -> None:
        """A parked item ended."""
        del self.beginnings[item]
        self.parked -= 1
        item.tally.parked -= 1
        if item in self.early:
            self.early.remove(item)
            if now - item.began >= PARKED_AFTER_S:
                kinds.note_parked(item.kind)

    def park(self, item: UnderWay, kinds: Kinds) -> None:
        """It waits for something else than this host, and its time will say nothing about it."""
        del self.under_way[item]
        self._enter(item)
        if item.sent > 0:
            item.sent = 0.0
            kinds.note_waited(item.kind)
        kinds.note_parked(item.kind)

    def _enter(self, item: UnderWay) -> None:
        self.beginnings[item] = item.began
        self.parked += 1
        item.tally.parked += 1

    def count_connection(self, tally: ParkedCount, *, parked: int, lightness: float) -> None:
        """A watched connection of this tally was parked (1) or is so no longer (-1), or counts by so much less."""
        self.parked += parked
        tally.parked += parked
        self.lightness += lightness

    def learn_from_items(self, now: float, kinds: Kinds) -> None:
        """Look at what happened since the last tick."""
        estimate = self.estimate
        item_s = estimate.work.usual_s * estimate.slowness.typical
        found = look(self.under_way, now, kinds, over=self.done, parked=self.beginnings.values(), item_s=item_s)
        for item in found.parked:
            self.park(item, kinds)
        self.stuck.look(now, self.done, stuck=0 < found.stuck < estimate.slots)
        self.unqueued = found.stuck if self.stuck.due else 0
        self._learn_slots(kinds)
        slowness, self.overdue = estimate.slowness, found.overdue
        if estimate.by_connection:
            self.answers = kinds.judge_said(estimate.said, slowness.typical, slowness.highest, 1 / estimate.parents)
            estimate.said = []
            if estimate.heard is not None and estimate.connected:
                self.overdue = estimate.heard.overdue
        else:
            self.answers = kinds.judge(self.times, slowness.typical, slowness.highest)
            self.times = defaultdict(list)
        area_s = self.moments + self.in_flight * now
        estimate.advance(now, area_s, self.answers, overdue=self.overdue, parked=self.parked)

    def _learn_slots(self, kinds: Kinds) -> None:
        """Take the times of sampled items that were answered; failed and parked ones tell nothing, nor do those that
        began anew at another host."""
        waiting: list[Sample] = []
        for item, began, here in self.sampled:
            if item.began != began:
                continue
            if item.sent < 0:
                self.estimate.show_slots(kinds.expected_s(item.kind), here, -item.sent)
            elif item in self.under_way:
                waiting.append((item, began, here))
        self.sampled = waiting
        self.samples = min(SAMPLES_PER_TICK, MOST_SAMPLED - len(waiting)) if self.estimate.learns_slots else 0


def learn_together(siblings: Sequence[CountedHost], dt_s: float) -> None:
    """What hosts that do the same work tell only together, after each has learnt: how slow they are in the middle,
    how much parked items hold up the others, and how many items they work on at once."""
    known = [host.estimate.slowness.value for host in siblings if host.estimate.slowness.seen]
    middle, standard = (median(known), median_low(known)) if known else (1.0, 1.0)
    fastest = min(known, default=math.inf)
    alike = alike_within(host.estimate.slowness.ticks for host in siblings)
    estimates = [host.estimate for host in siblings]
    slots = [each for estimate in estimates if (each := estimate.leaf_slots)] or [
        each for estimate in estimates if (each := estimate.implied)
    ]
    leaf_slots = median_low(slots or [FIRST_GUESS])
    seen: list[Seen] = []
    for host in siblings:
        slowness, answers = host.estimate.slowness, host.answers
        slowness.siblings, slowness.fastest, slowness.alike = middle, fastest, alike
        host.estimate.compare(dt_s, answers, standard, leaf_slots)
        if answers.count and slowness.value < alike * middle:
            seen.append(Seen(host.parked, answers.count, answers.ratios / answers.count))
    work = siblings[0].estimate.work
    work.follow(dt_s)
    parked = sum(host.parked for host in siblings)
    unheard = sum(host.parked for host in siblings if not host.answers.count)
    work.interference.observe(dt_s, seen, unheard / parked if parked else 0.0)
    work.slots.advance(dt_s, [host.estimate for host in siblings])


def capacities_of(siblings: Sequence[CountedHost], now: float) -> list[float]:
    """Their capacities as the pick takes them (`balance.capacity.settle`)."""
    estimates = [host.estimate for host in siblings]
    reported = [
        estimate.heard.capacity for estimate in estimates if estimate.heard is not None and estimate.heard.capacity > 0
    ]
    middle = median(reported) if reported else None
    return settle(
        [estimate.capacity(now, middle) for estimate in estimates], [estimate.likeness(now) for estimate in estimates]
    )


def refresh_costs(
    hosts: Sequence[CountedHost],
    now: float,
    capacities: Sequence[float],
    parts: Sequence[float],
    usable: Sequence[bool] = (),
) -> None:
    """Work out anew at what cost each of these siblings is chosen (`LoadEstimate.cost_line`). `capacities` have been
    settled, `parts` are their weights as parts of the heaviest. `usable` (empty: all are): which of them may be sent
    to; only those count where loads are compared with the lowest."""
    cost_lines: list[tuple[float, float]] = []
    loads = _loads_by_activity(hosts, parts, usable)
    for index, (host, capacity, part) in enumerate(zip(hosts, capacities, parts, strict=True)):
        estimate, trial = host.estimate, host.unqueued > 0
        tried = trial or estimate.slowness.trial or estimate.trial.due
        counted = 0.0 if tried else estimate.work.interference.weight
        left_out = host.in_flight - loads[index] if loads else host.unqueued + host.parked * (1 - counted)
        host.left_out = left_out
        cost_lines.append(estimate.cost_line(now, capacity, host.in_flight, part, left_out, trial=trial))
    for host, capacity, (slope, offset) in zip(hosts, capacities, comparable(cost_lines), strict=True):
        host.capacity, host.slope, host.offset = capacity, slope, offset


def _loads_by_activity(hosts: Sequence[CountedHost], parts: Sequence[float], usable: Sequence[bool]) -> list[float]:
    """The load of each, as the choice takes it, where all are given connections whose use is watched; else empty."""
    if not all(host.estimate.by_activity for host in hosts):
        return []
    loads = [host.in_flight - host.lightness for host in hosts]
    return in_whole(loads, parts, usable or [True] * len(hosts))
