import itertools
import random
import statistics

import pytest

from scripts.benchmarks.arrivals import Rate, by_clients, poisson, zipf

STEP = [Rate(10, 200.0), Rate(15, 600.0), Rate(20, 200.0)]


def test_a_seed_gives_the_same_arrivals_and_demands_again() -> None:
    assert poisson(random.Random(7), STEP) == poisson(random.Random(7), STEP)
    assert poisson(random.Random(7), STEP) != poisson(random.Random(8), STEP)


@pytest.mark.parametrize(("from_s", "until_s", "rate"), [(0, 10, 200), (10, 15, 600), (15, 20, 200)])
def test_each_phase_has_its_rate(from_s: float, until_s: float, rate: float) -> None:
    count = sum(from_s <= each.at_s < until_s for each in poisson(random.Random(1), STEP))
    expected = rate * (until_s - from_s)
    assert abs(count - expected) < 4 * expected**0.5


def test_gaps_and_demands_are_exponential() -> None:
    requests = poisson(random.Random(2), [Rate(50, 200.0)])
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(requests)]
    for values, mean in ((gaps, 0.005), ([each.demand for each in requests], 1.0)):
        assert statistics.mean(values) == pytest.approx(mean, rel=0.05)
        assert statistics.stdev(values) == pytest.approx(mean, rel=0.05)


def test_a_crowd_is_dealt_evenly_to_its_lanes() -> None:
    lanes = [each.lane for each in poisson(random.Random(3), [Rate(1, 400.0)], lanes=4)]
    assert lanes[:8] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_clients_ask_in_proportion_to_their_shares_and_in_order_of_time() -> None:
    requests = by_clients(random.Random(4), [0.75, 0.25], Rate(20, 1000.0))
    assert [each.at_s for each in requests] == sorted(each.at_s for each in requests)
    assert sum(each.lane == 0 for each in requests) / len(requests) == pytest.approx(0.75, abs=0.02)
    assert len(requests) == pytest.approx(20_000, rel=0.03)


def test_zipf_shares_sum_to_one_and_fall_as_the_exponent_says() -> None:
    shares = sorted(zipf(random.Random(5), 100, 0.5), reverse=True)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] / shares[99] == pytest.approx(10.0)
