"""How many cores a process may use, from trees that look like those of machines and containers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmarks import cgroup
from scripts.benchmarks.cgroup import Limit
from tierlb.topology.cores import available_cores, cgroup_of_version_1, cgroup_of_version_2, parse_cpu_max

V2 = "30 24 0:26 {root} {directory} rw,nosuid - cgroup2 cgroup2 rw"
V1 = "31 24 0:27 {root} {directory} rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
OTHER_V1 = "32 24 0:28 / {directory} rw - cgroup cgroup rw,cpuset"
CPUS = 8


def machine(tmp_path: Path, *mounts: str, cgroup: str, **files: str) -> Path:
    """A /proc of a process in this cgroup, beside hierarchies mounted at v1 and v2 with these files."""
    places = {"directory": str(tmp_path / "cgroup fs").replace(" ", r"\040")}
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda rw\n" + "\n".join(mounts).format(**places) + "\n")
    for path, text in files.items():
        file = tmp_path / "cgroup fs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return proc.parent


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CPUS),
        ({"cpu.max": "max 100000\n"}, CPUS),
        ({"pod/app/cpu.max": "400000 100000\n"}, 4),
        ({"pod/app/cpu.max": "400000 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),
        ({"pod/app/cpu.max": "max 100000\n", "cpu.max": "200000 100000\n"}, 2),
        ({"pod/app/cpu.max": "250000 100000\n"}, 2),
        ({"pod/app/cpu.max": "50000 100000\n"}, 1),
        ({"pod/app/cpu.max": "6400000 100000\n"}, CPUS),
        ({"pod/app/cpu.max": "nonsense\n"}, CPUS),
        ({"pod/app/cpu.max": "100000 0\n"}, CPUS),
        ({"pod/other/cpu.max": "100000 100000\n"}, CPUS),
    ],
)
def test_of_version_2_the_tightest_quota_of_the_cgroup_and_all_above_counts(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    mount = V2.format(root="/", directory="{directory}")
    assert available_cores(machine(tmp_path, mount, cgroup="0::/pod/app\n", **files), CPUS) == cores


@pytest.mark.parametrize(
    ("root", "cgroup"),
    [
        ("/", "0::/\n"),
        ("/docker/c0ffee", "0::/docker/c0ffee\n"),
        ("/../c0ffee", "0::/../c0ffee\n"),
        ("/", "0::/gone\n"),
    ],
)
def test_a_container_has_its_own_cgroup_at_the_root_of_the_mount(tmp_path: Path, root: str, cgroup: str) -> None:
    """With a namespace of cgroups it has the path /; without one, or in a nested one, that of the machine."""
    mount = V2.format(root=root, directory="{directory}")
    proc = machine(tmp_path, mount, cgroup=cgroup, **{"cpu.max": "300000 100000\n"})
    assert available_cores(proc, CPUS) == 3


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"app/cpu.cfs_quota_us": "-1\n", "app/cpu.cfs_period_us": "100000\n"}, CPUS),
        ({"app/cpu.cfs_quota_us": "300000\n", "app/cpu.cfs_period_us": "100000\n"}, 3),
        ({"app/cpu.cfs_quota_us": "300000\n", "app/cpu.cfs_period_us": "50000\n"}, 6),
        ({"cpu.cfs_quota_us": "200000\n", "cpu.cfs_period_us": "100000\n"}, 2),
        ({"app/cpu.cfs_quota_us": "200000\n"}, CPUS),
    ],
)
def test_of_version_1_too_beside_an_empty_one_of_version_2(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    v2 = V2.format(root="/", directory="{directory}/unified")
    v1 = V1.format(root="/", directory="{directory}")
    cgroup = "8:cpuset:/elsewhere\n4:cpuacct,cpu:/app\n0::/\n"
    proc = machine(tmp_path, v2, OTHER_V1.replace("{directory}", "/nowhere"), v1, cgroup=cgroup, **files)
    assert available_cores(proc, CPUS) == cores


def test_no_more_than_the_scheduler_gives(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "no proc", 3) == 3
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_what_cannot_be_understood_is_no_limit(tmp_path: Path) -> None:
    proc = machine(tmp_path, "nonsense", " - cgroup2", "1 2 - cgroup2 x", "", cgroup="nonsense\n:::\n\n")
    assert available_cores(proc, CPUS) == CPUS


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", None), ("50000 100000\n", 0.5), ("400000 100000\n", 4.0), ("20000\n", 0.2)]
)
def test_a_quota_is_in_cores(text: str, cores: float | None) -> None:
    assert parse_cpu_max(text) == cores


@pytest.mark.parametrize(
    ("text", "version_2", "version_1"),
    [
        ("0::/a/b\n", "a/b", "/"),
        ("0::/\n", ".", "/"),
        ("4:cpu:/x\n0::/a\n", "a", "/x"),
        ("4:cpuset:/x\n3:cpu,cpuacct:/y:z\n", ".", "/y:z"),
        ("", ".", "/"),
    ],
)
def test_the_cgroup_of_a_process(text: str, version_2: str, version_1: str) -> None:
    assert cgroup_of_version_2(text) == version_2
    assert cgroup_of_version_1(text) == version_1


def test_a_real_quota_counts() -> None:
    """Of the hierarchy that this machine has: a quota of one core and a half is one."""
    limit = Limit(150_000, 100_000)
    try:
        hierarchy = cgroup.prepare(limit)
    except cgroup.Unavailable as reason:
        pytest.skip(f"NOT TESTED: {reason}")
    count = "import sys; from tierlb.topology.cores import *; sys.stdin.readline(); print(available_cores(cpus=8))"
    argv = [sys.executable, "-c", count]
    with (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        cgroup.limited(hierarchy, {"cores": process.pid}, limit),
    ):
        said, _ = process.communicate("\n", 60)
    assert said == "1\n"
