"""Quantiles of durations in constant memory, with a known error, that merge exactly.

DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019): bucket i counts the values in (γ^(i−1), γ^i], so that every quantile
is within `ACCURACY` of the true one, and merging is adding counts. Durations here are between 1 µs and 1000 s, so the
buckets are a fixed list; values outside go to the first or the last. That makes `add` one bisection in C, without
logarithm or growth: a third of the time of the PyPI package `ddsketch`, which also needs protobuf for sending.

A hot path writes it inline: `counts[bisect_left(BOUNDS_S, value_s)] += 1`. The list `counts` is never replaced, so that
a reference to it stays valid.

Left out: a sum beside the counts (one more write per value). Mean and sum are derived from the buckets, within
`ACCURACY` as well.
"""

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Final

ACCURACY: Final = 0.02
GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
LEAST_S: Final = 1e-6
MOST_S: Final = 1e3
BOUNDS_S: Final = tuple(LEAST_S * GAMMA**index for index in range(math.ceil(math.log(MOST_S / LEAST_S, GAMMA))))
"""Upper bounds of all buckets but the last, which has none."""
SKETCH_BUCKETS: Final = len(BOUNDS_S) + 1
MIDDLES_S: Final = (LEAST_S, *(2 * bound / (GAMMA + 1) for bound in BOUNDS_S[1:]), MOST_S)
"""The value that stands for a bucket: within ACCURACY of each of its values."""

SKETCH_FORMAT: Final = 1
LONGEST_VARINT: Final = 9
MOST_ENCODED_BYTES: Final = 1 + SKETCH_BUCKETS * (2 + LONGEST_VARINT)
HALF_S: Final = 5.0


class Sketch:
    """Counts by bucket. Durations are in seconds."""

    __slots__ = ("counts",)

    def __init__(self, counts: list[int] | None = None) -> None:
        self.counts = [0] * SKETCH_BUCKETS if counts is None else counts

    def __eq__(self, other: object) -> bool:
        return self.counts == other.counts if isinstance(other, Sketch) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Sketch of {self.count}>"

    def add(self, value_s: float, _bisect=bisect_left, _bounds=BOUNDS_S) -> None:  # type: ignore[no-untyped-def]
        self.counts[_bisect(_bounds, value_s)] += 1

    def merge(self, other: "Sketch") -> None:
        """Add what `other` holds: the same as if all its values had been added here."""
        self.counts[:] = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def sum_s(self) -> float:
        return math.fsum(count * middle for count, middle in zip(self.counts, MIDDLES_S, strict=True) if count)

    @property
    def mean_s(self) -> float:
        """0 while empty."""
        count = self.count
        return self.sum_s / count if count else 0.0

    def quantile_s(self, q: float) -> float:
        """The value at rank ⌊q·(count − 1)⌋ in sorted order, within ACCURACY; 0 while empty. `q` is in 0..1."""
        cumulative = list(accumulate(self.counts))
        if not cumulative[-1]:
            return 0.0
        rank = int(q * (cumulative[-1] - 1))
        return MIDDLES_S[bisect_left(cumulative, rank + 1)]

    def encode(self) -> bytes:
        """A format byte, then for each bucket that is not empty the number of empty ones before it, and its count."""
        out = bytearray((SKETCH_FORMAT,))
        previous = -1
        for index, count in enumerate(self.counts):
            if count:
                _put_varint(out, index - previous - 1)
                _put_varint(out, count)
                previous = index
        return bytes(out)


def decode_sketch(data: bytes) -> Sketch:
    """The inverse of `encode`. Raises ValueError that says what is wrong with `data`."""
    if len(data) > MOST_ENCODED_BYTES:
        raise ValueError(f"a sketch has at most {MOST_ENCODED_BYTES} bytes, this has {len(data)}")
    if not data or data[0] != SKETCH_FORMAT:
        raise ValueError(f"a sketch begins with the byte {SKETCH_FORMAT}")
    sketch = Sketch()
    at, index = 1, -1
    while at < len(data):
        gap, at = _take_varint(data, at)
        count, at = _take_varint(data, at)
        index += gap + 1
        if index >= SKETCH_BUCKETS:
            raise ValueError(f"a sketch has {SKETCH_BUCKETS} buckets, this names number {index}")
        if not count:
            raise ValueError("a sketch does not mention empty buckets")
        sketch.counts[index] = count
    return sketch


def _put_varint(out: bytearray, value: int) -> None:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _take_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where the next one begins."""
    value = 0
    for shift, byte in enumerate(data[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise ValueError("a sketch breaks off in the middle of a number, or the number is too long")


class RecentSketch:
    """The values that were added to `total` within the last 5 to 10 s.

    The hot path only writes `total`, which lasts for the node's life. Two earlier states of it, taken 5 s apart, are
    kept here, and the recent part is the difference.
    """

    __slots__ = ("_later", "_older", "_turned", "total")

    def __init__(self, total: Sketch, now: float) -> None:
        self.total = total
        self._older = self._later = total.counts[:]
        self._turned = now

    def turn(self, now: float) -> None:
        """Drop what is too old; to be called about every second, or before `value`."""
        if now - self._turned < HALF_S:
            return
        nothing_recent = now - self._turned >= 2 * HALF_S
        self._older = self.total.counts[:] if nothing_recent else self._later
        self._later = self.total.counts[:]
        self._turned = now

    def value(self) -> Sketch:
        return Sketch([all_ - old for all_, old in zip(self.total.counts, self._older, strict=True)])
