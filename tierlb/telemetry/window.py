"""The growth of cumulative figures in the last second or so.

A ratio of two rates (items per second by busy share) is only right if both come from the same period (BALANCING.md §1),
so a window takes all its figures in one sample.

A node at rest samples seldom. Between two samples that are far apart figures are taken to have grown evenly, and a
window begins between them. Otherwise the first figures after a rest would be averaged over the rest too.
"""

from collections import deque

RATE_WINDOW_S = 1.0
SAMPLES = 20
"""Samples per window; more frequent ones replace the last one."""
APART_S = 0.15
"""Samples that are further apart have a rest between them."""


class Window:
    """The growth of `figures` over at least `span_s`: from the youngest sample that is that old to the newest; over
    just `span_s` where that lies in a rest."""

    __slots__ = ("_closest_s", "_samples", "_span_s")

    def __init__(self, span_s: float = RATE_WINDOW_S) -> None:
        self._span_s = span_s
        self._closest_s = span_s / SAMPLES
        self._samples: deque[tuple[float, tuple[float, ...]]] = deque()

    @property
    def samples(self) -> int:
        """How many are kept."""
        return len(self._samples)

    def sample(self, now: float, *figures: float) -> None:
        """Note the figures at `now`; always the same number of them in the same order."""
        samples = self._samples
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < self._closest_s:
            samples.pop()
        samples.append((now, figures))
        while now - samples[1 if len(samples) > 1 else 0][0] >= self._span_s:
            samples.popleft()

    def growth(self) -> tuple[float, tuple[float, ...]] | None:
        """Seconds and growth of each figure in them; None until there is a whole window."""
        if not self._samples:
            return None
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        if last - first < self._span_s:
            return None
        if self._samples[1][0] - first > APART_S:
            first, before = self._within_rest(last - self._span_s)
        return last - first, tuple(new - old for new, old in zip(after, before, strict=True))

    def _within_rest(self, at: float) -> tuple[float, tuple[float, ...]]:
        """The figures at a time between the first two samples."""
        (first, before), (second, after) = self._samples[0], self._samples[1]
        part = (at - first) / (second - first)
        return at, tuple(old + (new - old) * part for old, new in zip(before, after, strict=True))
