"""Which kept connections of a simulated node are to close, so that their clients come back through the first tier.

The rules are the product's (`balance.guidance`): the parents' guidance becomes a rate, and the rate a budget.
"""

from typing import Protocol

import attrs

from tierlb.balance.guidance import CloseBudget, WaitingConnection, closing_rate_per_s, combine, why_close
from tierlb.model.load import Guidance, SubtreeLoad


class Movable(WaitingConnection, Protocol):
    """A kept connection. `moves`: it is to close with the answer it waits for."""

    moves: bool


class ClientMoves:
    """`closed` connections lasted `connected_s` in all. `_waiting`: connections that wait for an answer and are not to
    close with it, in the order in which items were sent; `_moving`: how many are to close with theirs."""

    __slots__ = ("_guidances", "_moving", "_waiting", "budget", "closed", "connected_s")

    def __init__(self) -> None:
        self.budget = CloseBudget()
        self.closed = 0
        self.connected_s = 0.0
        self._guidances: dict[str, Guidance] = {}
        self._moving = 0
        self._waiting: dict[Movable, None] = {}

    def note_guidance(self, parent: str, guidance: Guidance) -> None:
        """A parent's guidance has arrived."""
        self._guidances[parent] = guidance

    def follow(self, now: float, load: SubtreeLoad, response_s: float) -> None:
        """Set the rate anew, and choose which connections end with the answer they wait for. `response_s` is that of
        the last quarter second."""
        guidance, rising = combine(self._guidances.values()), attrs.evolve(load, response_s=response_s)
        self.budget.set_rate(now, closing_rate_per_s(load.connections, rising, guidance), why_close(rising, guidance))
        waiting = list(self._waiting)
        others = load.connections - self._moving - len(waiting)
        for connection in self.budget.choose(now, waiting, others, response_s):
            connection.moves = True
            self._moving += 1
            del self._waiting[connection]

    def begin(self, connection: Movable) -> None:
        """It waits for an answer from now on."""
        self._waiting[connection] = None

    def answered(self, connection: Movable) -> None:
        """It has its answer."""
        self._waiting.pop(connection, None)

    def is_to_close(self, connection: Movable, now: float) -> bool:
        """Whether a connection that has its answer ends with that."""
        return connection.moves or self.budget.take(now)

    def leave(self, connection: Movable, connected_s: float) -> None:
        """It is closed."""
        self.closed += 1
        self._moving -= connection.moves
        self.connected_s += connected_s
