"""Turns: who waits gets one each, in order, and nobody more than one."""

import pytest

from tierlb.net.ready import READY_S, ReadyQueue


class Clock:
    """Each turn takes as long as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Queue:
    """A queue, whose turns it was, and what came of those that failed."""

    def __init__(self, clock: Clock) -> None:
        self.turns: list[str] = []
        self.crashes: list[tuple[object, Exception]] = []
        self.ready = ReadyQueue(lambda owner, error: self.crashes.append((owner, error)), clock.monotonic)
        self.add, self.serve, self.waiting = self.ready.add, self.ready.serve, self.ready.waiting


class Worker:
    """Needs so many turns."""

    def __init__(self, name: str, queue: Queue, turns: int) -> None:
        self.name = name
        self.queued = False
        self.queue = queue
        self.left = turns
        queue.add(self)

    def on_turn(self) -> None:
        self.queue.turns.append(self.name)
        self.left -= 1
        if self.left:
            self.queue.add(self)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> Queue:
    return Queue(clock)


def passes(queue: Queue) -> list[str]:
    """The turns of each pass until no work is left."""
    taken = []
    while queue.waiting:
        queue.turns.clear()
        queue.serve()
        taken.append("".join(queue.turns))
    return taken


def test_everyone_has_one_turn_a_pass_and_much_work_waits_at_the_back(queue: Queue) -> None:
    for name, turns in (("a", 3), ("b", 1), ("c", 2)):
        Worker(name, queue, turns)
    assert passes(queue) == ["abc", "ac", "a"]


def test_who_waits_already_is_not_queued_twice(queue: Queue) -> None:
    worker = Worker("a", queue, 1)
    queue.add(worker)
    assert passes(queue) == ["a"]


def test_a_pass_ends_when_its_time_is_over_and_the_next_begins_with_who_is_next(queue: Queue, clock: Clock) -> None:
    class Slow(Worker):
        def on_turn(self) -> None:
            clock.now += READY_S * 0.6
            super().on_turn()

    for name in "abcd":
        Slow(name, queue, 2)
    assert passes(queue) == ["ab", "cd", "ab", "cd"]


def test_a_turn_that_is_longer_than_a_pass_is_had_all_the_same(queue: Queue, clock: Clock) -> None:
    class Slow(Worker):
        def on_turn(self) -> None:
            clock.now += READY_S * 5
            super().on_turn()

    Slow("a", queue, 2)
    assert passes(queue) == ["a", "a"]


def test_what_is_left_of_one_that_went_away_is_dropped(queue: Queue) -> None:
    gone = Worker("a", queue, 5)
    Worker("b", queue, 1)
    gone.queued = False
    assert passes(queue) == ["b"]


def test_a_turn_that_fails_is_reported_with_its_owner_and_the_others_have_theirs(queue: Queue) -> None:
    class Broken(Worker):
        def on_turn(self) -> None:
            raise ValueError

    broken = Broken("a", queue, 1)
    Worker("b", queue, 1)
    assert passes(queue) == ["b"]
    [(owner, error)] = queue.crashes
    assert owner is broken
    assert isinstance(error, ValueError)
    assert not broken.queued
