"""How many items the hosts of a pool work on at once: their slots, as declared, as learnt of each, and as all show.

A number that an endpoint or its agent declares is used as it is. For the others it is learnt from the times of their
answers (balance/concurrency.py), which needs moments in which the host is saturated. Hosts of a pool mostly have the
same number of slots, so their evidence is added up: eight hosts that are 60 % busy show together in seconds what each
would show in minutes. The result is the guess for every host, within the limits that its own answers set. A host whose
own figure is close to the guess gets the guess, because noise would else decide between equal hosts. While the sum is
inconclusive, the guess is the median of the hosts whose own number is known. Otherwise the first host that is known to
have fewer slots than the guess would look smaller than its equals, and starve.

The work per tick is bounded: a few items per host are sampled, and at most `CLOSED_PER_TICK` windows are judged, in
turn, so that windows are longer where there are hundreds of hosts.
"""

from collections.abc import Sequence

import attrs

from tierlb.balance.capacity import ALIKE
from tierlb.balance.concurrency import Concurrency, believed
from tierlb.balance.medians import median

GUESSED_SLOTS = 8.0
"""The guess before anything is known. A round number: most servers that limit themselves use a few times this."""
ITEM_IN_SLOTS = 2.0
"""In a cost the item itself counts as so many times the slots, up to GUESSED_SLOTS. With 1 the cost is the expected
time, which sends more to slow endpoints than the tail allows: p99 is 47/58/53 ms over endpoints of four slots, with 2
it is 47/54/51 (tests/simulation/test_load_aware.py)."""
CLOSED_PER_TICK = 2
LOOKED_AT_PER_TICK = 16
DECIDED_EACH_S = 1.0


@attrs.define(slots=True)
class HostSlots:
    """The slots of one host, of all its parents together."""

    value: float = GUESSED_SLOTS
    """As they are used now."""
    declared: float = 0.0
    """As the host or its agent declares them; 0 where neither does."""
    concurrency: Concurrency = attrs.field(factory=Concurrency)

    def declare(self, slots: float) -> None:
        """The host or its agent declares so many. 0 withdraws that; the number stays in use until another is known."""
        self.declared = float(slots)
        self.value = self.declared or self.value

    @property
    def item_weight(self) -> float:
        """How many items an item of its own counts as in the cost of an endpoint."""
        return max(self.value, min(GUESSED_SLOTS, ITEM_IN_SLOTS * self.value))


@attrs.define
class PoolSlots:
    """What is known of a pool. `guess`: what is assumed of a host without evidence of its own; `known`: whether the
    guess follows from evidence."""

    guess: float = GUESSED_SLOTS
    known: bool = False
    _next: int = 0
    _closed_any: bool = False
    _elapsed_s: float = 0.0

    def advance(self, dt_s: float, hosts: Sequence[HostSlots]) -> None:
        """`dt_s` have passed, and the answers of that time have been added."""
        self._close_some(hosts)
        self._elapsed_s += dt_s
        if self._elapsed_s >= DECIDED_EACH_S:
            self._elapsed_s = 0.0
            if self._closed_any:
                self._closed_any = False
                self._learn_together([each.concurrency for each in hosts if not each.declared])
            for host in hosts:
                host.value = host.declared or slots_of(host.concurrency, self.guess)

    def _close_some(self, hosts: Sequence[HostSlots]) -> None:
        left = CLOSED_PER_TICK
        for _ in range(min(LOOKED_AT_PER_TICK, len(hosts))):
            self._next = (self._next + 1) % len(hosts)
            concurrency = hosts[self._next].concurrency
            if concurrency.is_due:
                concurrency.close()
                self._closed_any = True
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
    """The slots to assume of a host that declares none."""
    own = learnt.within(guess)
    return guess if guess / ALIKE <= own <= guess * ALIKE else own
