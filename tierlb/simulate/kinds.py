"""Kinds of items: what an item of each kind does at its leaf, and how many clients request it.

An item has up to three phases: the client sends it (`sending`), the leaf works until the head of the answer (`head`),
and the answer goes on (`body`). The short items of a scenario are no `ItemKind`: they take a slot of the leaf for one
service time and their answer has no further body.
"""

import enum
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

SHORT_ROUTE = "short"
"""The route of the short items."""
Draw = Callable[[], float]


class Times(Protocol):
    """A distribution of seconds."""

    @property
    def mean_s(self) -> float: ...

    def drawn_by(self, rng: random.Random) -> Draw:
        """A function that draws from it."""


@attrs.frozen
class Span:
    """Uniform from `low_s` to `high_s`."""

    low_s: float
    high_s: float

    @property
    def mean_s(self) -> float:
        return (self.low_s + self.high_s) / 2

    def drawn_by(self, rng: random.Random) -> Draw:
        """A function that draws from it."""
        return lambda: rng.uniform(self.low_s, self.high_s)


class Slot(enum.Enum):
    """How long an item occupies one of the leaf's slots, in which short items are served too."""

    NONE = "none"
    HEAD = "until the head"
    THROUGHOUT = "throughout"


@attrs.frozen
class Standing:
    """So many clients that have one item of a kind in progress at all times."""

    count: int = 0
    over_s: float = 1.0
    """Their start is spread at random over this time."""
    leaves: Sequence[int] = ()
    """Positions of the leaves for their first items, one after the other; empty: as the nodes choose."""
    stays: bool = False
    """Their later items go to the same leaf too."""


@attrs.frozen
class ItemKind:
    """Besides the items of standing clients, `per_short` items arrive for each short one, in a Poisson stream."""

    name: str
    head: Times
    body: Times | None = None
    sending: Times | None = None
    """The client takes this long to send the item. The slot, if any, is taken after that."""
    slot: Slot = Slot.NONE
    standing: Standing = Standing()
    per_short: float = 0.0
    begin_s: float = 0.0
    """When both begin."""
    stretched: bool = True
    """A slow leaf takes longer for the head and the body. False where both only wait, for an event or a client."""
    streamed: bool = False
    """The length of the answer is not known at its head."""
    reading: bool = False
    """The body takes as long as the client takes to read it."""

    route: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True))
    """The route, which nodes see before the item is answered."""

    @property
    def held_s(self) -> float:
        """The mean time for which an item holds a slot."""
        body_s = self.body.mean_s if self.body is not None else 0.0
        return {Slot.NONE: 0.0, Slot.HEAD: self.head.mean_s, Slot.THROUGHOUT: self.head.mean_s + body_s}[self.slot]

    @property
    def whole_s(self) -> float:
        """The mean time of an item that does not wait for a slot."""
        return sum(times.mean_s for times in (self.sending, self.head, self.body) if times is not None)


class KindSource:
    """A kind with its random source."""

    __slots__ = ("body", "head", "kind", "sending")

    def __init__(self, kind: ItemKind, rng: random.Random) -> None:
        self.kind = kind
        self.head = kind.head.drawn_by(rng)
        self.body = kind.body.drawn_by(rng) if kind.body is not None else None
        self.sending = kind.sending.drawn_by(rng) if kind.sending is not None else None


def short_rate(load: float, slots: int, mean_s: float, kinds: Sequence[ItemKind]) -> float:
    """Short items per second that occupy the part `load` of all slots, together with the items that accompany them.

    The slots that standing clients hold on average are not counted. Raises ValueError if they hold all of them.
    """
    held = sum(kind.standing.count * kind.held_s / kind.whole_s for kind in kinds)
    if held >= slots:
        raise ValueError(f"standing clients hold {held:g} of {slots} slots")
    return load * (slots - held) / (mean_s + sum(kind.per_short * kind.held_s for kind in kinds))
