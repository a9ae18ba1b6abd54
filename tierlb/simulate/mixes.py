"""Named mixes of short items with others that wait, stream or block, and their figures.

Each mix is played over one to three tiers, or over kept connections, in one course: the long items start at second 2,
are complete from second 6 to `SLOW_AT_S`, and then the last leaf becomes ten times slower. A good rule keeps the tail
of the short items where it would be without the long ones, gives equal leaves equal shares as long as long items hold
no slots, and avoids the slow one within a second.
"""

from collections.abc import Mapping

import attrs

from tierlb.model.topology import Policy
from tierlb.simulate.clients import Clients
from tierlb.simulate.kinds import SHORT_ROUTE, ItemKind, Slot, Span, Standing
from tierlb.simulate.leaf import Service
from tierlb.simulate.rules import ComparedRule
from tierlb.simulate.run import LeafChange, Scenario, SimulationOutcome
from tierlb.simulate.tree import Shape, SimulatedTier

BEGIN_S, MIX_STEADY_S, SLOW_AT_S, MIX_END_S = 2.0, 6.0, 14.0, 22.0
FOUND_WITHIN_S = 1.0
MIX_SLOWDOWN = 10.0
LEAF_SLOTS = 4

SHORT = Service(0.01)
POLL = ItemKind("poll", Service(5.0, 0.2), begin_s=BEGIN_S, stretched=False)
EVENTS = ItemKind("events", Service(0.005), body=Service(30.0), begin_s=BEGIN_S, stretched=False, streamed=True)
DOWNLOAD = ItemKind("download", SHORT, body=Span(10, 30), slot=Slot.HEAD, begin_s=BEGIN_S, reading=True)
UPLOAD = ItemKind("upload", SHORT, sending=Span(5, 15), slot=Slot.HEAD, begin_s=BEGIN_S)
ROUTE = ItemKind("route", Service(0.2), slot=Slot.THROUGHOUT, per_short=0.02, begin_s=BEGIN_S)
MODEL = ItemKind("model", Span(0.05, 0.5), body=Span(2, 30), begin_s=BEGIN_S, streamed=True)
BLOCKING = attrs.evolve(POLL, name="blocking", route="blocking", slot=Slot.THROUGHOUT)


@attrs.frozen
class Mix:
    """Short items of `service` and others."""

    kinds: tuple[ItemKind, ...]
    service: Service = SHORT


def standing(kind: ItemKind, count: int, *leaves: int, stays: bool = False) -> Mix:
    """So many clients with items of this kind, the first ones, or if it `stays` all, at these leaves."""
    return Mix((attrs.evolve(kind, standing=Standing(count, leaves=leaves, stays=stays)),))


MIXES: Mapping[str, Mix] = {
    "alike": Mix(()),
    "polls-6": standing(POLL, 6),
    "polls-12": standing(POLL, 12),
    "polls-40": standing(POLL, 40),
    "polls-200": standing(POLL, 200),
    "polls-40-on-2": standing(POLL, 40, 0, 1, stays=True),
    "sse": standing(EVENTS, 40),
    "downloads": standing(DOWNLOAD, 6),
    "uploads": standing(UPLOAD, 12),
    "two-routes": Mix((ROUTE,), Service(0.002)),
    "rare-slow": Mix((ROUTE,)),
    "llm": standing(MODEL, 40),
    "llm-slots": standing(attrs.evolve(MODEL, slot=Slot.THROUGHOUT), 8),
    "blocking": standing(BLOCKING, 8),
    "blocking-on-1": standing(BLOCKING, LEAF_SLOTS, 0, stays=True),
    "everything": Mix(
        (
            attrs.evolve(POLL, standing=Standing(20)),
            attrs.evolve(EVENTS, standing=Standing(10)),
            attrs.evolve(DOWNLOAD, standing=Standing(6)),
            attrs.evolve(UPLOAD, standing=Standing(6)),
            attrs.evolve(ROUTE, per_short=0.01),
            attrs.evolve(MODEL, standing=Standing(10)),
        )
    ),
}
ON_CONNECTIONS: Mapping[str, Mix] = {
    "polls-2": standing(attrs.evolve(POLL, head=Service(10.0, 0.2)), 2),
    "polls-2-on-1": standing(attrs.evolve(POLL, head=Service(10.0, 0.2)), 2, 0, stays=True),
    "polls-12": standing(attrs.evolve(POLL, head=Service(10.0, 0.2)), 12),
    "sse": standing(EVENTS, 12),
    "llm": standing(MODEL, 12),
}

