import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.arrivals import Request
from scripts.benchmarks.contenders import Fleet, Fronts
from scripts.benchmarks.items import Guest, Item
from scripts.benchmarks.openloop import Lane, Result
from scripts.benchmarks.play import Course, Load, Played, busy_share, play
from scripts.benchmarks.processes import DidNotStartError, running
from scripts.benchmarks.simulated import Tally
from scripts.benchmarks.station import Endpoint
from scripts.benchmarks.windows import Seen

RESULT = Result([], [], late_s=0.001, waited=0, connections=1, reconnected=0, cpu_s=1.0)
TALLY = Tally([], [], late_s=0.001, cpu_s=1.0)
LOAD = Load(proxies=0.5, generator=0.2, endpoints=0.2, machine=0.5)
PLAYED = Played(Seen([], [], []), RESULT, TALLY, LOAD)


@pytest.mark.parametrize(
    ("played", "problem"),
    [
        (PLAYED, None),
        (attrs.evolve(PLAYED, load=attrs.evolve(LOAD, proxies=1.0)), None),
        (
            attrs.evolve(PLAYED, result=attrs.evolve(RESULT, late_s=0.02)),
            "the generator was 20.0 ms late at the 99th percentile",
        ),
        (
            attrs.evolve(PLAYED, tally=attrs.evolve(TALLY, late_s=0.02)),
            "the endpoints' process was 20.0 ms late at the 99th percentile",
        ),
        (attrs.evolve(PLAYED, load=attrs.evolve(LOAD, generator=0.9)), "the generator used 90 % of a core"),
        (
            attrs.evolve(PLAYED, load=attrs.evolve(LOAD, endpoints=0.8, machine=0.97)),
            "the endpoints' process used 80 % of a core; the machine was 97 % busy",
        ),
        (attrs.evolve(PLAYED, load=attrs.evolve(LOAD, guests=0.8)), "the long requests' clients used 80 % of a core"),
        (attrs.evolve(PLAYED, load=attrs.evolve(LOAD, wait_s=0.0001, machine=1.0)), None),
        (
            attrs.evolve(PLAYED, load=attrs.evolve(LOAD, wait_s=0.0008, machine=1.0)),
            "the proxies waited 0.80 ms for a CPU on average",
        ),
    ],
)
def test_a_run_counts_unless_the_harness_itself_was_in_the_way(played: Played, problem: str | None) -> None:
    assert played.problem == problem


def test_the_machine_is_busy_with_all_that_is_neither_idle_nor_waiting_for_disks() -> None:
    before = "cpu  100 0 50 800 10 0 5 0 0 0\ncpu0 1 2 3\n"
    after = "cpu  120 0 60 860 15 0 10 0 0 0\ncpu0 1 2 3\n"
    assert busy_share(before, after) == pytest.approx(0.35)


@attrs.frozen
class Straight:
    """Clients connect to the first endpoint itself."""

    name: str = "straight"
    orca: bool = False

    def missing(self) -> str | None:
        return None

    @asynccontextmanager
    async def serving(self, fleet: Fleet, directory: Path) -> AsyncIterator[Fronts]:
        async with running([sys.executable, "-c", "input()"], directory / "log") as bystander:
            yield Fronts(fleet.groups[0][:1], (bystander.pid,))


@attrs.frozen
class Broken(Straight):
    @asynccontextmanager
    async def serving(self, fleet: Fleet, directory: Path) -> AsyncIterator[Fronts]:
        raise DidNotStartError("no such option")
        yield


def _lanes(listens: Sequence[str]) -> tuple[Lane, ...]:
    return (Lane(listens[0], 50),)


DEADLINE_S = 90.0
COURSE = Course(
    (Endpoint(0.005), Endpoint(0.005)), ((0, 1),), tuple(Request(n / 100, 0, 1.0) for n in range(30)), _lanes
)


async def test_a_run_shows_what_the_generator_saw_and_what_the_endpoints_got() -> None:
    begun_s = time.monotonic()
    with trio.fail_after(DEADLINE_S):
        played = await play(COURSE, Straight())
    assert isinstance(played, Played)
    assert played.seen.status == [200] * 30
    assert min(played.seen.latency_s) >= 0.005
    assert max(played.seen.latency_s) < time.monotonic() - begun_s
    assert [sum(row) for row in played.tally.arrivals] == [30, 0]


async def test_requests_in_the_background_are_seen_aside_and_guests_come_during_the_run() -> None:
    lanes = (Lane("", 5, "GET /", "work: d={demand}\r\n"), Lane("", 5, "GET /", "work: other d={demand}\r\n"))
    course = attrs.evolve(
        COURSE,
        requests=tuple(Request(number / 100, number % 2, 1.0) for number in range(30)),
        lanes=lambda listens: tuple(attrs.evolve(each, target=listens[0]) for each in lanes),
        background=frozenset({1}),
        guests=(Guest(0.0, (Item(first_s=0.01),)),),
    )
    with trio.fail_after(DEADLINE_S):
        played = await play(course, Straight())
    assert isinstance(played, Played)
    assert (played.seen.status, played.aside.status) == ([200] * 15, [200] * 15)
    assert list(played.aside.at_s) == [number / 100 for number in range(1, 30, 2)]
    assert [sum(row) for row in played.tally.arrivals] == [15, 0]
    assert played.tally.parked == [1, 0]
    assert played.visits.errors == 0


async def test_a_contender_that_does_not_start_is_told_and_ends_nothing_else() -> None:
    with trio.fail_after(DEADLINE_S):
        assert await play(COURSE, Broken()) == "DidNotStartError: no such option"
