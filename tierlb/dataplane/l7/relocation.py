"""Connections that an l4 parent placed here, and which of them end so that the parent places their clients anew.

Such a connection ends with a response and `Connection: close`, for one of three reasons: it lasted long enough, this
node has more than its siblings (BALANCING.md §6), or the process that placed it is no parent any more.
"""

import random
from collections.abc import Sequence

import attrs

from tierlb.balance.guidance import CloseBudget, closing_rate_per_s, why_close
from tierlb.dataplane.l7.lifetime import Lifetime
from tierlb.model.load import Guidance, SubtreeLoad

LONGEST_AGE_S = 300.0
"""However even the load is, a connection is placed anew after this long (BALANCING.md §6)."""
AGE_JITTER = 0.1
GONE_KEPT = 64
"""Processes that were parents lately, of which this many are remembered."""
CHOICE_S_PER_CLIENT = 2e-5
"""The least time between two looks for connections to end. A look takes 0.5 µs for each connection, so 3 % of the time
at most."""


@attrs.frozen
class Candidate:
    """A connection that may end. `waits`: it waits for a response that has not begun, and that keeps a place at a host.
    `activity`: requests per second of the time in which it did not wait for responses."""

    lifetime: Lifetime
    waits: bool
    activity: float


class Relocation:
    """`closing`: how many connections are to end, `movable`: how many could. `gone` are processes that were parents
    until lately: what they still place here ends soon."""

    __slots__ = ("_chosen_at", "_parents", "_response_s", "_rng", "closing", "gone", "movable")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.closing = CloseBudget()
        self.movable = 0
        self.gone: dict[str, None] = {}
        self._parents: tuple[str, ...] = ()
        self._chosen_at = self._response_s = 0.0

    def spread(self, within_s: float) -> float:
        """A moment for one of many connections that are to end within so many seconds."""
        return self._rng.uniform(0.0, within_s)

    def note_parents(self, parents: tuple[str, ...]) -> None:
        """These processes are the parents now."""
        self.gone |= dict.fromkeys(process for process in self._parents if process not in parents)
        self._parents = parents
        for process in parents:
            self.gone.pop(process, None)
        while len(self.gone) > GONE_KEPT:
            del self.gone[next(iter(self.gone))]

    def is_to_move(self, lifetime: Lifetime, now: float) -> bool:
        """Whether a movable connection ends with the response that begins now."""
        return lifetime.moves or self.closing.take(now)

    def follow(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        """Work out from the parents' guidance how many connections are to end."""
        self._response_s = load.response_s
        rate_per_s = closing_rate_per_s(self.movable, load, guidance)
        self.closing.set_rate(now, rate_per_s, why_close(load, guidance))

    def is_choice_due(self, now: float, clients: int) -> bool:
        """Whether to choose which of so many connections end, where that is not left to chance."""
        return self.closing.chooses and now - self._chosen_at >= CHOICE_S_PER_CLIENT * clients

    def choose(self, now: float, movable: Sequence[Candidate]) -> None:
        """Choose which of the movable connections end with the response that they wait for."""
        self._chosen_at = now
        waiting = [each for each in movable if not each.lifetime.moves and each.waits]
        others = len(movable) - len(waiting) - sum(each.lifetime.moves for each in movable)
        for each in self.closing.choose(now, waiting, others, self._response_s):
            each.lifetime.moves = True

    def place(self, lifetime: Lifetime, now: float, *, draining: bool) -> None:
        """A parent placed this connection here."""
        lifetime.movable = True
        lasts_s = 0.0 if draining else self._rng.uniform(1 - AGE_JITTER, 1 + AGE_JITTER) * LONGEST_AGE_S
        lifetime.expires = now + lasts_s
        self.movable += 1

    def forget(self, lifetime: Lifetime) -> None:
        """The connection is over, or cannot be moved any more."""
        if lifetime.movable:
            lifetime.movable = False
            self.movable -= 1

    def is_gone(self, processes: tuple[str, ...]) -> bool:
        """Whether one of these processes is no parent any more."""
        return any(process in self.gone for process in processes)
