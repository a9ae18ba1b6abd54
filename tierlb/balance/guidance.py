"""Intent flows down: what a parent tells its children about each other, and which connections a hot child closes.

Weights steer new connections only. A child that is hotter than its siblings therefore closes kept connections after
their responses, so that their clients come back through the parent and land elsewhere (BALANCING.md §6: rebalancing in
about 6 s, against over 40 s without). When all children are hot nothing is moved: there is no better place.

Left out: shedding, which needs a limit that is surer than a learnt capacity.
"""

from collections.abc import Iterable, Sequence

import attrs

from tierlb.model.load import Guidance

HOT = 0.9
MARGIN = 1.1
"""A child that is less than a tenth above its siblings closes nothing."""
CLOSE_OVER_S = 2.0
FASTEST_CLOSE_PER_S = 0.2
"""Of all connections: their clients open new ones, which costs more than requests do."""
NOBODY = Guidance(1.0)
"""Without a parent that says otherwise: as hot as can be is fine, so nothing is closed."""


@attrs.frozen
class Child:
    """A ready child: utilisation (0..1, more when overloaded) and capacity in items per second (0: not known)."""

    utilisation: float
    capacity: float


def guide(children: Sequence[Child]) -> Guidance:
    """What to tell all of them. Children that do not know their capacity (0) weigh as much as the others' mean."""
    if not children:
        return NOBODY
    known = [child.capacity for child in children if child.capacity > 0]
    usual = sum(known) / len(known) if known else 1.0
    weights = [child.capacity if child.capacity > 0 else usual for child in children]
    pairs = zip(weights, children, strict=True)
    mean = sum(weight * child.utilisation for weight, child in pairs) / sum(weights)
    return Guidance(mean, all(child.utilisation > HOT for child in children))


def combine(guidances: Iterable[Guidance]) -> Guidance:
    """What several parents say as one. Their targets differ by what else they send to; the mean is between them. There
    is a cooler place as long as one parent knows of one."""
    said = list(guidances)
    if not said:
        return NOBODY
    target = sum(guidance.target for guidance in said) / len(said)
    return Guidance(target, all(g.all_hot for g in said))


def closing_rate_per_s(connections: int, utilisation: float, guidance: Guidance) -> float:
    """How many kept connections a child is to close in a second."""
    target = guidance.target
    if guidance.all_hot or target >= HOT or utilisation <= MARGIN * target:
        return 0.0
    too_many = connections * (utilisation - MARGIN * target) / utilisation
    return min(too_many / CLOSE_OVER_S, FASTEST_CLOSE_PER_S * connections)


@attrs.define
class CloseBudget:
    """Turns the rate into single decisions: `take` is asked as each response ends."""

    rate_per_s: float = 0.0
    _owed: float = 0.0
    _at: float = 0.0

    def set_rate(self, now: float, rate_per_s: float) -> None:
        """From `now` on so many are to be closed in a second. Nothing is owed once the rate is 0."""
        self._accrue(now)
        self.rate_per_s = rate_per_s
        if not rate_per_s:
            self._owed = 0.0

    def take(self, now: float) -> bool:
        """True, and noted, if the connection whose response ends at `now` is to close."""
        if not self.rate_per_s:
            return False
        self._accrue(now)
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def _accrue(self, now: float) -> None:
        """At most a second's worth is kept: what was not closed while nothing ended is not made up for at once."""
        most = max(1.0, self.rate_per_s)
        self._owed = min(most, self._owed + self.rate_per_s * max(0.0, now - self._at))
        self._at = max(self._at, now)
