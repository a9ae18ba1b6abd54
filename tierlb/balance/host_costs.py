"""The cost at which each of some siblings is chosen, worked out anew: at every tick, with a report and after an error.

The data plane's host sets and the nodes of the simulator both do this, before their chooser is rebuilt.
"""

from collections.abc import Sequence

from tierlb.balance.activity import in_whole
from tierlb.balance.capacity import settle
from tierlb.balance.cost import Cost, comparable
from tierlb.balance.counted_host import CountedHost
from tierlb.balance.draws import relative
from tierlb.balance.medians import median


def refresh_costs(
    hosts: Sequence[CountedHost], now: float, weights: Sequence[float], usable: Sequence[bool] = ()
) -> None:
    """Work out anew the capacity and cost of each (`LoadEstimate.cost`). `usable` (empty: all are): which of them may
    be sent to. Only those count where loads are compared with the lowest."""
    assign_costs(hosts, now, _capacities(hosts, now), relative(weights), usable)


def assign_costs(
    hosts: Sequence[CountedHost],
    now: float,
    capacities: Sequence[float],
    parts: Sequence[float],
    usable: Sequence[bool] = (),
) -> None:
    """The same with capacities that have been settled, and weights as `parts` of the heaviest."""
    costs: list[Cost] = []
    loads = _loads_by_activity(hosts, parts, usable)
    for index, (host, capacity, part) in enumerate(zip(hosts, capacities, parts, strict=True)):
        estimate, trial = host.estimate, host.unqueued > 0
        tried = trial or estimate.speed.slowness.probe.active or estimate.probe.due
        counted = 0.0 if tried else estimate.speed.work.interference.weight
        left_out = host.in_flight - loads[index] if loads else host.unqueued + host.parked * (1 - counted)
        host.left_out = left_out
        costs.append(estimate.cost(now, capacity, host.in_flight, part, left_out, probe=trial))
    for host, capacity, (slope, offset) in zip(hosts, capacities, comparable(costs), strict=True):
        host.capacity, host.slope, host.offset = capacity, slope, offset


def _capacities(siblings: Sequence[CountedHost], now: float) -> list[float]:
    """Their capacities as the pick takes them (`balance.capacity.settle`)."""
    estimates = [host.estimate for host in siblings]
    latest = [load for estimate in estimates if (load := estimate.received.latest) is not None]
    reported = [load.capacity for load in latest if load.capacity > 0]
    middle = median(reported) if reported else None
    return settle(
        [estimate.capacity(now, middle) for estimate in estimates], [estimate.likeness(now) for estimate in estimates]
    )


def _loads_by_activity(hosts: Sequence[CountedHost], parts: Sequence[float], usable: Sequence[bool]) -> list[float]:
    """The load of each, as the choice takes it, where all are given connections whose use is watched; else empty."""
    if not all(host.estimate.traits.by_activity for host in hosts):
        return []
    loads = [host.in_flight - host.lightness for host in hosts]
    return in_whole(loads, parts, usable or [True] * len(hosts))
