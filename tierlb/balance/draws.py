"""Draws by weight, and what weights are made of before anything is divided by them.

Weights come from files, operators, agents and DNS. None of them may make a draw or a table raise: what is not a
positive finite number counts as 0, and where nothing is left all count the same.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

PLAIN = (1e-6, 1e9)
"""While the heaviest is within this range weights are taken as they are, so that whole numbers stay exact. Others are
divided by the heaviest, since sums of huge ones overflow and quotients of tiny ones lose their digits."""


def usable(weights: Sequence[float]) -> list[float]:
    """The same weights, each at least 0, with a positive finite sum (0 for no weights)."""
    given = [weight if 0 < weight < math.inf else 0.0 for weight in weights]
    heaviest = max(given, default=0.0)
    if PLAIN[0] <= heaviest <= PLAIN[1]:
        return given
    return [weight / heaviest for weight in given] if heaviest else [1.0] * len(given)


def relative(weights: Sequence[float]) -> list[float]:
    """The same weights as parts of the heaviest, which is exactly 1."""
    given = usable(weights)
    heaviest = max(given, default=1.0)
    return [weight / heaviest for weight in given]


def alike(weights: Sequence[float]) -> bool:
    """Whether all weigh the same, so that weights need no work at all."""
    return not weights or weights.count(weights[0]) == len(weights)


class Draws:
    """Positions drawn by weight. Draws are numbers in [0, 1)."""

    __slots__ = ("_ends", "_last")

    def __init__(self, weights: Sequence[float]) -> None:
        self._ends = list(accumulate(usable(weights)))
        self._last = self._ends.index(self._ends[-1]) if weights else 0

    def one(self, draw: float) -> int:
        """The position that a draw falls on."""
        ends, last = self._ends, self._last
        return min(bisect_right(ends, draw * ends[last]), last)

    def two(self, draw: float, other_draw: float) -> tuple[int, int]:
        """Two positions: one drawn, put aside, and another drawn from the rest. They are the same where there is no
        other one above 0."""
        ends, last = self._ends, self._last
        first = min(bisect_right(ends, draw * ends[last]), last)
        before = ends[first - 1] if first else 0.0
        width = ends[first] - before
        drawn = other_draw * (ends[last] - width)
        if drawn >= before:
            drawn += width
        return first, min(bisect_right(ends, drawn), last)
