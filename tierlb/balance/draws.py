"""Random draws by weight, and the clean-up of weights before they are divided by.

Weights come from files, operators, agents and DNS, and no value of them may make a draw or a table raise. What is not a
positive finite number counts as 0; where nothing is left all hosts count the same.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

EVEN_DRAW: Final = (1e-6, 1e9)
"""While the heaviest is within this range weights are used as they are, so that whole numbers stay exact. Others are
divided by the heaviest, because sums of huge ones overflow and quotients of tiny ones lose their digits."""


def usable(weights: Sequence[float]) -> list[float]:
    """The same weights, each at least 0, with a positive finite sum (0 for no weights)."""
    given = [weight if 0 < weight < math.inf else 0.0 for weight in weights]
    heaviest = max(given, default=0.0)
    if EVEN_DRAW[0] <= heaviest <= EVEN_DRAW[1]:
        return given
    return [weight / heaviest for weight in given] if heaviest else [1.0] * len(given)


def relative(weights: Sequence[float]) -> list[float]:
    """The same weights as parts of the heaviest, which is exactly 1."""
    given = usable(weights)
    heaviest = max(given, default=1.0)
    return [weight / heaviest for weight in given]


def alike(weights: Sequence[float]) -> bool:
    """Whether all weights are equal, so that they can be ignored."""
    return not weights or weights.count(weights[0]) == len(weights)


class Draws:
    """Positions drawn by weight. Draws are numbers in [0, 1)."""

    __slots__ = ("_ends", "_last")

    def __init__(self, weights: Sequence[float]) -> None:
        self._ends = list(accumulate(usable(weights)))
        self._last = self._ends.index(self._ends[-1]) if weights else 0

    def one(self, draw: float) -> int:
        """The position at which a draw falls."""
        ends, last = self._ends, self._last
        return min(bisect_right(ends, draw * ends[last]), last)

    def two(self, draw: float, other_draw: float) -> tuple[int, int]:
        """Two positions: one drawn, and another drawn from the rest. They are the same where no other weight is above
        0."""
        ends, last = self._ends, self._last
        first = min(bisect_right(ends, draw * ends[last]), last)
        before = ends[first - 1] if first else 0.0
        width = ends[first] - before
        drawn = other_draw * (ends[last] - width)
        if drawn >= before:
            drawn += width
        return first, min(bisect_right(ends, drawn), last)
