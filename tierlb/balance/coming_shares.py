"""The share of the next connections that each host is to get, where something else draws by it.

A chooser decides about each connection when it comes. The kernel, which forwards without asking, draws by weights that
were set a moment before. These weights are what the policy's chooser would do with the connections that are expected
until they have had an effect: policies that use load give each to the host of the lowest cost, so that water is filled
into vessels until their levels are equal. Long connections are few compared with those that are open, so nearly all of
the next ones go to the host that has too few. Short ones are many, and are shared in proportion to capacity.

Reports and counts are late by then. `expected` has to cover some times that delay (BALANCING.md §5), and a part of all
connections is always shared by capacity alone, so that no host is without any.

Left out: choosing of two, which is about equal to choosing the lowest of all at this distance, and the bound on load of
`maglev`.
"""

import math
from collections.abc import Sequence

from tierlb.balance.choosers import ChoosableHost
from tierlb.balance.cost import NEXT_ITEM, Cost
from tierlb.balance.draws import relative
from tierlb.model.topology import Policy

BY_CAPACITY = 0.1
"""The part of the connections that is shared without regard to what is in flight."""
SHARES_DEADBAND = 0.05
"""A share that differs by no more than this part of it is left as it is: a change costs a transaction, and jitter
would cause one every second."""
STEEPEST = 1e300


def coming_shares(policy: Policy, hosts: Sequence[ChoosableHost], expected: float) -> list[float]:
    """The share of each, all together 1, of so many connections that are `expected` from all parents."""
    if not hosts:
        return []
    match policy:
        case Policy.LOAD_AWARE:
            costs = [(each.slope, each.offset) for each in hosts]
        case Policy.LEAST_REQUESTS | Policy.TWO_CHOICES:
            costs = [(_by(part), 0.0) for part in _parts(hosts)]
        case Policy.PEAK_EWMA:
            times = [each.peak.cost for each in hosts]
            usual = max(times) or 1.0
            costs = [((took or usual) * _by(part), took) for took, part in zip(times, _parts(hosts), strict=True)]
        case _:
            return in_all(_parts(hosts))
    return _levelled([each.in_flight for each in hosts], costs, max(expected, float(len(hosts))))


def in_all(parts: Sequence[float]) -> list[float]:
    """The same parts as shares of their sum."""
    total = sum(parts)
    return [part / total for part in parts]


def are_news(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether shares of the same hosts differ by more than the deadband."""
    return any(abs(new - old) > SHARES_DEADBAND * old for old, new in zip(before, now, strict=True))


def _parts(hosts: Sequence[ChoosableHost]) -> list[float]:
    return relative([each.weight for each in hosts])


def _by(part: float) -> float:
    return 1 / part if part else STEEPEST


def _levelled(in_flight: Sequence[int], costs: Sequence[Cost], expected: float) -> list[float]:
    """Fill `expected` items into hosts of these costs, to a common level."""
    found = [_sane(count, *cost) for count, cost in zip(in_flight, costs, strict=True)]
    capacities = [1 / slope for slope, _ in found]
    lowest_first = sorted(range(len(found)), key=lambda index: found[index][1])
    room, level, width = expected, found[lowest_first[0]][1], 0.0
    for index in lowest_first:
        cost = found[index][1]
        if width and (cost - level) * width >= room:
            break
        room -= (cost - level) * width
        level, width = cost, width + capacities[index]
    level += room / width
    amounts = [max(0.0, level - cost) / slope for slope, cost in found]
    for index, (slope, _) in enumerate(found):
        if (
            NEXT_ITEM[0] <= slope < STEEPEST and not in_flight[index]
        ):  # it is to get one, and then none until that is over
            amounts[index] = 1.0
    filled, by_capacity = in_all(amounts), in_all(capacities)
    return [(1 - BY_CAPACITY) * own + BY_CAPACITY * base for own, base in zip(filled, by_capacity, strict=True)]


def _sane(in_flight: int, slope: float, offset: float) -> Cost:
    """The slope and the cost now. A host whose cost is not finite is at the end of the order."""
    cost = in_flight * slope + offset
    if not (math.isfinite(cost) and slope > 0):
        return STEEPEST, STEEPEST
    return slope, cost
