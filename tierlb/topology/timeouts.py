"""Timeouts compared along the tree: where a tier gives up before one below it may answer.

Each is right by itself, so these are warnings. A tier is compared with the nearest l7 tiers below it, whatever l4 tiers
stand between. At l4 a connection is the same from end to end.
"""

from collections.abc import Iterator

from tierlb.model.topology import Kind, Tier, Timeouts, Topology
from tierlb.topology.problems import Fault
from tierlb.topology.units import duration_text

WAITS = {
    "response": "while it waits for an answer",
    "stream": "in the middle of a body",
    "idle": "between requests, and the next one is lost",
}
"""During which timeouts of an l7 tier nothing passes on its clients' connections, and when those are cut then."""


def timeout_advice(topology: Topology) -> Iterator[Fault]:
    """Where a timeout of one tier defeats that of another, or its own drain time."""
    for tier in topology.tiers.values():
        below = list(_l7_below(topology, tier))
        if tier.kind is Kind.L4:
            yield from _idle_advice(tier, below)
        else:
            yield from _response_advice(tier, below)
            yield from _drain_advice(tier)


def _idle_advice(tier: Tier, below: list[Tier]) -> Iterator[Fault]:
    for lower in below:
        key = max(WAITS, key=lambda name: getattr(lower.timeouts, name))
        longest = getattr(lower.timeouts, key)
        if tier.timeouts.idle < longest:
            message = (
                f"is shorter than the {key} timeout of tier {lower.name!r} ({duration_text(longest)}): connections "
                f"are cut {WAITS[key]}; write at least {duration_text(longest)}"
            )
            yield Fault(("tiers", tier.name, "timeouts", "idle"), message)


def _response_advice(tier: Tier, below: list[Tier]) -> Iterator[Fault]:
    for lower in below:
        if tier.timeouts.response < lower.timeouts.response:
            message = (
                f"is shorter than that of tier {lower.name!r} ({duration_text(lower.timeouts.response)}): this tier "
                "answers 504 while that one still waits; write at least as much, or less there"
            )
            yield Fault(("tiers", tier.name, "timeouts", "response"), message)


def _drain_advice(tier: Tier) -> Iterator[Fault]:
    """Only where the file gives a response timeout: the default is a bound for all, not how long answers take."""
    response = tier.timeouts.response
    if response != Timeouts().response and tier.drain_s < response:
        message = (
            f"is shorter than timeouts.response ({duration_text(response)}): answers that take longer are cut when "
            "a node is drained, restarted or stopped"
        )
        yield Fault(("tiers", tier.name, "drain"), message)


def _l7_below(topology: Topology, tier: Tier) -> Iterator[Tier]:
    """The nearest l7 tiers, each once."""
    seen: set[str] = set()
    waiting = list(reversed(tier.targets))
    while waiting:
        name = waiting.pop()
        lower = topology.tiers.get(name)
        if lower is None or name in seen:
            continue
        seen.add(name)
        if lower.kind is Kind.L7:
            yield lower
        else:
            waiting += reversed(lower.targets)
