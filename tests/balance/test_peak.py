"""Peak-sensitive averages against the formula of finagle."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.fake_hosts import FakeHost, fake_hosts
from tierlb.balance.peak import PEAK_DECAY_S, PeakEwma, PeakEwmaChoices, expected_s


def test_a_slower_response_is_believed_at_once() -> None:
    peak = PeakEwma()
    peak.observe(0, 0.010)
    peak.observe(1, 0.500)
    assert peak.cost == 0.500


def test_a_faster_one_is_believed_slowly() -> None:
    peak = PeakEwma()
    peak.observe(0, 0.500)
    peak.observe(PEAK_DECAY_S, 0.100)
    assert peak.cost == pytest.approx(0.1 + 0.4 / math.e)


def test_a_bad_memory_fades_while_nothing_is_sent() -> None:
    peak = PeakEwma()
    peak.observe(0, 1.0)
    for second in range(1, 21):
        peak.idle(second)
    assert peak.cost == pytest.approx(math.exp(-2))


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.001, 10)), min_size=1, max_size=30))
def test_the_average_is_that_of_finagle(responses: list[tuple[float, float]]) -> None:
    """`MetricsImpl.observe`, written down as it is there."""
    peak, cost, stamp, now = PeakEwma(), 0.0, 0.0, 0.0
    for pause_s, duration_s in responses:
        now += pause_s
        weight = math.exp(-(now - stamp) / PEAK_DECAY_S)
        cost = duration_s if duration_s > cost else cost * weight + duration_s * (1 - weight)
        stamp = now
        peak.observe(now, duration_s)
        assert peak.cost == pytest.approx(cost)


@pytest.mark.parametrize(
    ("cost", "in_flight", "expected"), [(0.1, 0, 0.1), (0.1, 4, 0.5), (0.0, 0, 0.0), (0.0, 1, 1e6 + 1)]
)
def test_the_load_is_time_by_queue(cost: float, in_flight: int, expected: float) -> None:
    assert expected_s(FakeHost(in_flight=in_flight, peak=PeakEwma(cost))) == pytest.approx(expected)


def test_the_cheaper_of_two_is_chosen() -> None:
    hosts = fake_hosts(2)
    hosts[0].peak.observe(0, 0.3)
    hosts[1].peak.observe(0, 0.1)
    chooser: PeakEwmaChoices[FakeHost] = PeakEwmaChoices(random.Random(1))
    chooser.rebuild(hosts)
    hosts[1].in_flight = 1
    assert {chooser.pick(0).name for _ in range(20)} == {"m1"}
    hosts[1].in_flight = 3
    assert {chooser.pick(0).name for _ in range(20)} == {"m0"}
    assert chooser.among(hosts[1:], 0) is hosts[1]


@pytest.mark.parametrize(("cost", "count"), [(0.1, 100), (0.15, 100), (0.21, 0), (1.0, 0)])
def test_a_turn_by_weight_is_lost_to_one_that_is_done_far_sooner_only(cost: float, count: int) -> None:
    hosts = fake_hosts(2)
    hosts[0].weight = 3.0
    hosts[0].peak.observe(0, 0.1)
    hosts[1].peak.observe(0, cost)
    chooser: PeakEwmaChoices[FakeHost] = PeakEwmaChoices(random.Random(1))
    chooser.rebuild(hosts)
    assert [chooser.pick(0).name for _ in range(400)].count("m1") == pytest.approx(count, abs=2)