TIERS: Mapping[int, tuple[list[SimulatedTier], int]] = {
    1: ([SimulatedTier(1)], 8),
    2: ([SimulatedTier(2), SimulatedTier(4, parents=2)], 12),
    3: ([SimulatedTier(2), SimulatedTier(3, parents=2), SimulatedTier(4, parents=3)], 12),
}
"""The tiers by their number, and how many leaves are below the last."""


def mixed(
    name: str,
    tiers: int = 1,
    delay_s: float = 0.05,
    *,
    rule: Policy | ComparedRule = Policy.LOAD_AWARE,
    load: float = 0.6,
    seed: int = 1,
    one_route: bool = False,
) -> Scenario:
    """A mix of `MIXES` with each request placed by itself. `one_route`: no node can distinguish the kinds before they
    are answered. Raises KeyError for an unknown name."""
    mix, (above, leaves) = MIXES[name], TIERS[tiers]
    kinds = [attrs.evolve(kind, route=SHORT_ROUTE) for kind in mix.kinds] if one_route else mix.kinds
    shape = Shape(above, leaves, 1, LEAF_SLOTS, mix.service, rule, delay_s)
    return Scenario(shape, load, MIX_END_S, [LeafChange(SLOW_AT_S, [leaves - 1], MIX_SLOWDOWN)], seed, kinds=kinds)


def kept_mix(
    name: str,
    parents: int = 1,
    delay_s: float = 0.05,
    *,
    rule: Policy | ComparedRule = Policy.LOAD_AWARE,
    load: float = 0.4,
    seed: int = 1,
    count: int = 600,
    zipf: float = 0.5,
) -> Scenario:
    """A mix of `ON_CONNECTIONS`: so many clients with short items and those of the mix keep connections, which nodes of
    a first tier place over three nodes with three leaves each. No leaf becomes slow."""
    mix = ON_CONNECTIONS[name]
    above = [SimulatedTier(parents, connections=True), SimulatedTier(3, parents)]
    shape = Shape(above, 9, 1, LEAF_SLOTS, mix.service, rule, delay_s)
    return Scenario(shape, load, MIX_END_S, (), seed, Clients(count, zipf), mix.kinds)


@attrs.frozen
class MixFigures:
    """p99 in ms of the short items: before, in the first second after a leaf became slow, and after that. Shares of
    the short items are relative to an equal one: the smallest and the largest of a leaf and of a node of the last tier
    before, and that of the slow leaf after."""

    p99_ms: float
    first_ms: float
    after_ms: float
    least: float
    most: float
    least_node: float
    most_node: float
    slow: float


def figures(outcome: SimulationOutcome) -> MixFigures:
    """The figures of a scenario of this module."""
    found_s = SLOW_AT_S + FOUND_WITHIN_S
    leaves, nodes = (relative_shares(outcome, MIX_STEADY_S, SLOW_AT_S, tier) for tier in (-1, -2))
    return MixFigures(
        1000 * outcome.quantile_s(0.99, MIX_STEADY_S, SLOW_AT_S),
        1000 * outcome.quantile_s(0.99, SLOW_AT_S, found_s),
        1000 * outcome.quantile_s(0.99, found_s, MIX_END_S),
        min(leaves),
        max(leaves),
        min(nodes),
        max(nodes),
        relative_shares(outcome, found_s, MIX_END_S)[-1],
    )


def relative_shares(outcome: SimulationOutcome, begin_s: float, end_s: float, tier: int = -1) -> list[float]:
    """The shares of short items in this time, relative to an equal one."""
    shares = outcome.shares(begin_s, end_s, tier)
    return [share * len(shares) for share in shares]
