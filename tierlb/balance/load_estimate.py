"""What a node knows of one host, and the cost that it chooses by.

Everything a parent can know meets here: its own counts (exact), the host's reports (late), and how the host did
lately. `cost_line` turns it into `cost = in_flight * slope + offset`, which the hot path evaluates with nothing but its
own count; slope and offset are worked out anew every `TICK_S`, when a report comes and after an error.

One class serves all kinds of host: an endpoint that reports nothing, whose capacity follows from the times of its
answers (balance/slowness.py) and its slots (balance/pool_slots.py); a node that reports, whose answers are judged in
the same way, by their times here or by what its reports say of them; an agent, whose reported capacity is believed; and
a reporter that fell silent (balance/staleness.py). The data plane and the simulator both use it. Left out: the choice
between hosts (balance/choosers.py).
"""

import attrs

from tierlb.balance.capacity import ALIKE
from tierlb.balance.concurrency import Concurrency
from tierlb.balance.cost import ON_TRIAL, ParentShare, connection_tau_s, cost_line, freshness, tau_s
from tierlb.balance.error_penalty import ErrorPenalty
from tierlb.balance.guidance import Child
from tierlb.balance.kind_counts import REST, KindGrowth
from tierlb.balance.kinds import Answers, MeanWork, Work
from tierlb.balance.pool_slots import FIRST_GUESS
from tierlb.balance.recovery_probe import RecoveryProbe
from tierlb.balance.returning import ENOUGH, PROVEN_S, SLOW_MARGIN, Returning
from tierlb.balance.slow_start import FIRST_SHARE, slow_start
from tierlb.balance.slowness import LOWEST, Slowness
from tierlb.balance.staleness import is_old, trusted_capacity
from tierlb.model.load import REPORT_INTERVAL_S, Echo, KindTimes, SubtreeLoad

TICK_S = 0.05
SLOTS = FIRST_GUESS
"""How many items a host works on at a time, before it has said or shown that."""
AHEAD = 2.0
"""The item itself counts as so many times the slots, up to SLOTS. With 1 the score is the expected time, which sends
more to slow endpoints than the tail bears: p99 is 47/58/53 ms over endpoints of four slots, with 2 it is 47/54/51
(tests/simulation/test_load_aware.py)."""
MEAN_IN_FLIGHT_S = 2.0
"""Over which it is averaged how many items this node has at a host that others send to as well."""
ITEMS_PER_CONNECTION_GAIN = 0.25
LEAST_ITEMS_PER_CONNECTION = 0.02
"""Of connections that ask next to nothing, too, nobody is to have all: they cost memory, and may all ask at once."""
SHORTEST_ITEM_S = 1e-6
MOST_OWN_SCALE = 4.0
LEAST_SLOTS = 1e-3
"""The least number of slots per leaf that is believed: it is divided by, and a thousand nodes may share a slot."""
SLOTS_ALIKE = 2.5
"""Slots per leaf of two nodes count as equal within this factor, because each node learns them by itself."""
MOST_SAID = 256
"""Entries of reports that a tick may find; each report has at most some ten."""
NO_ANSWERS = Answers()
LEAST_BUSY = 0.1
"""Below it what an endpoint does besides items is too large a part of its use to divide by."""
LEAST_IN_FLIGHT = 1e-3
"""Less is none: the integral of what is parked is a difference of large sums, and its last digits are chance."""
LEAST_PART = 1e-9
"""Of the heaviest: it is divided by. Hosts of weight 0 are not chosen anyway."""
STATED_FOR_S = 3.0
"""What an endpoint said of its capacity counts for so long. The lower of that and of what was learnt from outside is
believed: others' load shows in the one first, a change of the endpoint in the other, and nobody gains by boasting."""


