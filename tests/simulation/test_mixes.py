"""Requests that differ, in virtual time with the real balance code: what waits is not work (BALANCING.md §9).

Short items come beside polls, streams, downloads, uploads, slow routes and language models. As long as the long ones
hold no slots, the short ones are to notice nothing: their tail is that of rules that count items only, and equal
leaves get equal shares. Where long ones do hold slots, and where a leaf becomes slow, it is left.
"""

import functools

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tierlb.model.topology import Policy
from tierlb.simulate.kinds import ItemKind, Standing
from tierlb.simulate.leaf import Service
from tierlb.simulate.mixes import (
    BLOCKING,
    DOWNLOAD,
    EVENTS,
    LEAF_SLOTS,
    MODEL,
    POLL,
    ROUTE,
    TIERS,
    UPLOAD,
    MixFigures,
    figures,
    kept_mix,
    mixed,
    relative_shares,
)
from tierlb.simulate.run import Scenario, run
from tierlb.simulate.tree import Shape, SimulatedTier

LATE_S = 2.0
SOON_S = 0.05
PEER = Policy.LEAST_REQUESTS
RATIO, RATIO_AFTER = 1.03, 0.9
LEAST, MOST = 0.8, 1.25
HALF = 0.5
WITHOUT_SLOTS = (
    "polls-6",
    "polls-12",
    "polls-40",
    "polls-200",
    "polls-40-on-2",
    "sse",
    "downloads",
    "uploads",
    "rare-slow",
    "llm",
    "everything",
)
WITH_SLOTS = ("two-routes", "llm-slots", "blocking", "blocking-on-1")


@functools.cache
def played(
    name: str, rule: Policy = Policy.LOAD_AWARE, tiers: int = 1, delay_s: float = SOON_S, *, one_route: bool = False
) -> MixFigures:
    return figures(run(mixed(name, tiers, delay_s, rule=rule, one_route=one_route)))


@pytest.mark.parametrize("name", [*WITHOUT_SLOTS, *WITH_SLOTS])
def test_the_tail_of_short_items_is_no_longer_than_by_counts_alone(name: str) -> None:
    assert played(name).p99_ms <= RATIO * played(name, PEER).p99_ms


@pytest.mark.parametrize("name", WITHOUT_SLOTS)
def test_equal_leaves_get_equal_shares_of_short_items(name: str) -> None:
    told = played(name)
    assert told.least >= LEAST
    assert told.most <= MOST


@pytest.mark.parametrize("name", ["polls-40", "llm", "everything"])
def test_kinds_need_not_be_told_apart_before_they_are_answered(name: str) -> None:
    told = played(name, one_route=True)
    assert told.p99_ms <= RATIO * played(name, PEER).p99_ms
    assert told.least >= HALF
    assert told.after_ms <= RATIO_AFTER * played(name, PEER).after_ms


@pytest.mark.parametrize("name", ["polls-40", "polls-40-on-2", "everything"])
@pytest.mark.parametrize("tiers", [pytest.param(2, marks=pytest.mark.long), 3])
def test_tiers_with_late_reports_keep_the_tail_and_the_shares(name: str, tiers: int) -> None:
    """The tail of the same tree without any long ones is what is asked: counts alone cannot see the queue below."""
    told = played(name, tiers=tiers, delay_s=LATE_S)
    assert told.p99_ms <= 1.1 * played("alike", tiers=tiers, delay_s=LATE_S).p99_ms
    assert told.least >= LEAST
    assert told.most <= MOST
    assert told.least_node >= 0.9
    assert told.most_node <= 1.1


@pytest.mark.parametrize("name", [*WITHOUT_SLOTS, *WITH_SLOTS])
def test_a_leaf_that_becomes_slow_is_found_within_a_second_by_the_short_items(name: str) -> None:
    """Two routes at 60 % need the slow leaf now and then, and their tail varies by half between seeds."""
    told = played(name)
    assert told.slow < 0.05
    if name != "two-routes":
        assert told.after_ms <= RATIO_AFTER * played(name, PEER).after_ms


def test_a_leaf_all_of_whose_slots_are_blocked_gets_next_to_nothing() -> None:
    told = played("blocking-on-1")
    assert told.least < 0.02
    assert told.p99_ms < 50


