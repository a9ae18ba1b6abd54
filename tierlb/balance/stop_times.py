"""The time from SIGTERM to SIGKILL of each process: the drain time of its tier, and a margin.

The supervisor, compose and Kubernetes all use the same times.
"""

import math

from tierlb.balance.drain import STOP_MARGIN_S
from tierlb.model.topology import DRAIN_S, Topology


def drain_times(topology: Topology) -> dict[str, float]:
    """The drain time of each tier, and for each pool the longest of the tiers that send to it."""
    tiers = {name: tier.drain_s for name, tier in topology.tiers.items()}
    pools = {name: max((tier.drain_s for tier in topology.parents(name)), default=DRAIN_S) for name in topology.pools}
    return {**tiers, **pools}


def longest_drain_s(topology: Topology) -> float:
    """How long work in progress may last when the whole cluster is stopped; shown to the operator who stops it."""
    return max((tier.drain_s for tier in topology.tiers.values()), default=DRAIN_S)


def stop_s(drain_s: float) -> float:
    """From SIGTERM to SIGKILL."""
    return drain_s + STOP_MARGIN_S


def stop_whole_s(topology: Topology, name: str) -> int:
    """The same for a tier or pool, in whole seconds, as container engines need it."""
    return math.ceil(stop_s(drain_times(topology)[name]))


def stop_all_s(topology: Topology) -> float:
    """The longest stop of a whole cluster: its tiers are stopped together, and the pools when no node is left."""
    times = drain_times(topology)
    tiers = max((times[name] for name in topology.tiers), default=0.0)
    pools = max((times[name] for name in topology.pools), default=0.0)
    return stop_s(tiers) + stop_s(pools)
