"""How the drain time of a node is used."""

import math

import pytest

from tierlb.balance.drain import (
    BELOW_S,
    GRACE_S,
    LAST_ANSWERS_S,
    SPREAD_S,
    STOP_MARGIN_S,
    DrainState,
    Remainder,
    grace_s,
    spread_s,
)
from tierlb.wire.agent_check import AGENT_NOTICE_S


@pytest.mark.parametrize(
    ("drain_s", "spread", "grace"), [(30.0, SPREAD_S, GRACE_S), (3600.0, SPREAD_S, GRACE_S), (1.0, 0.25, 0.25)]
)
def test_what_is_idle_ends_soon_and_well_before_the_deadline(drain_s, spread, grace):
    assert (spread_s(drain_s), grace_s(drain_s)) == (spread, grace)
    assert spread_s(drain_s) + grace_s(drain_s) <= drain_s / 2


def test_a_node_has_ended_before_it_is_killed():
    assert AGENT_NOTICE_S + BELOW_S + LAST_ANSWERS_S < STOP_MARGIN_S


def test_the_time_runs_from_the_first_word():
    drain = DrainState()
    drain.begin(100.0, 30.0)
    drain.begin(120.0, 30.0)
    assert not drain.is_over(129.9)
    assert drain.is_over(130.0)


def test_a_time_that_is_changed_meanwhile_counts_from_the_same_moment():
    drain = DrainState()
    drain.begin(100.0, 30.0)
    drain.begin(105.0, 10.0)
    assert (drain.is_over(109.9), drain.is_over(110.0)) == (False, True)


def test_a_node_that_serves_again_has_no_deadline():
    drain = DrainState()
    drain.begin(100.0, 30.0)
    drain.stop()
    assert not drain.is_over(math.nextafter(math.inf, 0))
    drain.begin(200.0, 30.0)
    assert (drain.is_over(229.0), drain.is_over(230.0)) == (False, True)


def test_what_arrives_after_the_deadline_has_as_long_again():
    drain = DrainState()
    drain.begin(100.0, 30.0)
    drain.repeat(130.0)
    assert (drain.is_over(159.0), drain.is_over(160.0)) == (False, True)


@pytest.mark.parametrize("left", [Remainder(requests=1), Remainder(tunnels=1), Remainder(connections=1)])
def test_anything_under_way_is_a_remainder(left):
    assert left
    assert not Remainder()
