"""When regular work is due: soon after something has happened, ever more seldom while nothing does."""

import itertools

import pytest

from tierlb.net.beat import BEAT_S, LONGEST_PAUSE_S, Beat
from tierlb.net.wheel import NEVER


class Bench:
    """A beat whose work allows a rest until `latest`."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.latest = NEVER
        self.errors: list[Exception] = []
        self.beat = Beat(100.0, self.errors.append)
        self.beat.begin(self.work)

    def work(self, now: float) -> float:
        self.times.append(now)
        return self.latest

    def rest(self, seconds: float) -> list[float]:
        """Nothing happens for so long; the pauses between the times at which work was done."""
        before, end = self.times[-1], self.times[-1] + seconds
        first = len(self.times)
        while self.beat.due <= end:
            self.beat.run(self.beat.due)
        times = [before, *self.times[first:]]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.beat.run(100.0)
    return bench


def test_the_first_time_is_at_once() -> None:
    assert Bench().beat.due < 0


def test_pauses_double_while_nothing_happens(bench: Bench) -> None:
    pauses = bench.rest(20.0)
    assert pauses[:5] == pytest.approx([2 * BEAT_S, 4 * BEAT_S, 8 * BEAT_S, 16 * BEAT_S, 32 * BEAT_S])
    assert set(pauses[5:]) == {LONGEST_PAUSE_S}


def test_after_something_has_happened_it_is_due_soon_and_pauses_begin_anew(bench: Bench) -> None:
    bench.rest(20.0)
    bench.beat.stirred = True
    assert bench.beat.due == bench.beat.soon == bench.times[-1] + BEAT_S
    bench.beat.run(bench.times[-1] + 0.7)
    assert not bench.beat.stirred
    assert bench.rest(0.2) == pytest.approx([BEAT_S, 2 * BEAT_S])


def test_the_work_says_how_long_it_can_wait_but_not_less_than_a_beat(bench: Bench) -> None:
    bench.rest(20.0)
    bench.latest = bench.times[-1] + LONGEST_PAUSE_S + 0.5
    assert bench.rest(LONGEST_PAUSE_S + 0.58) == pytest.approx([LONGEST_PAUSE_S, 0.5, BEAT_S])


def test_work_that_fails_is_tried_again_soon_and_harms_no_other(bench: Bench) -> None:
    def fails(now: float) -> float:
        raise ValueError

    bench.rest(20.0)
    bench.beat.begin(fails)
    bench.beat.begin(bench.work)
    before = len(bench.times)
    bench.beat.run(200.0)
    assert len(bench.errors) == 1
    assert len(bench.times) == before + 2
    assert bench.beat.due == 200.0 + BEAT_S


def test_what_happens_while_the_work_is_done_counts_for_the_next_time(bench: Bench) -> None:
    def work(now: float) -> float:
        bench.beat.stir()
        return NEVER

    bench.beat.begin(work)
    bench.beat.run(100.0)
    assert bench.beat.due == bench.beat.soon
