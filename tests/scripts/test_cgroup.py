"""Which hierarchy is taken and what is written there; where groups can be made, that limits hold and nothing stays."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmarks.cgroup import (
    PREFIX,
    Group,
    Hierarchy,
    Limit,
    Throttling,
    Unavailable,
    find,
    limited,
    made,
    parse_stat,
    prepare,
    sweep,
)
from scripts.benchmarks.cpu import cpu_ns

TENTH = Limit(10_000, 100_000)
V2 = "cgroup2 {0}/v2 cgroup2 rw 0 0\n"
V1 = "cgroup {0}/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n"
ELSE = "tmpfs {0} tmpfs rw 0 0\ncgroup {0}/cpuacct cgroup rw,relatime,cpuacct 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "controllers", "expected"),
    [
        (ELSE + V2, "cpuset cpu io memory", ("v2", 2)),
        (V1 + V2, "cpuset cpu io memory", ("v2", 2)),
        (ELSE + V1 + V2, "hugetlb", ("cpu", 1)),
        (ELSE + V1, None, ("cpu", 1)),
    ],
)
def test_version_2_is_taken_where_it_has_the_controller(
    tmp_path: Path, mounts: str, controllers: str | None, expected: tuple[str, int]
) -> None:
    if controllers is not None:
        (tmp_path / "v2").mkdir()
        (tmp_path / "v2" / "cgroup.controllers").write_text(controllers + "\n")
    directory, version = expected
    assert find(mounts.format(tmp_path)) == Hierarchy(tmp_path / directory, version)


@pytest.mark.parametrize("mounts", ["", ELSE, ELSE + V2])
def test_without_the_controller_is_said_what_to_do(tmp_path: Path, mounts: str) -> None:
    with pytest.raises(Unavailable, match=r"no cgroup hierarchy with the cpu controller is mounted: run as root"):
        find(mounts.format(tmp_path))


def test_each_version_has_its_files_for_the_same_limit() -> None:
    assert Hierarchy(Path(), 2).settings(TENTH) == {"cpu.max": "10000 100000"}
    assert Hierarchy(Path(), 1).settings(TENTH) == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "10000"}
    assert TENTH.cores == Limit(2_000, 20_000).cores == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "nr_periods 30\nnr_throttled 12\nthrottled_time 812\nnr_bursts 0\nburst_time 0\n",
        "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 30\nnr_throttled 12\nthrottled_usec 1\n",
    ],
)
def test_stalls_are_counted_alike_in_both(text: str) -> None:
    assert parse_stat(text) == Throttling(30, 12)


@pytest.mark.parametrize(("periods", "throttled", "share"), [(30, 12, 0.0), (40, 17, 0.5), (40, 22, 1.0)])
def test_the_share_of_stalls_is_of_the_periods_in_between(periods: int, throttled: int, share: float) -> None:
    assert Throttling(periods, throttled).since(Throttling(30, 12)) == share


def ended_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    return ended.pid


def test_what_killed_runs_left_is_removed_unless_something_is_in_it(tmp_path: Path) -> None:
    gone, mine, full = (tmp_path / f"{PREFIX}{name}" for name in (f"{ended_pid()}-a", f"{os.getpid()}-a", "0-full"))
    for each in (gone, mine, full, full / "inner", tmp_path / "other"):
        each.mkdir()
    sweep(Hierarchy(tmp_path, 2))
    assert [each.exists() for each in (gone, mine, full, tmp_path / "other")] == [False, True, True, True]


@pytest.fixture
def hierarchy() -> Hierarchy:
    try:
        return prepare(TENTH)
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def busy() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def test_a_busy_process_gets_its_share_and_is_free_afterwards(
    hierarchy: Hierarchy, busy: "subprocess.Popen[bytes]"
) -> None:
    with limited(hierarchy, {"busy": busy.pid}, TENTH) as groups:
        begun_s, before = time.monotonic(), cpu_ns([busy.pid])
        while groups["busy"].throttling().throttled < 5 and time.monotonic() < begun_s + 20:
            os.sched_yield()
        used, passed_s = (cpu_ns([busy.pid]) - before) / 1e9, time.monotonic() - begun_s
        assert groups["busy"].throttling().throttled >= 5
        assert groups["busy"].pids() == (busy.pid,)
    assert used <= TENTH.cores * passed_s + 0.03
    assert not groups["busy"].directory.exists()
    assert busy.pid in Group(hierarchy.root).pids()


def test_nothing_stays_when_a_run_is_broken_off(hierarchy: Hierarchy, busy: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(KeyboardInterrupt), limited(hierarchy, {"a": busy.pid, "b": busy.pid}, TENTH):
        raise KeyboardInterrupt
    assert list(hierarchy.root.glob(f"{PREFIX}{os.getpid()}-*")) == []


def test_a_process_that_has_ended_is_an_error_and_leaves_no_group(hierarchy: Hierarchy) -> None:
    with pytest.raises(ProcessLookupError), limited(hierarchy, {"ended": ended_pid()}, TENTH):
        raise AssertionError("not reached")
    assert list(hierarchy.root.glob(f"{PREFIX}{os.getpid()}-*")) == []


def test_a_limit_that_the_kernel_refuses_leaves_no_group(hierarchy: Hierarchy) -> None:
    with pytest.raises(OSError, match=r".+"), made(hierarchy, "refused", Limit(10, 100_000)):
        raise AssertionError("not reached")
    assert not (hierarchy.root / f"{PREFIX}{os.getpid()}-refused").exists()
