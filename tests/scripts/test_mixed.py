import itertools
from pathlib import Path

import click
import pytest

from scripts.benchmarks.contest import Entry
from scripts.benchmarks.guests import Visits
from scripts.benchmarks.mixed import (
    BEFORE,
    MIXED_WINDOW,
    SLOW_WINDOWS,
    bounds,
    by_host,
    contenders,
    found_s,
    judge,
    relative_shares,
    settings,
)
from scripts.benchmarks.mixes import MIX_S, MIXES, SECONDS, SECONDS_SLOW, SLOW_S, Setting
from scripts.benchmarks.openloop import Result
from scripts.benchmarks.play import Load, Played
from scripts.benchmarks.simulated import BIN_S, Tally
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import Seen, Window

BINS = round(SECONDS_SLOW / BIN_S)
LOAD = Load(0.5, 0.2, 0.2, 0.5)


def slow_after(seconds: float) -> list[list[int]]:
    """Eight hosts of which the last one gets nothing from so many seconds after the slowdown on."""
    last = [10 if number * BIN_S < SLOW_S + seconds else 0 for number in range(BINS)]
    return [*[[10] * BINS] * 7, last]


@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0])
def test_a_slow_host_is_found_when_it_gets_little_and_that_lasts(seconds: float) -> None:
    assert found_s(slow_after(seconds)) == pytest.approx(seconds + 2 * BIN_S, abs=BIN_S)


def test_a_slow_host_that_is_never_found_counts_with_all_that_was_watched() -> None:
    assert found_s(slow_after(100.0)) == SECONDS_SLOW - SLOW_S


def test_shares_are_relative_to_that_of_equals() -> None:
    hosts = [[8] * 8, [4] * 8, [0] * 4 + [100] * 4]
    assert relative_shares(hosts, Window(0, 1)) == [2.0, 1.0, 0.0]


def test_stacked_hosts_are_nodes() -> None:
    arrivals = [[1]] * 3 + [[2]] * 3 + [[3]] * 3
    assert [each[0] for each in by_host(Setting("none", 0.6, stacked=True), arrivals)] == [3, 6, 9]
    assert [each[0] for each in by_host(Setting("none", 0.6), arrivals[:8])] == [1, 1, 1, 2, 2, 2, 3, 3]


def test_windows_leave_out_the_second_in_which_long_requests_arrive() -> None:
    assert BEFORE.until_s == MIX_S
    assert MIXED_WINDOW.until_s == SECONDS
    assert SLOW_WINDOWS[-1].until_s == SECONDS_SLOW
    assert all(left.until_s == right.from_s for left, right in itertools.pairwise(SLOW_WINDOWS))


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("name", MIXES)
def test_every_cell_has_its_figures(name: str, slow: bool) -> None:
    setting = Setting(name, 0.6, slow)
    times = [number / 10 for number in range(10 * setting.seconds)]
    seen = Seen(times, [0.02] * len(times), [200] * len(times))
    tally = Tally([[10] * BINS] * 8, [0] * 8, 0.0, 0.0)
    played = Played(seen, Result([], [], 0.0, 0, 0, 0, 0.0), tally, LOAD, Visits(begun=50, errors=1), seen)
    values, curves = judge(setting, played)
    assert values["p99 ms 3–6 s"] == pytest.approx(20)
    assert (values["smallest share"], values["largest share"], values["errors %"]) == (1.0, 1.0, 0.0)
    assert ("found s" in values) is slow
    assert values.get("long errors %") == (2.0 if MIXES[name].count else None)
    assert {len(each) for each in curves.values()} == {setting.seconds}


def entry(peer: str, cell: Setting, **values: float) -> Entry:
    return Entry(Sample(str(cell), peer, {name.replace("_", " "): value for name, value in values.items()}), {})


def test_only_tierlbs_figures_are_held_to_bounds() -> None:
    cell = Setting("sse", 0.6, slow=True)
    peers = entry("nginx-least", cell, smallest_share=0.1, largest_share=3.0, found_s=6.0)
    ours = entry("tierlb", cell, smallest_share=0.79, largest_share=1.2, found_s=1.5)
    assert [line.split()[0] for line in bounds([peers, ours], [cell])] == ["missed", "met", "missed"]
    assert bounds([peers], [cell]) == []


def test_shares_need_not_be_equal_where_long_requests_occupy_slots() -> None:
    cell = Setting("llm-slots", 0.6, slow=True)
    ours = entry("tierlb", cell, smallest_share=0.1, largest_share=3.0, found_s=0.5)
    assert [line.split()[0] for line in bounds([ours], [cell])] == ["met"]


def test_cells_are_all_mixes_at_all_loads() -> None:
    cells = settings("sse,llm", "30,85", slow=True, stacked=False, one_path=True)
    assert [(each.name, each.load) for each in cells] == [("sse", 0.3), ("sse", 0.85), ("llm", 0.3), ("llm", 0.85)]
    assert all(each.slow and each.one_path and not each.stacked for each in cells)
    assert len(settings("all", "60", slow=False, stacked=False, one_path=False)) == len(MIXES)


@pytest.mark.parametrize(("names", "loads"), [("nothing", "60"), ("sse", "many")])
def test_what_there_is_not_is_refused(names: str, loads: str) -> None:
    with pytest.raises(click.BadParameter):
        settings(names, loads, slow=False, stacked=False, one_path=False)


def test_everybody_takes_part_and_another_checkout_if_asked_for() -> None:
    assert [each.name for each in contenders(False, None, None)] == [
        *("nginx-least", "nginx-random2", "haproxy-least", "envoy-least", "traefik-p2c", "traefik-leasttime", "tierlb"),
    ]
    *_, before, ours = contenders(True, "two-choices", Path("/elsewhere"))
    assert (before.name, ours.name) == ("tierlb-before", "tierlb")
    assert getattr(before, "python", None) == "/elsewhere/.venv/bin/python"
    assert getattr(before, "balance", None) == "two-choices"
