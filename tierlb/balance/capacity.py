"""Siblings' capacities as the pick takes them: none unknown, none next to nothing, equals equal."""

from collections.abc import Sequence

from tierlb.balance.draws import relative

FLOOR = 0.02
"""Of the largest sibling: one that has recovered must be found again."""
LEAST_CAPACITY = 1e-6
"""Below one item in eleven days it is no capacity, and nothing may be divided by it."""
ALIKE = 1.5
"""A capacity that is known well may be below another by this factor and still counts as the same."""


def settle(capacities: Sequence[float | None], likeness: Sequence[float] | None = None) -> list[float]:
    """Siblings' capacities as the pick takes them: none unknown, none next to nothing, equals equal.

    Unknown ones are taken for the mean of the known. Without the last step noise of a few per cent would decide
    every pick on an idle tier, and one of equal endpoints would get everything. `likeness`: by what factor each may be
    below another that is its equal (ALIKE where nothing is said).
    """
    known = [capacity for capacity in capacities if capacity is not None]
    if not known or max(known) < LEAST_CAPACITY:
        return [1.0] * len(capacities)
    mean, floor = sum(known) / len(known), FLOOR * max(known)
    return evened([max(floor, mean if capacity is None else capacity) for capacity in capacities], likeness)


def stated_parts(stated: Sequence[float | None]) -> list[float] | None:
    """What endpoints said of their capacities (ORCA) as factors of their weights, for policies that go by weights alone
    (gRPC A58 does so in its weighted round robin). None where no endpoint said anything."""
    return None if all(capacity is None for capacity in stated) else relative(settle(stated))


def evened(capacities: Sequence[float], likeness: Sequence[float] | None = None) -> list[float]:
    """From the largest down, those that are as good as the largest of their cluster get the cluster's mean. Of two the
    larger likeness counts: the one that stands out may be the one of which little is known."""
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
