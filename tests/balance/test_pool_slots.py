"""Slots of a pool: what hosts say, what each has shown, and what they show together."""

import math
from collections.abc import Sequence

import attrs
import pytest

from tierlb.balance.concurrency import Concurrency
from tierlb.balance.pool_slots import CLOSED_PER_TICK, DECIDED_EACH_S, GUESSED_SLOTS, HostSlots, PoolSlots, slots_of

TICK_S = 0.05


@attrs.define(eq=False)
class Played(HostSlots):
    """A host that has `true` slots."""

    true: float = 4.0

    def answer(self, in_flight: Sequence[int]) -> None:
        """Items of 10 ms, so many at the beginning of each."""
        self.concurrency.add(0.01, [(here, 0.01 * max(1.0, here / self.true)) for here in in_flight])
        self.concurrency.wait(TICK_S)


def play(pool: PoolSlots, hosts: Sequence[Played], in_flight: Sequence[int], seconds: float) -> PoolSlots:
    for _ in range(round(seconds / TICK_S)):
        for host in hosts:
            host.answer(in_flight)
        pool.advance(TICK_S, hosts)
    return pool


def test_before_anything_is_known_it_is_guessed() -> None:
    hosts = [Played(), Played()]
    pool = play(PoolSlots(), hosts, [1, 2], 20)
    assert (pool.guess, pool.known) == (GUESSED_SLOTS, False)
    assert [each.value for each in hosts] == [GUESSED_SLOTS] * 2


def test_hosts_that_are_rarely_saturated_tell_together_what_none_would_tell_alone() -> None:
    rarely = [1, 2, 3, 4] * 2 + [5, 6]
    one, eight = [Played()], [Played() for _ in range(8)]
    alone, together = play(PoolSlots(), one, rarely, 2.5), play(PoolSlots(), eight, rarely, 2.5)
    assert alone.guess == GUESSED_SLOTS
    assert together.guess == pytest.approx(4, rel=0.25)
    assert together.known
    assert {each.value for each in eight} == {together.guess}


def test_what_a_host_says_is_believed_and_its_answers_are_left_out_of_the_guess() -> None:
    says, silent = Played(declared=32.0), Played(true=4)
    pool = play(PoolSlots(), [says, silent], range(1, 13), 20)
    assert says.value == 32
    assert silent.value == pool.guess == pytest.approx(4, rel=0.2)


def test_a_host_with_another_number_than_its_siblings_has_its_own() -> None:
    usual, other = [Played() for _ in range(5)], Played(true=16)
    play(PoolSlots(), [*usual, other], range(1, 40), 20)
    assert other.value == pytest.approx(16, rel=0.2)
    assert [each.value for each in usual] == [pytest.approx(4, rel=0.2)] * 5


def test_while_all_together_know_nothing_the_guess_is_what_those_have_that_know_their_own() -> None:
    """Else a host that knows that it has four would be taken for half of its equals, and never answer again."""
    saturated, quiet = Played(), [Played() for _ in range(5)]
    pool = PoolSlots()
    for _ in range(round(15 / TICK_S)):
        for host in quiet:
            host.answer([1, 2])
        saturated.answer([1, 2, 3, 4, 6, 8])
        pool.advance(TICK_S, [*quiet, saturated])
    assert saturated.concurrency.slots == pytest.approx(4, rel=0.2)
    assert {each.value for each in (*quiet, saturated)} == {pool.guess}


ONE = [
    # what is known of the one itself: slots, at least, at most; the guess -> what is taken
    (None, 1.0, math.inf, 8.0, 8.0),
    (None, 1.0, 3.0, 8.0, 3.0),
    (None, 20.0, math.inf, 8.0, 20.0),
    (5.0, 5.0, 5.0, 4.0, 4.0),  # about the same: else noise would decide between equals
    (3.0, 3.0, 3.0, 4.0, 4.0),
    (7.0, 7.0, 7.0, 4.0, 7.0),
    (2.0, 2.0, 2.0, 4.0, 2.0),
]


@pytest.mark.parametrize(("slots", "at_least", "at_most", "guess", "expected"), ONE)
def test_the_guess_holds_as_far_as_a_hosts_answers_allow(
    slots: float | None, at_least: float, at_most: float, guess: float, expected: float
) -> None:
    assert slots_of(Concurrency(slots, at_least=at_least, at_most=at_most), guess) == expected


def test_few_windows_are_closed_in_a_tick_and_all_have_their_turn() -> None:
    hosts = [Played() for _ in range(100)]
    pool = PoolSlots()
    for host in hosts:
        host.concurrency.add(0.01, [(1, 0.01)] * 100)
        host.concurrency.wait(2.0)
    left = [sum(host.concurrency.is_due for host in hosts)]
    for _ in range(100 // CLOSED_PER_TICK):
        pool.advance(TICK_S, hosts)
        left.append(sum(host.concurrency.is_due for host in hosts))
    assert left == list(range(100, -1, -CLOSED_PER_TICK))


def test_new_hosts_have_the_guess_within_a_second() -> None:
    pool = play(PoolSlots(), [Played() for _ in range(8)], range(1, 13), 10)
    newcomer = Played()
    play(pool, [newcomer], [], DECIDED_EACH_S)
    assert newcomer.value == pool.guess != GUESSED_SLOTS
