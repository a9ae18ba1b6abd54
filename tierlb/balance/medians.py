"""Medians. The standard library's, with the decimals and fractions that it imports, take half a MiB of every node."""

from collections.abc import Iterable


def median(values: Iterable[float]) -> float:
    """The middle one, or the mean of the two in the middle; of one value at least."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_low(values: Iterable[float]) -> float:
    """The middle one, or the lower one of the two in the middle; of one value at least."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]