@pytest.mark.parametrize("name", ["polls-2-on-1", "polls-12", "llm"])
@pytest.mark.parametrize(("parents", "delay_s"), [(1, SOON_S), (2, LATE_S)])
def test_a_node_with_polls_on_its_connections_keeps_its_share_of_the_others(
    name: str, parents: int, delay_s: float
) -> None:
    told = figures(run(kept_mix(name, parents, delay_s)))
    assert told.least_node >= LEAST
    assert told.most_node <= MOST
    assert told.p99_ms <= 1.05 * figures(run(kept_mix(name, parents, delay_s, rule=Policy.LEAST_REQUESTS))).p99_ms


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_polls_take_a_node_no_short_items_away_where_there_are_few_clients(seed: int) -> None:
    """Eight clients over three nodes: equal shares cannot be had, but one client's worth is a third of a node's."""
    outcome = run(kept_mix("polls-2-on-1", load=0.1, count=8, zipf=0.0, seed=seed))
    assert relative_shares(outcome, 6.0, 14.0, -2)[0] >= HALF
    assert relative_shares(outcome, 14.0, 22.0, -2)[0] >= 0.3


# Any mix, any placement.

LEAVES = 6
BEGIN_S, WINDOW_S = 6.0, 10.0
PARKED = (POLL, EVENTS, DOWNLOAD, UPLOAD, MODEL)
TREES = {
    1: [SimulatedTier(1)],
    2: [SimulatedTier(2), SimulatedTier(3, parents=2)],
    3: [SimulatedTier(1), SimulatedTier(2), SimulatedTier(3, parents=2)],
}


@st.composite
def standing(draw: st.DrawFn, kind: ItemKind) -> ItemKind:
    """Clients with items of the kind, anywhere."""
    leaves = draw(st.lists(st.integers(0, LEAVES - 1), max_size=4))
    count, begin_s = draw(st.integers(1, 60)), draw(st.sampled_from([0.0, 2.0, 5.0]))
    stays = bool(leaves) and draw(st.booleans())
    return attrs.evolve(kind, standing=Standing(count, leaves=leaves, stays=stays), begin_s=begin_s)


KINDS = st.lists(st.sampled_from(PARKED), min_size=1, unique_by=lambda kind: kind.name).flatmap(
    lambda kinds: st.tuples(*map(standing, kinds))
)


def scenario(tiers: int, delay_s: float, load: float, kinds: tuple[ItemKind, ...], seed: int) -> Scenario:
    shape = Shape(TREES[tiers], LEAVES, 1, LEAF_SLOTS, Service(0.02), report_delay_s=delay_s)
    return Scenario(shape, load, BEGIN_S + WINDOW_S, (), seed, kinds=kinds)


CIRCUMSTANCES = {
    "tiers": st.sampled_from(sorted(TIERS)),
    "delay_s": st.sampled_from([SOON_S, LATE_S]),
    "load": st.sampled_from([0.3, 0.6, 0.85]),
    "seed": st.integers(1, 1000),
}


@settings(max_examples=20, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(kinds=KINDS, slow_route=st.sampled_from([0.0, 0.005]), **CIRCUMSTANCES)
def test_no_equal_leaf_falls_below_half_its_share_whatever_waits_where(
    tiers: int, delay_s: float, load: float, kinds: tuple[ItemKind, ...], slow_route: float, seed: int
) -> None:
    if slow_route:
        kinds = (*kinds, attrs.evolve(ROUTE, per_short=slow_route))
    outcome = run(scenario(tiers, delay_s, load, kinds, seed))
    assert min(relative_shares(outcome, BEGIN_S, BEGIN_S + WINDOW_S)) >= HALF


@settings(max_examples=10, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(blocked=st.lists(st.integers(0, LEAF_SLOTS // 2), min_size=LEAVES, max_size=LEAVES), **CIRCUMSTANCES)
def test_no_leaf_falls_below_half_of_what_its_free_slots_are_worth(
    tiers: int, delay_s: float, load: float, blocked: list[int], seed: int
) -> None:
    kinds = tuple(
        attrs.evolve(BLOCKING, name=f"blocking {leaf}", standing=Standing(count, leaves=(leaf,), stays=True))
        for leaf, count in enumerate(blocked)
        if count
    )
    outcome = run(scenario(tiers, delay_s, load, kinds, seed))
    free = [LEAF_SLOTS - count for count in blocked]
    fair = [LEAVES * slots / sum(free) for slots in free]
    shares = relative_shares(outcome, BEGIN_S, BEGIN_S + WINDOW_S)
    assert all(share >= HALF * part for share, part in zip(shares, fair, strict=True))