@attrs.define(slots=True)
class LoadEstimate:
    """`reports` and `parents` are the host's own (model.snapshot.Member); `by_connection`: this node gives it
    connections while it counts requests; `equal`: what is given are connections to an endpoint, whose capacity cannot
    be told from when they end, so that all endpoints count the same. `factor`: what its agent says of its weight.
    `said_slots`: how many items it works on at a time, as itself or its agent says (0: neither does); `slots`: as it is
    to be used, of all parents together (balance/pool_slots.py). `endpoint`: it is no node. `own_work` is its own mix
    of items, which may be another than that of the pool (`work`); `work_done_s` the sum of what its answers usually
    take. `penalty` stands for its errors, as far as siblings do not have them too, `overload` for its answers of 429.

    Of a host `by_connection`: `said` is what its answers took, as its reports since the last tick have it;
    `standard` how slow its siblings are (the low median, so that of two the slower one is compared with the other)."""

    reports: bool
    parents: int
    joined: float
    by_connection: bool = False
    equal: bool = False
    connected: bool = False
    silent: bool = False
    heard: SubtreeLoad | None = None
    echo: Echo = Echo()
    heard_at: float = 0.0
    items_per_connection: float = 1.0
    factor: float = 1.0
    slots: float = SLOTS
    said_slots: float = 0.0
    concurrency: Concurrency = attrs.field(factory=Concurrency)
    slowness: Slowness = attrs.field(factory=Slowness)
    work: Work = attrs.field(factory=Work)
    own_work: MeanWork = attrs.field(factory=MeanWork)
    work_done_s: float = 0.0
    endpoint: bool = True
    penalty: ErrorPenalty = attrs.field(factory=ErrorPenalty)
    overload: ErrorPenalty = attrs.field(factory=ErrorPenalty)
    trial: RecoveryProbe = attrs.field(factory=RecoveryProbe)
    said: list[KindTimes] = attrs.field(factory=list)
    standard: float = 1.0
    returning: Returning = attrs.field(factory=Returning)
    _growth: KindGrowth = attrs.field(factory=KindGrowth)
    share: ParentShare = attrs.field(init=False)
    _at: float = attrs.field(init=False)
    _area_s: float = attrs.field(default=0.0, init=False)
    _mean_in_flight: float = attrs.field(default=0.0, init=False)
    _stated: float = attrs.field(default=0.0, init=False)
    _stated_at: float = attrs.field(default=0.0, init=False)
    _learnt_at: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.parents = max(1, self.parents)
        self.share = ParentShare(self.parents)
        self._at = self.joined

    def shared_by(self, parents: int) -> None:
        """So many nodes send to it now."""
        parents = max(1, parents)
        if parents != self.parents:
            self.parents = parents
            self.share.expect(parents)

    def hear(self, now: float, load: SubtreeLoad, echo: Echo) -> None:
        """A report came."""
        self.share.update(load.arrivals, echo.arrivals)
        if self.by_connection and load.connections:
            recent = load.queued / load.connections
            self.items_per_connection += ITEMS_PER_CONNECTION_GAIN * (recent - self.items_per_connection)
        if self.by_connection:
            self._note_answers(load)
        if load.slots and self.endpoint and not self.by_connection:
            self.say_slots(load.slots)
        self.heard, self.echo, self.heard_at, self.connected, self.silent = load, echo, now, True, False

    def _note_answers(self, load: SubtreeLoad) -> None:
        """Of one that does not tell kinds all answers are of one kind."""
        before = self.heard
        restarted = before is not None and load.arrivals < before.arrivals
        self.said += self._growth.take(load.kinds, restarted=restarted)
        if not load.kinds and before is not None and load.done > before.done:
            count = load.done - before.done
            self.said.append((REST, count, count * load.response_s))
        del self.said[:-MOST_SAID]

    def state(self, now: float, rate: float, busy: float, slots: int) -> None:
        """An endpoint said with a response how many items per second it completes, how busy (0..1) it is with that, and
        how many it works on at a time (0: not said). Rate and busy are of one window, so that their ratio is its
        capacity (gRPC A58), of items as it had them lately."""
        if slots:
            self.say_slots(slots)
        if rate > 0 and busy >= LEAST_BUSY:
            self._stated, self._stated_at = self._in_standard_items(rate / busy), now

    def _in_standard_items(self, capacity: float) -> float:
        """A capacity in items of its own mix, as the endpoint or its agent counts it."""
        own_s, standard_s = self.own_work.usual_s, self.work.standard_s
        return capacity * own_s / standard_s if own_s and standard_s else capacity

    def say_slots(self, slots: float) -> None:
        """It, or its agent, said how many items it works on at a time; 0: not any more."""
        self.said_slots = float(slots)
        self.slots = self.said_slots or self.slots

    @property
    def knows_slots(self) -> bool:
        """Whether `slots` is more than a guess before anything was seen."""
        return self.said_slots > 0 or self.work.slots.known

    @property
    def learns_slots(self) -> bool:
        """Whether its slots are to be learnt from its items."""
        return not (self.said_slots or self.equal or self.reports)

    def show_slots(self, usual_s: float, here: int, time_s: float) -> None:
        """An item, usually of `usual_s` (0: unknown), began when so many of this node's competed, and took `time_s`.
        Those of other parents are taken to be as many each in the mean."""
        if usual_s:
            others = (self.parents - 1) * self._mean_in_flight
            self.concurrency.add(usual_s, ((round(here + others), time_s),))

    def listen(self, now: float) -> None:
        """Note if nothing has come for too long on a connection that is open. One that is lost after that leaves it
        at this: who did not answer on the old connection may well not be there."""
        if self.connected and is_old(now - self.heard_at, REPORT_INTERVAL_S):
            self.silent = True

    def lose(self) -> Echo:
        """The control connection is gone. Returns what the host last said of this node's items, of which nothing is
        known to be in flight any more."""
        last = self.echo
        self.connected = False
        self.echo = attrs.evolve(last, in_flight=0, parked=0)
        return last

    @property
    def barren(self) -> bool:
        """It says that nothing below it is ready. Whatever it is sent fails, and fast, which looks like little load."""
        return self.connected and self.heard is not None and self.heard.leaves > 0 and not self.heard.ready_leaves

    @property
    def by_activity(self) -> bool:
        """It is given connections, and does not report how they are used."""
        return self.equal and not self.reports

    def age_s(self, now: float) -> float | None:
        """How old what was heard last is, or None if nothing was."""
        return None if self.heard is None else now - self.heard_at + self.heard.age_s

    def advance(
        self, now: float, area_s: float, answers: Answers = NO_ANSWERS, *, overdue: float = 0.0, parked: int = 0
    ) -> None:
        """Learn from this node's own counts: the integral of its in-flight there, of which so many are parked now, and
        its answers. `overdue`: how late items are that wait, as a sum of ratios (balance/slowness.py)."""
        dt_s = now - self._at
        in_flight = (area_s - self._area_s) / dt_s - parked if dt_s > 0 else 0.0
        busy = in_flight > LEAST_IN_FLIGHT
        self._mean_in_flight += (max(0.0, in_flight) - self._mean_in_flight) * min(1.0, dt_s / MEAN_IN_FLIGHT_S)
        self.concurrency.wait(dt_s)
        if answers.count:
            self._learnt_at = now
        if self.by_connection:
            self._learn(dt_s, answers, overdue)
        elif not self.equal:
            self.work.add(answers.count, answers.work_s)
            self.own_work.add(answers.count, answers.work_s)
            self.work_done_s += answers.work_s
            self.slowness.advance(dt_s, answers, usual_s=self.work.usual_s, overdue=overdue, busy=busy)
        if self.by_connection and self.slowness.seen:
            self.trial.due = False
        elif self.heard is not None:
            self.trial.advance(dt_s, busy or self.heard.queued > 0)
        self._at, self._area_s = now, area_s

    def _learn(self, dt_s: float, answers: Answers, overdue: float) -> None:
        """From what it said: of everybody's items there."""
        count, usual_s = answers.count, self.work.usual_s
        self.work.add(count, answers.work_s)
        self.own_work.add(count, answers.work_s)
        if not count and self.slowness.value <= SLOW_MARGIN * self.standard:
            self.slowness.forget(dt_s)
        self.slowness.advance(dt_s, answers, usual_s=usual_s, overdue=overdue, busy=True)

    @property
    def leaf_slots(self) -> float | None:
        """Slots for each ready leaf below a node, of which it may have a part only; None: not known."""
        load = self.heard
        if self.endpoint or load is None or not load.slots or not load.ready_leaves:
            return None
        return max(LEAST_SLOTS, load.slots / load.ready_leaves)

    @property
    def implied(self) -> float | None:
        """Slots for each ready leaf that would give the capacity that the node reports; None: not known. A leaf that
        several nodes share counts in each by a part, which no other figure shows."""
        load = self.heard
        if self.endpoint or load is None or not load.ready_leaves or not self.slowness.seen:
            return None
        return load.capacity * self.slowness.value * self.work.standard_s / load.ready_leaves

    def compare(self, dt_s: float, answers: Answers, standard: float, leaf_slots: float) -> None:
        """`standard`: how slow its siblings are, `leaf_slots` how many slots their leaves have. Slots are learnt, and
        not everywhere at the same time: those of nodes that differ little, or know none, are taken to be the same. A
        child that is much slower is watched for its return."""
        self.standard = standard
        if not self.endpoint and self.heard is not None and self.heard.ready_leaves:
            own = self.leaf_slots or leaf_slots
            alike = 1 / SLOTS_ALIKE <= own / leaf_slots <= SLOTS_ALIKE
            self.say_slots((leaf_slots if alike else own) * self.heard.ready_leaves)
        if not self.by_connection or not self.slowness.seen:
            return
        overdue = self.heard.overdue if self.heard is not None and self.connected else 0.0
        found = self.returning.look(dt_s, answers, overdue, self.slowness.value, standard)
        if found is not None:
            self.slowness.believe(max(found, standard), ENOUGH)
            self.joined = self._at - PROVEN_S

    def as_child(self, connections: int) -> Child | None:
        """What its siblings are compared with; None of one that is not heard. `connections`: this parent's there."""
        load = self.heard
        if load is None or not self.connected:
            return None
        known = self.by_connection and self.slowness.seen > 0
        own_scale = self._own_scale(load)
        return Child(
            load.utilisation / own_scale,
            load.capacity,
            self.slowness.value / self.standard if known else 0.0,
            self.own_work.usual_s * self.standard if known else 0.0,
            self._part(self._at),
            connections,
            self.returning.probing,
            self.returning.climbs_s > 0,
            own_scale,
        )

    def _own_scale(self, load: SubtreeLoad) -> float:
        """By what factor it takes its use for more than this node does: its slots are learnt from its items alone."""
        shown = self.reported() if self.by_connection else None
        if not shown or not load.capacity:
            return 1.0
        return min(MOST_OWN_SCALE, max(1 / MOST_OWN_SCALE, shown / load.capacity))

    def _part(self, now: float) -> float:
        return FIRST_SHARE if self.returning.probing else slow_start(now - self.joined)

    def capacity(self, now: float, median: float | None) -> float | None:
        """Standard items per second (balance.kinds.Work), as far as it can be trusted now; None: no idea. `median` is
        that of its siblings."""
        if self.reports:
            reported = self.reported()
            age_s = self.age_s(now)
            known = trusted_capacity(reported, age_s, REPORT_INTERVAL_S, self.connected, median)
            if known is not None or self.equal:
                return known
        if self.equal:
            return None
        return self._at_most_stated(now, self.learnt)

    def capacity_to_tell(self, now: float) -> float | None:
        """The same for reports and people, who want what it can do at most: without what items wait for one another now
        and a second or more late."""
        if self.equal or (self.reports and self.capacity(now, None) != self.learnt):
            return self.capacity(now, None)
        return self._at_most_stated(now, self._learnt_without_waits)

    def _at_most_stated(self, now: float, learnt: float | None) -> float | None:
        stated = self.stated(now)
        if stated is not None:
            learnt = stated if learnt is None else min(learnt, stated)
        return learnt

    def reported(self) -> float | None:
        """By its reports; None where they tell nothing, as those of a child do that is to be found out about."""
        load = self.heard
        if load is None or self.returning.probing:
            return None
        shown = None if self.endpoint else self.learnt
        if shown is not None:
            return min(shown, load.own_capacity) if load.own_capacity else shown
        if load.capacity <= 0:
            return None
        return self._in_standard_items(load.capacity) if self.endpoint else load.capacity

    @property
    def learnt(self) -> float | None:
        """Standard items per second, of all parents together, as answers show it (Little's law); None before the
        first."""
        if not self.slowness.seen or not self.work.standard_s:
            return None
        return self.slots / (self.slowness.value * max(SHORTEST_ITEM_S, self.work.standard_s))

    def likeness(self, now: float) -> float:
        """By what factor its capacity may be below that of an equal."""
        if self.equal or self.by_connection or self.stated(now) is not None:
            return ALIKE
        says = self.connected and self.heard is not None and self.heard.capacity > 0
        reported = says and (self.endpoint or not self.slowness.seen)
        return ALIKE if reported else self.slowness.likeness

    @property
    def _learnt_without_waits(self) -> float | None:
        """`learnt` is lower at a high load, most where short items wait for long ones."""
        slowness, standard_s = self.concurrency.slowness_at(self.slots), self.work.standard_s
        if slowness is None or not standard_s:
            return self.learnt
        return self.slots / (max(LOWEST, slowness) * max(SHORTEST_ITEM_S, standard_s))

    def capacity_age_s(self, now: float) -> float | None:
        """How old the newest of what `capacity` was learnt from is; None: nothing is known, or only of siblings."""
        load = self.heard
        if load is not None and load.capacity > 0 and self.connected:
            return now - self.heard_at + load.capacity_age_s
        if self.equal:
            return None
        if self.stated(now) is not None:
            return now - self._stated_at
        return None if self.learnt is None else now - self._learnt_at

    def stated(self, now: float) -> float | None:
        """Standard items per second, by what the endpoint itself said lately; None where it did not."""
        return self._stated if self._stated and now - self._stated_at <= STATED_FOR_S else None

    def cost_line(
        self,
        now: float,
        capacity: float,
        own: int = 0,
        weight: float = 1.0,
        left_out: float = 0.0,
        *,
        trial: bool = False,
    ) -> tuple[float, float]:
        """Slope and offset of the score; `capacity` has been settled among the siblings.
        `own`: how many items this node has in flight there. `weight` (0..1): as a part of its heaviest sibling's. It
        counts as slow start does, in the queue and not in the time that an item takes: else an idle tier would give
        everything to the heaviest. `left_out`: how many of its own items count as no queue. `trial`: it is to get the
        next item."""
        if (trial or self.slowness.trial or self.trial.due) and not self.error_penalty(now):
            slope, offset = ON_TRIAL
        else:
            slope, offset = self._cost_line(now, capacity, own, weight)
        return slope, offset - left_out * slope

    def _cost_line(self, now: float, capacity: float, own: int, weight: float) -> tuple[float, float]:
        part = self._part(now) * max(weight, LEAST_PART)
        penalty = self.error_penalty(now)
        load = self.heard
        if not self.reports:
            return cost_line(0.0, 0, self.share.value, penalty, capacity, 1.0, self._itself, part)
        items = max(LEAST_ITEMS_PER_CONNECTION, self.items_per_connection) if self.by_connection else 1.0
        if load is None or not self.connected:
            ahead = self._ahead(capacity)
            return cost_line(0.0, 0, self.share.value, penalty, capacity, items, ahead, part)
        age_s = now - self.heard_at + load.age_s
        tau = connection_tau_s(load.connection_s) if self.by_connection else tau_s(load.response_s)
        others = max(0, load.queued - self.echo.queued)
        ahead = self._ahead(capacity)
        counted = min(self.echo.connections, own) if self.by_connection else 0
        return cost_line(
            freshness(age_s, tau), others, self.share.value, penalty, capacity, items, ahead, part, counted
        )

    def error_penalty(self, now: float) -> float:
        """Phantom items in its queue."""
        return self.penalty.value(now) + self.overload.value(now)

    @property
    def _itself(self) -> float:
        """How many items an item of its own counts as at an endpoint."""
        return max(self.slots, min(SLOTS, AHEAD * self.slots))

    def _ahead(self, capacity: float) -> float:
        """The time of an item, in items. One that is not far slower than its siblings is taken to be as fast: at rest a
        mean is of a few items, or of long ago. So is one that is not known, else it would draw all that is new."""
        if not self.by_connection:
            return 1.0
        slow = self.slowness.seen and not self.returning.probing and self.slowness.value > SLOW_MARGIN * self.standard
        return max(1.0, capacity * self.work.standard_s * (self.slowness.value if slow else self.standard))
