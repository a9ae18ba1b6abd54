import math
import os
import subprocess
import sys

import pytest

from scripts.benchmarks.cpu import Used, Waits, children, cpu_ns, memory_kib, pss_kib, used, waits

ROLLUP = """558550cca000-7ffcefc58000 ---p 00000000 00:00 0                          [rollup]
Rss:                1676 kB
Pss:                 397 kB
Pss_Dirty:           116 kB
"""


def test_the_proportional_set_size_is_taken_not_the_resident_or_dirty_one() -> None:
    assert pss_kib(ROLLUP) == 397


def test_a_file_without_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no Pss line"):
        pss_kib("Rss: 1 kB\n")


def test_cpu_time_grows_with_work_and_adds_up_over_processes() -> None:
    own = os.getpid()
    before = cpu_ns([own])
    sum(number * number for number in range(200_000))
    after = cpu_ns([own])
    assert after > before
    assert cpu_ns([own, own]) >= 2 * after


def test_a_process_that_has_ended_is_an_error_not_zero() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    with pytest.raises(OSError, match=r".+"):
        cpu_ns([ended.pid])


def test_wake_ups_and_cpu_time_are_counted_and_cpu_time_is_divided_by_ticks() -> None:
    before = used([os.getpid()])
    for _ in range(5):
        subprocess.run([sys.executable, "-c", ""], check=True)
    grown = used([os.getpid()]) - before
    assert grown.cpu_s > 0
    assert grown.wakeups > 0
    assert Used(2.0, 30, 10, 0).user_s == 1.5


def test_the_wait_for_a_cpu_is_per_time_that_a_thread_got_one() -> None:
    assert Waits(5_000_000, 30).mean_s(Waits(1_000_000, 10)) == pytest.approx(0.0002)
    assert math.isnan(Waits(5, 3).mean_s(Waits(5, 3)))


def test_waits_are_of_all_threads_of_the_processes_that_run() -> None:
    own, ended = os.getpid(), subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    before = waits([own])
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert waits([own, ended.pid]).times > before.times > 0


def test_memory_is_that_of_all_processes_named() -> None:
    assert memory_kib([os.getpid()]) > 1000


def test_children_are_those_that_run() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children(os.getpid())
        child.communicate(b"\n", timeout=30)
    assert child.pid not in children(os.getpid())
