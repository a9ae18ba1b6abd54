"""A distribution as a table of slots, for something that only counts, draws or hashes a number and looks it up.

`Slots` are runs of numbers below `modulus`, each of one host. Draws need one run per host. Turns are laid out so that
each host's are evenly spread (`balance.weighted`). Hashes look up a small table of `balance.maglev`.
"""

import enum
from collections.abc import Mapping, Sequence

import attrs

from tierlb.balance.draws import relative
from tierlb.balance.maglev import filled

DRAWS = 10_000
"""Of a draw: shares are exact to a hundredth of a per cent."""
TURNS = 1_000
"""Of a round at most. Weights that are multiples of the lightest are kept exactly if their sum is smaller."""
ROUNDING = 1e-6
"""Shares are weights that were divided by their sum."""
HASHES = 4_093
"""Prime, as the table has to be. With a hundred hosts each has 40 slots or 41, so shares are off by 2.5 % at most."""

SlotRun = tuple[int, int, int]
"""The first and the last number, and the position of the host."""


class Selector(enum.Enum):
    """How the number comes about: at RANDOM, from a count of TURNS, or from a hash of the SOURCE address."""

    RANDOM = "random"
    TURN = "turn"
    SOURCE = "source"


@attrs.frozen
class Slots:
    selector: Selector
    modulus: int
    runs: tuple[SlotRun, ...]


def drawn(shares: Sequence[float]) -> Slots:
    """Each host's share of random numbers. One with a share above 0 has one number at least."""
    runs, at = [], 0
    for index, count in enumerate(_counts(shares, max(DRAWS, 2 * len(shares)))):
        if count:
            runs.append((at, at + count - 1, index))
            at += count
    return Slots(Selector.RANDOM, at, tuple(runs))


def in_turn(weights: Sequence[float]) -> Slots:
    """Each host in turn, by weight (above zero)."""
    lightest = min(weights)
    exact = [weight / lightest for weight in weights]
    counts = [round(part) for part in exact]
    if sum(counts) > TURNS or any(abs(part - count) > ROUNDING for part, count in zip(exact, counts, strict=True)):
        counts = _counts(relative(weights), max(TURNS, len(weights)))
    order = _spread(counts)
    return Slots(Selector.TURN, len(order), tuple((turn, turn, index) for turn, index in enumerate(order)))


def hashed(weights: Mapping[str, float]) -> Slots:
    """A table by which few addresses change their host as hosts come and go. It depends on names and weights only."""
    names = list(weights)
    order = sorted(names)
    position = [names.index(name) for name in order]
    table = filled({name: weights[name] for name in order}, HASHES)
    return Slots(Selector.SOURCE, HASHES, tuple((slot, slot, position[own]) for slot, own in enumerate(table)))


def _counts(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion, their sum `total`: by the largest remainder, and one at least."""
    whole = sum(shares)
    exact = [share / whole * total for share in shares]
    counts = [max(1, int(part)) if share else 0 for share, part in zip(shares, exact, strict=True)]
    by_remainder = sorted(range(len(counts)), key=lambda index: counts[index] - exact[index])
    missing = total - sum(counts)
    for index in by_remainder[: max(0, missing)]:
        counts[index] += 1
    for _ in range(-missing):
        counts[counts.index(max(counts))] -= 1
    return counts


def _spread(counts: Sequence[int]) -> list[int]:
    """Positions so many times each, evenly: smooth weighted round robin over one round."""
    total, gained, order = sum(counts), [0] * len(counts), []
    for _ in range(total):
        gained = [gain + count for gain, count in zip(gained, counts, strict=True)]
        chosen = gained.index(max(gained))
        gained[chosen] -= total
        order.append(chosen)
    return order
