import random

import pytest

from scripts.benchmarks.simulated import BIN_S
from scripts.benchmarks.stacked import CLIENTS, ENDPOINTS, GROUPS, SECONDS, course, ideal_share, share_figures

BINS = round(SECONDS / BIN_S)


def arrivals(share_at: list[float]) -> list[list[int]]:
    """Counts by endpoint and bin when the first node gets that share in each bin, of 720 a bin."""
    first = [round(240 * share) for share in share_at]
    rest = [(720 - 3 * count) // 6 for count in first]
    return [first] * 3 + [rest] * 6


def test_only_the_first_nodes_endpoints_change_and_they_recover() -> None:
    slow = [[round(each.capacity(at_s)) for each in ENDPOINTS] for at_s in (9.9, 10.0, 29.9, 30.0)]
    assert slow == [[400] * 9, [40] * 3 + [400] * 6, [40] * 3 + [400] * 6, [400] * 9]
    assert GROUPS == ((0, 1, 2), (3, 4, 5), (6, 7, 8))


def test_the_ideal_is_the_part_of_the_capacity() -> None:
    assert ideal_share(5.0) == pytest.approx(1 / 3)
    assert ideal_share(20.0) == pytest.approx(120 / 2520)


def test_a_hundred_and_fifty_clients_ask_over_one_connection_each() -> None:
    one = course(random.Random(1))
    lanes = one.lanes(["127.0.0.1:8080"])
    assert one.edge
    assert [lane.most for lane in lanes] == [1] * CLIENTS
    assert {each.lane for each in one.requests} == set(range(CLIENTS))
    assert len(one.requests) == pytest.approx(1500 * SECONDS, rel=0.03)


def test_a_share_that_follows_after_four_seconds_settled_then() -> None:
    after_s, ideal = 4.0, ideal_share(20.0)
    by_bin = [1 / 3 if not 10 + after_s <= number * BIN_S < 30 else ideal for number in range(BINS)]
    figures = share_figures(arrivals(by_bin))
    assert figures["share settled s"] == pytest.approx(after_s, abs=BIN_S)
    assert figures["share low s"] == figures["share settled s"]
    assert figures["share back s"] == 0.0
    assert figures["share 15–30 s / ideal"] == pytest.approx(1.0, abs=0.1)


def test_a_share_below_its_part_is_low_but_has_not_settled() -> None:
    by_bin = [1 / 3 if not 12 <= number * BIN_S < 30 else 0.0 for number in range(BINS)]
    figures = share_figures(arrivals(by_bin))
    assert figures["share low s"] == pytest.approx(2.0, abs=BIN_S)
    assert figures["share settled s"] == 20.0


def test_a_share_that_never_follows_gets_the_whole_length_of_the_phase() -> None:
    figures = share_figures(arrivals([1 / 3] * BINS))
    assert figures["share settled s"] == 20.0
    assert figures["share 15–30 s / ideal"] == pytest.approx(7.0, rel=0.01)
