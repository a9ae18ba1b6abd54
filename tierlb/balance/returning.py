"""How a slow child that gets hardly any connections is found to have recovered (BALANCING.md §6).

A parent that hands out connections moves them away from a slow child. What it last learnt of that child then only ages:
its capacity is unknown, not low. Two things show more. Connections that stayed go on sending requests, and their
answers are compared in lots of `LOT`. Where there are too few of them, the parent *probes* after a rest: the child
counts like its siblings, as one in slow start, and these give a small part of their connections away, until a lot of
answers has been measured. A probe that finds the child still slow doubles the rest.
"""

import attrs

from tierlb.balance.kinds import Answers

SLOW_MARGIN = 3.0
"""Answers may take so many times as long as at the siblings before a child counts as slow: machines and mixes of
requests differ."""
LOT = 8
"""Answers in a lot. Chance makes the mean of 8 exponential times less than a third of what it should be once in 250."""
FASTER, FASTER_IN_PROBE = 3.0, 2.0
"""How many times less than was believed a lot must take. A probe measures one lot; without a probe there are many, of
which some are low by chance."""
HALF_WAY = 2.0
"""How many times slower than its siblings a lot may show the child. Beyond it the lot may span the recovery, and
another one follows at once."""
FIRST_RETURN_REST_S, LONGEST_RETURN_REST_S = 1.0, 3.0
"""A recovery is to be found within 8 s, of which the return takes half."""
PROBE_S = 6.0
"""A probe with too few answers by then has shown nothing. Where guidance and reports are two seconds late each, the
first answers are reported after four; with 3 s a node was back after 6 to 13 s instead of 6 to 11."""
WELL_S = 10.0
"""A child that was not slow for so long starts with the first rest again."""
PROBE_SHARE = 0.02
"""The part of all connections that a probed child gets. They are slow for about a second if it still is."""
GIVEN_OVER_S = 0.5
PROVEN_S = 1.0
"""The part of slow start that a child which was measured skips."""
CLIMB_S = 6.0
"""For so long after its return siblings give a child what slow start allows; after that as to any child with few."""
CLIMB_SHARE = 0.8
"""Of its part of the connections. The rest follows from use, because connections differ and fewer are often enough."""


@attrs.define(slots=True)
class Returning:
    """One child. `probing`: it is to get a few connections. `climbs_s`: how much longer its return lasts."""

    probing: bool = False
    climbs_s: float = 0.0
    _rest_s: float = FIRST_RETURN_REST_S
    _for_s: float = 0.0
    _well_s: float = 0.0
    _count: int = 0
    _ratios: float = 0.0

    def look(self, dt_s: float, answers: Answers, overdue: float, slowness: float, usual: float) -> float | None:
        """`dt_s` have passed with these answers. `overdue`: the ratios by which waiting items are late. `slowness` is
        that of the child, `usual` that of its siblings. Returns its slowness by a lot that shows it to be much faster;
        None if there is none."""
        self.climbs_s = max(0.0, self.climbs_s - dt_s)
        if not self.probing and slowness <= SLOW_MARGIN * usual:
            self._stay_well(dt_s)
            return None
        self._well_s = 0.0
        self._for_s += dt_s
        self._count += answers.count
        self._ratios += answers.ratios
        if self._count >= LOT:
            return self._judge((self._ratios + overdue) / self._count, slowness, usual)
        if self.left_s <= 0:
            if self.probing and overdue:
                self._rest_s = min(LONGEST_RETURN_REST_S, 2 * self._rest_s)
            self._begin(probing=not self.probing)
        return None

    @property
    def left_s(self) -> float:
        """How much longer this rest or probe of a slow child lasts, if no answers come."""
        return (PROBE_S if self.probing else self._rest_s) - self._for_s

    def _judge(self, mean: float, slowness: float, usual: float) -> float | None:
        is_faster = mean * (FASTER_IN_PROBE if self.probing else FASTER) < slowness
        if self.probing and not is_faster:
            self._rest_s = min(LONGEST_RETURN_REST_S, 2 * self._rest_s)
        is_half_way = is_faster and mean > HALF_WAY * usual
        self._begin(probing=is_half_way)
        self.climbs_s = CLIMB_S if is_faster and not is_half_way else 0.0
        return mean if is_faster else None

    def _begin(self, *, probing: bool) -> None:
        """A rest or a probe."""
        self.probing, self._for_s, self._count, self._ratios = probing, 0.0, 0, 0.0

    def _stay_well(self, dt_s: float) -> None:
        self._begin(probing=False)
        self._well_s += dt_s
        if self._well_s >= WELL_S:
            self._rest_s = FIRST_RETURN_REST_S


def wanted(everything: int, fair: float, part: float, *, probing: bool) -> float:
    """How many connections a child that is probed, or has just returned, should have. `everything`: all connections of
    it and its siblings; `fair`: its part of them by capacity; `part`: what slow start allows of that."""
    return max(1.0, PROBE_SHARE * everything) if probing else CLIMB_SHARE * part * fair


def given_per_s(wanted: float, own: int) -> float:
    """The rate at which siblings give it what it lacks."""
    return max(0.0, wanted - own) / GIVEN_OVER_S
