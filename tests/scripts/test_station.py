import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks.station import Endpoint, Meter, Mode, Phase, Station, station

times = st.floats(0.0, 10.0, allow_nan=False)
jobs = st.lists(st.tuples(times, st.floats(0.01, 5.0)), min_size=1, max_size=60).map(sorted)


def ends_by_events(endpoint: Endpoint, arriving: list[tuple[float, float]]) -> list[float]:
    """What the station says, driven as the process drives it."""
    here: Station[int] = station(endpoint)
    ends: list[float] = [0.0] * len(arriving)
    due: list[tuple[float, int]] = []

    def pass_time(until_s: float) -> None:
        while due and due[0][0] <= until_s:
            now_s, job = heapq.heappop(due)
            ends[job] = now_s
            if (following := here.finish(now_s, lambda _: True)) is not None:
                heapq.heappush(due, (following[1], following[0]))

    for job, (at_s, demand) in enumerate(arriving):
        pass_time(at_s)
        if (end_s := here.arrive(job, demand, at_s)) is not None:
            heapq.heappush(due, (end_s, job))
    pass_time(float("inf"))
    assert here.busy == 0
    return ends


def ends_by_recursion(endpoint: Endpoint, arriving: list[tuple[float, float]]) -> list[float]:
    """The oracle: each job in its turn takes the slot that is free first."""
    free_s = [0.0] * endpoint.slots
    ends = []
    for at_s, demand in arriving:
        begun_s = max(at_s, min(free_s))
        end_s = begun_s + demand * endpoint.mean_s * endpoint.phase(begun_s).factor
        free_s[free_s.index(min(free_s))] = end_s
        ends.append(end_s)
    return ends


@given(jobs, st.integers(1, 5))
def test_jobs_end_as_in_a_queue_before_slots(arriving: list[tuple[float, float]], slots: int) -> None:
    endpoint = Endpoint(1.0, slots, (Phase(3.0, 10.0), Phase(6.0)))
    assert ends_by_events(endpoint, arriving) == pytest.approx(ends_by_recursion(endpoint, arriving))


def test_a_job_nobody_waits_for_is_dropped_from_the_queue() -> None:
    here: Station[str] = station(Endpoint(1.0, slots=1))
    assert [here.arrive(job, 1.0, 0.0) for job in ("served", "gone", "next")] == [1.0, None, None]
    assert here.finish(1.0, lambda job: job != "gone") == ("next", 2.0)
    assert here.longest_queue == 2


@pytest.mark.parametrize(("now_s", "factor"), [(-1.0, 1.0), (9.99, 1.0), (10.0, 10.0), (29.0, 10.0), (30.0, 1.0)])
def test_the_latest_phase_that_began_holds(now_s: float, factor: float) -> None:
    assert Endpoint(0.01, phases=(Phase(10.0, 10.0), Phase(30.0))).phase(now_s).factor == factor


@pytest.mark.parametrize(("mode", "capacity"), [(Mode.SERVE, 40.0), (Mode.FAIL, 0.0), (Mode.HANG, 0.0)])
def test_capacity_is_slots_over_service_time_and_nothing_where_nobody_is_served(mode: Mode, capacity: float) -> None:
    assert Endpoint(0.01, 4, (Phase(0.0, 10.0, mode),)).capacity(1.0) == pytest.approx(capacity)


def test_rate_over_utilisation_is_the_capacity_at_any_load() -> None:
    """4 slots of 10 ms can do 400 per second; at half use the meter reads 200 and 0.5."""
    meter = Meter(slots=4)
    for number in range(1, 2001):
        meter.note(number / 200, busy=2, done=1)
    assert meter.rate == pytest.approx(200, rel=0.01)
    assert meter.utilisation == pytest.approx(0.5, rel=0.01)
    assert meter.rate / meter.utilisation == pytest.approx(400, rel=0.01)
