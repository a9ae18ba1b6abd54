import os
import subprocess
import sys
from pathlib import Path

import pytest

from tierlb.agent.cpu import (
    CgroupMeter,
    Gone,
    ProcessMeter,
    parse_cpu_stat,
    parse_stat,
    usable_cores,
)


def stat_line(name="app", state="S", user=250, system=50, started=77):
    fields = [state, *["0"] * 10, str(user), str(system), *["0"] * 6, str(started), "0"]
    return f"42 ({name}) {' '.join(fields)}\n"


@pytest.mark.parametrize("name", ["app", "a) S 1 2", "(sd-pam)", "two words"])
def test_a_process_may_have_any_name(name):
    assert parse_stat(stat_line(name)) == (300, 77)


@pytest.mark.parametrize("text", [stat_line(state="Z"), "42 (app) S 1 2", "", "42 app S"])
def test_a_process_that_has_ended_is_told(text):
    with pytest.raises(ValueError, match=r"."):
        parse_stat(text)


def test_a_cgroups_use_is_in_seconds():
    assert parse_cpu_stat("usage_usec 1500000\nuser_usec 1\n") == 1.5
    with pytest.raises(ValueError, match="usage_usec"):
        parse_cpu_stat("user_usec 1\n")


def cgroup(root, path, quota=None, used=None):
    directory = root / path
    directory.mkdir(parents=True, exist_ok=True)
    if quota is not None:
        (directory / "cpu.max").write_text(quota)
    if used is not None:
        (directory / "cpu.stat").write_text(f"usage_usec {used}\n")
    return directory


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, 8),
        ({"pod/app": "max 100000"}, 8),
        ({"pod/app": "200000 100000"}, 2.0),
        ({"pod/app": "200000 100000", "pod": "50000 100000"}, 0.5),
        ({"pod/app": "6400000 100000"}, 8),
        ({"pod/app": "nonsense"}, 8),
    ],
)
def test_the_tightest_quota_of_a_cgroup_and_all_above_counts(tmp_path, quotas, cores):
    for path, quota in quotas.items():
        cgroup(tmp_path, path, quota)
    assert usable_cores(tmp_path, "pod/app", 8) == cores


def test_a_cgroup_is_read_with_its_quota(tmp_path):
    directory = cgroup(tmp_path, "pod/app", "50000 100000", used=2_000_000)
    reading = CgroupMeter(directory, cgroups=tmp_path).read()
    assert (reading.used_s, reading.cores) == (2.0, 0.5)
    assert CgroupMeter(directory, cores=3.0, cgroups=tmp_path).read().cores == 3.0
    outside = CgroupMeter(directory, cgroups=tmp_path / "elsewhere").read()
    assert outside.cores == 0.5


def test_a_cgroup_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Gone, match=r"cpu\.stat"):
        CgroupMeter(tmp_path).read()


def process(proc, text):
    (proc / "42").mkdir(exist_ok=True)
    (proc / "42" / "stat").write_text(text)
    (proc / "42" / "cgroup").write_text("0::/app\n")


def test_a_process_is_read_and_another_with_its_pid_is_not_taken_for_it(tmp_path):
    process(tmp_path, stat_line(user=250))
    cgroup(tmp_path / "cg", "app", "50000 100000")
    meter = ProcessMeter(42, proc=tmp_path, cgroups=tmp_path / "cg")
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    assert (meter.read().used_s, meter.read().cores) == (300 / ticks_per_s, 0.5)
    process(tmp_path, stat_line(user=350))
    assert meter.read().used_s == 400 / ticks_per_s
    process(tmp_path, stat_line(started=78))
    with pytest.raises(Gone, match="process 42 has ended"):
        meter.read()


def test_a_real_process_is_read_until_it_ends():
    script = "import sys\nfor _ in range(3_000_000): pass\nprint(1, flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        meter = ProcessMeter(child.pid)
        assert child.stdout.readline() == b"1\n"
        reading = meter.read()
        assert 0 < reading.used_s < 10
        assert 0 < reading.cores <= (os.cpu_count() or 1)
        child.stdin.close()
        child.wait(60)
        with pytest.raises(Gone):
            meter.read()


def test_no_process_no_meter(tmp_path):
    with pytest.raises(Gone):
        ProcessMeter(2**22 + 1, proc=Path("/proc"))
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "stat").write_text(stat_line())
    with pytest.raises(Gone):  # it ended between two looks
        ProcessMeter(42, proc=tmp_path)
