"""How often items of each kind were answered and parked lately, and which kinds are therefore long.

A kind is long if more than half of its items are parked (balance/parking.py), such as long polls and tunnels. Counts
are halved at every sweep, so that they follow the traffic of the last seconds.
"""

from typing import Final

from tierlb.balance.kind_places import ANSWER_FORMS, KIND_NUMBERS

MOST_WAITING: Final = 0.25
"""Of the answers of a kind. Even a slow host among equals makes no more of them late and is still recognised."""


class KindActivity:
    """Counts by number. `answered` is by number and form, the others by number alone."""

    __slots__ = ("_parked", "_waited", "answered", "long")

    def __init__(self) -> None:
        self.answered = [0] * KIND_NUMBERS
        self.long = [False] * KIND_NUMBERS
        self._parked = [0] * KIND_NUMBERS
        self._waited = [0] * KIND_NUMBERS

    def note_parked(self, number: int) -> None:
        """An item of this kind was parked."""
        self._parked[number] += 1
        self._weigh(number)

    def note_waited(self, number: int) -> None:
        """The head of an answer took so long that the item was parked meanwhile, or would have been."""
        self._waited[number] += 1

    def heads_show_host(self, number: int) -> bool:
        """Whether the time to the head depends on the host although most items of this kind are long. That of a stream
        does; that of a long poll depends on when there was news."""
        heads = self.answered[number] + self.answered[number + 1]
        return heads > 0 and self._waited[number] <= MOST_WAITING * heads

    def total(self, number: int) -> int:
        """Items of this kind lately."""
        return self.answered[number] + self.answered[number + 1] + self._parked[number]

    def halve(self) -> None:
        """Let the past count for half."""
        self.answered[:] = [count // 2 for count in self.answered]
        self._parked = [count // 2 for count in self._parked]
        self._waited = [count // 2 for count in self._waited]
        for number in range(0, KIND_NUMBERS, ANSWER_FORMS):
            self._weigh(number)

    def forget(self, number: int) -> None:
        """The number belongs to another kind from now on."""
        for each in (number, number + 1):
            self.answered[each] = self._parked[each] = self._waited[each] = 0
            self.long[each] = False

    def _weigh(self, number: int) -> None:
        self.long[number] = self._parked[number] * 2 > self.answered[number] + self.answered[number + 1]
