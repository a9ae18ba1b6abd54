"""Siblings' capacities for the pick: none unknown, none next to zero, and equal where the difference may be noise."""

from collections.abc import Sequence

from tierlb.balance.draws import relative

FLOOR = 0.02
"""Of the largest sibling. A host with less would get nothing, and its recovery would not be noticed."""
LEAST_CAPACITY = 1e-6
"""A capacity below one item in eleven days counts as none: it is divided by."""
ALIKE = 1.5
"""A well-known capacity may be lower than another by this factor and still counts as the same."""


def settle(capacities: Sequence[float | None], likeness: Sequence[float] | None = None) -> list[float]:
    """Siblings' capacities for the pick (see the module).

    Unknown ones count as the mean of the known ones. `likeness`: the factor by which each may be below another that is
    its equal (ALIKE if not given). Without evening, noise of a few per cent would decide every pick on an idle tier,
    and one of several equal endpoints would get everything.
    """
    known = [capacity for capacity in capacities if capacity is not None]
    if not known or max(known) < LEAST_CAPACITY:
        return [1.0] * len(capacities)
    mean, floor = sum(known) / len(known), FLOOR * max(known)
    return evened([max(floor, mean if capacity is None else capacity) for capacity in capacities], likeness)


def stated_parts(stated: Sequence[float | None]) -> list[float] | None:
    """The capacities that endpoints state (ORCA) as factors of their weights, for policies that use weights only, as
    the weighted round robin of gRPC A58 does. None where no endpoint states any."""
    return None if all(capacity is None for capacity in stated) else relative(settle(stated))


def evened(capacities: Sequence[float], likeness: Sequence[float] | None = None) -> list[float]:
    """From the largest down, capacities that count as equal to the largest of their cluster get the mean of the
    cluster. Of two the larger likeness counts: the one that stands out may be the one of which little is known."""
    alike = likeness or [ALIKE] * len(capacities)
    order = sorted(range(len(capacities)), key=capacities.__getitem__, reverse=True)
    result = [0.0] * len(capacities)
    while order:
        head = order[0]
        largest, least = capacities[head], alike[head]
        cluster = [index for index in order if capacities[index] * max(least, alike[index]) >= largest]
        mean = sum(capacities[index] for index in cluster) / len(cluster)
        for index in cluster:
            result[index] = mean
        order = [index for index in order if index not in cluster]
    return result
