"""How many items the hosts of a pool work on at once: what each has said or shown, and what all show together.

What an endpoint says is believed. Of the others each learns its own slots (balance/concurrency.py), for which it must
have been saturated now and then. Hosts of a pool mostly have the same number, so their evidence is added up: eight
that are 60 % busy tell together in seconds what each would tell in minutes. The sum is what is guessed of a host as
far as its own answers allow that; and a host whose own figure is about the guess counts as the guess, for noise would
decide between equals. While the sum decides nothing the guess is what the hosts have that know their own: otherwise
the first one to learn that it has fewer than was guessed would look smaller than its equals, and starve.

Learning is bounded: a few items per host and tick are looked at, and at most `CLOSED_PER_TICK` windows are judged in
a tick, in turn, so that hundreds of hosts have longer windows.
"""

from collections.abc import Sequence
from statistics import median
from typing import Protocol

import attrs

from tierlb.balance.capacity import ALIKE
from tierlb.balance.concurrency import Concurrency, believed

FIRST_GUESS = 8.0
"""How many are guessed before anything is known."""
CLOSED_PER_TICK = 2
LOOKED_AT_PER_TICK = 16
DECIDED_EACH_S = 1.0


class HasSlots(Protocol):
    """A host. `said_slots`: by itself or its agent, 0 if neither did. `slots`: as they are to be used."""

    slots: float

    @property
    def said_slots(self) -> float: ...
    @property
    def concurrency(self) -> Concurrency: ...


@attrs.define
class PoolSlots:
    """Of one pool. `guess`: what is taken of a host that has shown nothing else; `known`: a host, or all together,
    have shown it."""

    guess: float = FIRST_GUESS
    known: bool = False
    _place: int = 0
    _news: bool = False
    _elapsed_s: float = 0.0

    def advance(self, dt_s: float, hosts: Sequence[HasSlots]) -> None:
        """`dt_s` have passed, and the hosts have had their answers."""
        self._close_some(hosts)
        self._elapsed_s += dt_s
        if self._elapsed_s >= DECIDED_EACH_S:
            self._elapsed_s = 0.0
            if self._news:
                self._news = False
                self._learn_together([each.concurrency for each in hosts if not each.said_slots])
            for host in hosts:
                host.slots = host.said_slots or slots_of(host.concurrency, self.guess)

    def _close_some(self, hosts: Sequence[HasSlots]) -> None:
        left = CLOSED_PER_TICK
        for _ in range(min(LOOKED_AT_PER_TICK, len(hosts))):
            self._place = (self._place + 1) % len(hosts)
            concurrency = hosts[self._place].concurrency
            if concurrency.is_due:
                concurrency.close()
                self._news = True
                left -= 1
                if not left:
                    return

    def _learn_together(self, learnt: Sequence[Concurrency]) -> None:
        if not learnt:
            return
        sums = [sum(losses) for losses in zip(*(each.losses for each in learnt), strict=True)]
        least = min(sums)
        at_least, at_most, slots = believed([each - least for each in sums])
        known = [each.slots for each in learnt if each.slots is not None]
        self.known |= slots is not None or bool(known)
        guess = median(known) if known else self.guess
        self.guess = min(at_most, max(at_least, guess)) if slots is None else slots


def slots_of(learnt: Concurrency, guess: float) -> float:
    """What to take for the slots of a host that has said nothing."""
    own = learnt.within(guess)
    return guess if guess / ALIKE <= own <= guess * ALIKE else own
