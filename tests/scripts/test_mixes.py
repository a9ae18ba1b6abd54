import random

import pytest

from scripts.benchmarks.mixes import CLIENTS, MIX_S, MIXES, SECONDS, SECONDS_SLOW, SLOW_S, Setting, course


def at(name: str, load: float = 0.6, slow: bool = False, stacked: bool = False, one_path: bool = False) -> Setting:
    return Setting(name, load, slow, stacked, one_path)


@pytest.mark.parametrize("name", MIXES)
def test_the_short_requests_load_is_of_what_the_long_ones_leave(name: str) -> None:
    setting = at(name)
    mix = setting.mix
    busy = setting.per_second * mix.mean_s + setting.others_per_second * mix.other_s
    slots = sum(each.slots for each in setting.endpoints) - mix.held
    assert busy == pytest.approx(0.6 * slots)
    assert setting.per_second <= 1920


@pytest.mark.parametrize("name", MIXES)
def test_nothing_long_comes_before_its_time_and_a_seed_gives_the_same_again(name: str) -> None:
    one, again = (course(at(name), random.Random(1)) for _ in range(2))
    assert (one.requests, one.guests) == (again.requests, again.guests)
    assert len(one.guests) == MIXES[name].count
    assert all(MIX_S <= each.at_s <= MIX_S + 1 for each in one.guests)
    others = [each for each in one.requests if each.lane in one.background]
    assert bool(others) is bool(MIXES[name].other_s)
    assert all(each.at_s >= MIX_S for each in others)
    assert [each.at_s for each in one.requests] == sorted(each.at_s for each in one.requests)
    assert one.requests[-1].at_s < SECONDS


def test_the_other_route_asks_for_a_hundred_times_as_much() -> None:
    one = course(at("two-routes"), random.Random(1))
    demands = [each.demand for each in one.requests if each.lane in one.background]
    assert sum(demands) / len(demands) == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(("stacked", "slow"), [(False, [7]), (True, [6, 7, 8])])
def test_the_last_host_becomes_slow(stacked: bool, slow: list[int]) -> None:
    setting = at("none", slow=True, stacked=stacked)
    factors = [each.phase(SLOW_S).factor for each in setting.endpoints]
    assert [number for number, factor in enumerate(factors) if factor > 1] == slow
    assert {each.phase(SLOW_S - 0.1).factor for each in setting.endpoints} == {1.0}
    assert setting.seconds == SECONDS_SLOW


@pytest.mark.parametrize("name", MIXES)
def test_with_one_path_only_the_header_differs(name: str) -> None:
    one = course(at(name, one_path=True), random.Random(1))
    lines = {lane.line for lane in one.lanes(["127.0.0.1:1"])}
    lines |= {f"{guest.method} {guest.path}" for guest in one.guests}
    assert len(lines) == 1


@pytest.mark.parametrize("name", MIXES)
def test_otherwise_each_kind_has_its_own_path(name: str) -> None:
    one = course(at(name), random.Random(1))
    short, other = (lane.line for lane in one.lanes(["127.0.0.1:1"]))
    assert short == "GET /"
    assert other != short
    assert not {guest.path for guest in one.guests} & {"/", "/slow"}


def test_stacked_each_client_has_one_connection_to_the_edge() -> None:
    one = course(at("polls-2", 0.3, stacked=True), random.Random(1))
    *short, _ = one.lanes(["127.0.0.1:1"])
    assert one.edge
    assert one.groups == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert [lane.most for lane in short] == [1] * CLIENTS
    assert len(one.requests) == pytest.approx(0.3 * 3600 * SECONDS, rel=0.05)


@pytest.mark.parametrize("stacked", [False, True])
def test_fresh_requests_end_their_connections_and_come_at_any_time(stacked: bool) -> None:
    one = course(Setting("sse", 0.3, stacked=stacked, fresh=True), random.Random(1))
    short, _ = one.lanes(["127.0.0.1:1"])
    assert "Connection: close\r\n" in short.fields
    assert short.most > 1
    assert {each.lane for each in one.requests} == {0}
    kept = course(Setting("sse", 0.3, stacked=stacked), random.Random(1))
    assert not any("close" in lane.fields for lane in kept.lanes(["127.0.0.1:1"]))


def test_a_cell_is_named_by_all_that_makes_it_differ() -> None:
    assert str(at("polls-6")) == "polls-6 at 60 %"
    assert str(at("sse", 0.85, slow=True, stacked=True, one_path=True)) == "sse at 85 % slow stacked one path"
