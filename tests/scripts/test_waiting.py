import math
import os
import select
import time

import pytest

from scripts.benchmarks.waiting import percentile, wait


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5.0], 99, 5.0), ([*range(1, 101)], 99, 99), ([*range(1, 101)], 50, 50), ([3, 1, 2], 100, 3), ([3, 1, 2], 0, 1)],
)
def test_a_percentile_is_the_value_at_the_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 99))


def test_a_wait_of_microseconds_is_not_rounded_up_to_a_millisecond() -> None:
    with select.epoll() as epoll:
        taken = [1.0]
        while min(taken) >= 0.001 and len(taken) < 2000:
            begun_s = time.perf_counter()
            assert wait(epoll, 0.0001) == []
            taken.append(time.perf_counter() - begun_s)
    assert 0.0001 <= min(taken) < 0.001


def test_what_is_ready_ends_the_wait() -> None:
    reader, writer = os.pipe()
    with select.epoll() as epoll:
        epoll.register(reader, select.EPOLLIN)
        os.write(writer, b"x")
        assert wait(epoll, 0.4) == [(reader, select.EPOLLIN)]
    os.close(reader)
    os.close(writer)
