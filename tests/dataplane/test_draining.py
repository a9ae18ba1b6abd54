"""A drain ends when nothing is left, or at its deadline."""

from typing import Any

import pytest
import trio

from tierlb.dataplane.draining import DRAIN_CHECK_S, finish_drain


class FakeServing:
    """Has something under way until `empty_at`, or for `after_cut_s` longer once it is cut; the drain ends at 10."""

    def __init__(self, empty_at: float, after_cut_s: float) -> None:
        self.start = trio.current_time()
        self.empty_at = empty_at
        self.after_cut_s = after_cut_s
        self.cut_at: float | None = None
        self.drain_time = self

    def look(self) -> float:
        return trio.current_time() - self.start

    def is_over(self, now: float) -> bool:
        return now >= 10.0

    @property
    def drained(self) -> bool:
        return self.look() >= self.empty_at

    def cut(self) -> None:
        self.cut_at = self.look()
        self.empty_at = self.cut_at + self.after_cut_s


@pytest.mark.parametrize(
    ("empty_at", "after_cut_s", "cut_at", "ends_at"),
    [
        (0.0, 0.0, None, 0.0),
        (4.0, 0.0, None, 4.0),
        (60.0, 0.0, 10.0, 10.0),
        (60.0, 0.5, 10.0, 10.5),
        (60.0, 60.0, 10.0, 11.0),
    ],
)
async def test_it_ends_when_nothing_is_left_or_at_the_deadline(
    empty_at: float, after_cut_s: float, cut_at: float | None, ends_at: float, autojump_clock: Any
) -> None:
    serving: Any = FakeServing(empty_at, after_cut_s)
    await finish_drain(serving, reactor=serving)
    assert serving.look() == pytest.approx(ends_at, abs=2 * DRAIN_CHECK_S)
    assert serving.cut_at == (None if cut_at is None else pytest.approx(cut_at, abs=2 * DRAIN_CHECK_S))
