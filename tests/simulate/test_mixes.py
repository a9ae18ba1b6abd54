"""The table of mixes, and the figures taken from a run."""

import pytest

from tierlb.model.topology import Policy
from tierlb.simulate.mixes import (
    FOUND_WITHIN_S,
    MIX_END_S,
    MIX_STEADY_S,
    MIXES,
    ON_CONNECTIONS,
    SLOW_AT_S,
    TIERS,
    figures,
    kept_mix,
    mixed,
    relative_shares,
)
from tierlb.simulate.run import SAMPLE_S, SimulationOutcome, run


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("tiers", TIERS)
def test_every_mix_can_be_played_at_each_load(name: str, tiers: int) -> None:
    for load in (0.3, 0.6, 0.85):
        scenario = mixed(name, tiers, 2.0, load=load, rule=Policy.ROUND_ROBIN)
        shape = scenario.shape
        assert 0 < scenario.rate <= load * shape.capacity * (1 + 1e-9)
        assert (shape.rule, shape.report_delay_s, len(shape.tiers)) == (Policy.ROUND_ROBIN, 2.0, tiers)
        assert all(position < shape.leaves - 1 for kind in scenario.kinds for position in kind.standing.leaves)


@pytest.mark.parametrize("name", ON_CONNECTIONS)
def test_mixes_on_connections_have_standing_clients_only(name: str) -> None:
    scenario = kept_mix(name, 2)
    assert scenario.clients is not None
    assert [tier.connections for tier in scenario.shape.tiers] == [True, False]
    assert all(kind.standing.count and not kind.per_short for kind in scenario.kinds)


def test_the_figures_are_of_the_time_before_the_first_second_and_the_rest() -> None:
    def rows(first: float) -> list[list[int]]:
        """The first gets `first` of what the others get; a second after the last leaf became slow two get all."""
        counts = [[0] * 4]
        for sample in range(round(MIX_END_S / SAMPLE_S)):
            at_s = sample * SAMPLE_S + 0.01
            before = at_s < SLOW_AT_S
            found = [100, 100, 0, 0] if at_s > SLOW_AT_S + FOUND_WITHIN_S else [100, 100, 100, 100]
            more = [round(100 * first), 100, 100, 100] if before else found
            counts.append([old + new for old, new in zip(counts[-1], more, strict=True)])
        return counts

    latencies = [(MIX_STEADY_S - 1, 9.0), (MIX_STEADY_S, 0.01), (SLOW_AT_S, 0.05), (SLOW_AT_S + 1, 0.02)]
    told = figures(SimulationOutcome(latencies, [rows(0.8), rows(0.5)]))
    assert (told.p99_ms, told.first_ms, told.after_ms) == pytest.approx((10, 50, 20))
    assert (told.least, told.most) == pytest.approx((4 / 7, 8 / 7))
    assert (told.least_node, told.most_node) == pytest.approx((0.8 * 4 / 3.8, 4 / 3.8))
    assert told.slow == 0


@pytest.mark.parametrize("tiers", TIERS)
def test_least_requests_keeps_the_tail_beside_polls_and_does_not_leave_a_slow_leaf(tiers: int) -> None:
    told = figures(run(mixed("polls-12", tiers, rule=Policy.LEAST_REQUESTS)))
    assert told.p99_ms == pytest.approx(46.1, rel=0.05), "of exponential services of 10 ms"
    assert 0.1 < told.slow < 0.3
    assert told.first_ms > 1.1 * told.p99_ms


def test_relative_shares_are_1_where_all_get_the_same() -> None:
    outcome = run(mixed("polls-40", rule=Policy.ROUND_ROBIN, load=0.1))
    assert relative_shares(outcome, 0.0, MIX_END_S) == pytest.approx([1.0] * 8, abs=0.02)
