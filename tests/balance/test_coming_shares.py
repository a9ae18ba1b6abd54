"""Shares of the next connections: by weight where the policy goes by that, else until the levels are equal."""

import math
import random
from collections import Counter

import pytest

from tests.balance.fake_hosts import FakeHost, fake_hosts, loaded
from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.balance.coming_shares import BY_CAPACITY, are_news, coming_shares
from tierlb.balance.cost import NEXT_ITEM
from tierlb.balance.peak import PeakEwma
from tierlb.model.topology import Policy


def weighed(*weights: float) -> list[FakeHost]:
    return [FakeHost(f"m{index}", weight=weight) for index, weight in enumerate(weights)]


@pytest.mark.parametrize("policy", Policy)
def test_equal_hosts_have_equal_shares(policy: Policy) -> None:
    assert coming_shares(policy, fake_hosts(4), 100) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("policy", [each for each in Policy if each is not Policy.LOAD_AWARE])
def test_idle_hosts_share_by_weight(policy: Policy) -> None:
    assert coming_shares(policy, weighed(3, 1), 100) == pytest.approx([0.75, 0.25])


def test_no_hosts_have_no_shares() -> None:
    assert coming_shares(Policy.RANDOM, [], 10) == []


@pytest.mark.parametrize(
    ("in_flight", "expected", "filled"),
    [
        ((0, 0), 10, (0.5, 0.5)),
        ((10, 0), 10, (0.0, 1.0)),
        ((10, 0), 30, (1 / 3, 2 / 3)),
        ((10, 0), 1e9, (0.5, 0.5)),
        ((6, 3, 0), 6, (0.0, 1.5 / 6, 4.5 / 6)),
    ],
)
def test_the_fewest_connections_are_filled_up_first(
    in_flight: tuple[int, ...], expected: float, filled: tuple[float, ...]
) -> None:
    count = len(in_flight)
    wanted = [(1 - BY_CAPACITY) * part + BY_CAPACITY / count for part in filled]
    assert coming_shares(Policy.LEAST_REQUESTS, loaded(in_flight), expected) == pytest.approx(wanted)


@pytest.mark.parametrize("policy", [Policy.LOAD_AWARE, Policy.LEAST_REQUESTS])
def test_they_are_what_the_chooser_would_do(policy: Policy) -> None:
    """Against picks one by one, each of which counts as in flight."""
    hosts = [FakeHost(f"m{n}", n, slope=1 / (1 + n), offset=0.5 / (1 + n), capacity=1 + n) for n in range(5)]
    shares = coming_shares(policy, hosts, 2000)
    chooser: Chooser[FakeHost] = make_chooser(policy, random.Random(1))
    chooser.rebuild(hosts)
    got: Counter[str] = Counter()
    capacities = [1 / (each.slope if policy is Policy.LOAD_AWARE else 1.0) for each in hosts]
    for _ in range(2000):
        chosen = chooser.pick(0)
        chosen.in_flight += 1
        got[chosen.name] += 1
    for host, share, capacity in zip(hosts, shares, capacities, strict=True):
        picked = (1 - BY_CAPACITY) * got[host.name] / 2000 + BY_CAPACITY * capacity / sum(capacities)
        assert share == pytest.approx(picked, abs=0.003)


def test_a_host_without_a_finite_cost_gets_next_to_nothing() -> None:
    hosts = [FakeHost("a"), FakeHost("b", slope=math.inf), FakeHost("c", offset=math.nan)]
    assert coming_shares(Policy.LOAD_AWARE, hosts, 100) == pytest.approx([1.0, 0.0, 0.0])


def test_a_host_that_is_to_get_one_gets_about_one_until_it_has_it() -> None:
    slope, offset = NEXT_ITEM
    hosts = [FakeHost("a"), FakeHost("tried", slope=slope, offset=offset)]
    shares = coming_shares(Policy.LOAD_AWARE, hosts, 100)
    assert 0.5 < shares[1] * 100 < 2
    hosts[1].in_flight = 1
    assert coming_shares(Policy.LOAD_AWARE, hosts, 100)[1] < 1e-6


def test_peak_ewma_goes_by_times_once_there_are_some() -> None:
    fast, slow = FakeHost("fast", peak=PeakEwma(0.1)), FakeHost("slow", peak=PeakEwma(0.3))
    shares = coming_shares(Policy.PEAK_EWMA, [fast, slow], 1e6)
    assert shares == pytest.approx([0.75, 0.25], abs=0.001)


def test_changes_within_the_deadband_are_no_news() -> None:
    assert not are_news([0.5, 0.5], [0.52, 0.48])
    assert are_news([0.5, 0.5], [0.53, 0.47])
    assert are_news([1.0, 0.0], [0.99, 0.01])
