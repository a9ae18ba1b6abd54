"""One item at one host: a ticket counts it from its beginning to its end, exactly once.

`host.begin` returns the ticket of an item. `done`, `answered_whole`, `failed` or `give_back` ends it. Every count that
goes up at the one goes down at the other, here and nowhere else: what is in flight, what is over, and what is parked
(balance/parking.py) at the host and in the tally of the connection on which the item came. The first call that ends a
ticket counts and any further one does nothing, so that clear-up code may always give a ticket back. Counts are settled
before anything else learns of the end, so that no error there can leave an item in flight.

Each attempt has a ticket of its own: an item that is tried again at another host begins anew there.
"""

import enum
from collections import defaultdict
from typing import Generic, Protocol, TypeVar

from mypy_extensions import mypyc_attr

from tierlb.balance.kind_places import KindPlace
from tierlb.balance.kinds import Kinds
from tierlb.balance.outlier import HostFault
from tierlb.balance.parking import PARKED_AFTER_S


class ParkedCount(Protocol):
    """Where the items of one parent (or of none) are counted: how many of them are parked."""

    parked: int


class Stage(enum.Enum):
    """How an item counts at its host while it is in flight."""

    QUEUED = "queued"
    PARKED = "parked"
    PARKED_EARLY = "parked early"
    CONNECTION = "connection"
    OVER = "over"


QUEUED, PARKED, PARKED_EARLY = Stage.QUEUED, Stage.PARKED, Stage.PARKED_EARLY
CONNECTION, OVER = Stage.CONNECTION, Stage.OVER

H = TypeVar("H", bound="ItemCounts")
H_co = TypeVar("H_co", bound="ItemCounts", covariant=True)


class Ticket(Generic[H_co]):
    """`began` and `sent` are times of the reactor. `sent` is above 0 while the host owes an answer: when the request
    was complete. It is 0 before that, and from `park` on. Below 0, it is minus the seconds to the head of the answer.
    `tally` is that of the connection on which the item came. `turn`: how many items of the host were over or in flight
    when this one began. An item that begins as a parked one, since most of its kind are parked, is `PARKED_EARLY`."""

    __slots__ = ("began", "host", "kind", "sent", "stage", "tally", "turn")

    began: float
    host: H_co
    kind: KindPlace
    sent: float
    stage: Stage
    tally: ParkedCount
    turn: int

    @property
    def is_queued(self) -> bool:
        """Whether it is in flight and counts as queue."""
        return self.stage is QUEUED

    @property
    def is_over(self) -> bool:
        return self.stage is OVER

    def answered(self, now: float, stream: int) -> None:
        """The head of a good answer came. `stream` is 1 if the length of its body is not known in advance, else 0."""
        if self.sent <= 0:
            return
        took_s = now - self.sent
        self.sent = -took_s
        host, number = self.host, self.kind.number
        if self.stage is PARKED_EARLY:
            if took_s >= PARKED_AFTER_S:
                host.kinds.note_waited(number)
            if not host.kinds.tells(number):
                return
        host.times[number + stream].append(took_s)

    def done(self, now: float, count: int = 1) -> bool:
        """The item is over and counts as done. Returns whether it was parked at its end."""
        stage = self.stage
        if stage is OVER:
            return False
        self.stage = OVER
        host = self.host
        host.in_flight -= 1
        host.moments += now
        host.done += count
        if stage is QUEUED:
            del host.under_way[self]
            return False
        return self._leave(now, stage)

    def answered_whole(self, now: float, stream: int) -> bool:
        """All of a good answer came: `answered`, unless that was noted with its head, and `done`."""
        took_s = now - self.sent
        if self.stage is not QUEUED or self.sent <= 0:
            self.answered(now, stream)
            return self.done(now)
        self.sent, self.stage = -took_s, OVER
        host = self.host
        host.times[self.kind.number + stream].append(took_s)
        host.in_flight -= 1
        host.moments += now
        host.done += 1
        del host.under_way[self]
        return False

    def failed(self, now: float, fault: HostFault) -> bool:
        """As `done`, and the host is to blame for an error."""
        if self.stage is OVER:
            return False
        parked = self.done(now)
        self.host.blame(now, fault)
        return parked

    def give_back(self, now: float) -> bool:
        """As `done`, but it does not count as done: the host had no part in how it ended."""
        return self.done(now, 0)

    def park(self) -> None:
        """It waits for something else than its host, so its time does not count for the host."""
        if self.stage is not QUEUED:
            return
        del self.host.under_way[self]
        self.enter_parking(PARKED)
        kinds, number = self.host.kinds, self.kind.number
        if self.sent > 0:
            self.sent = 0.0
            kinds.note_waited(number)
        kinds.note_parked(number)

    def stay_parked(self) -> None:
        """A tunnel came of it, which keeps the ticket until it ends."""
        self.park()
        if self.stage is PARKED_EARLY:
            self.stage = PARKED

    def enter_parking(self, stage: Stage) -> None:
        """Count it as parked from now on."""
        self.stage = stage
        self.host.parked_items.add(self)
        self.host.parked += 1
        self.tally.parked += 1

    def _leave(self, now: float, stage: Stage) -> bool:
        """The end of one that was not queued."""
        host = self.host
        host.parked_items.remove(self)
        host.parked -= 1
        self.tally.parked -= 1
        if stage is PARKED_EARLY and now - self.began >= PARKED_AFTER_S:
            host.kinds.note_parked(self.kind.number)
        host.settle_at_once(now)
        return True


class ConnectionTicket(Ticket[H_co]):
    """A whole connection, from whose end nothing is learnt. Its use may be watched (balance/activity.py): `parked` is 1
    while it counts as parked, and `lightness` is by how much it counts less than a whole item."""

    __slots__ = ("lightness", "parked")

    lightness: float
    parked: int

    def weigh(self, parked: int, lightness: float) -> None:
        """How it counts from now on."""
        if self.stage is OVER:
            return
        self.host.parked += parked - self.parked
        self.tally.parked += parked - self.parked
        self.host.lightness += lightness - self.lightness
        self.parked, self.lightness = parked, lightness

    def _leave(self, now: float, stage: Stage) -> bool:
        parked = self.parked > 0
        if parked or self.lightness:
            self.host.parked -= self.parked
            self.tally.parked -= self.parked
            self.host.lightness -= self.lightness
            self.host.settle_at_once(now)
        return parked


@mypyc_attr(allow_interpreted_subclasses=True)
class ItemCounts:
    """What tickets count at one host; all else reads it.

    `in_flight` counts all items, `parked` those of them that are parked, `done` those that are over. `moments` is the
    sum of the times at which items ended less that of the times at which they began, from which the integral of
    `in_flight` over time follows exactly at the cost of one addition per event. `under_way` are the items in flight
    that count as queue, in the order in which they began, `parked_items` the others, tunnels that came of items among
    them. `times` are those of answers since the last tick, by the number of their kind. The next `samples` items are
    noted in `sampled` with how many competed for slots as each began. `lightness` is by how much watched connections
    count less than as many whole items.
    """

    __slots__ = (
        "done",
        "in_flight",
        "kinds",
        "lightness",
        "moments",
        "parked",
        "parked_items",
        "sampled",
        "samples",
        "times",
        "under_way",
    )

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.in_flight = self.parked = self.done = self.samples = 0
        self.moments = self.lightness = 0.0
        self.under_way: dict[Ticket[ItemCounts], None] = {}
        self.parked_items: set[Ticket[ItemCounts]] = set()
        self.times: defaultdict[int, list[float]] = defaultdict(list)
        self.sampled: list[tuple[Ticket[ItemCounts], int]] = []

    def begin(self: H, now: float, tally: ParkedCount, kind: KindPlace, *, long: bool = False) -> Ticket[H]:
        """An item is on its way. `long`: most of its kind are parked, so that this one is at once."""
        ticket: Ticket[H] = Ticket()
        ticket.host = self
        ticket.began = now
        ticket.sent = 0.0
        ticket.kind = kind
        ticket.tally = tally
        self.in_flight = in_flight = self.in_flight + 1
        self.moments -= now
        if long:
            ticket.enter_parking(PARKED_EARLY)
            return ticket
        ticket.stage = QUEUED
        ticket.turn = self.done + in_flight
        self.under_way[ticket] = None
        if self.samples:
            self.samples -= 1
            self.sampled.append((ticket, max(1, in_flight - self.parked)))
        return ticket

    def begin_connection(self: H, now: float, tally: ParkedCount) -> ConnectionTicket[H]:
        """A connection is on its way."""
        ticket: ConnectionTicket[H] = ConnectionTicket()
        ticket.host = self
        ticket.began = now
        ticket.tally = tally
        ticket.stage = CONNECTION
        ticket.parked, ticket.lightness = 0, 0.0
        self.in_flight += 1
        self.moments -= now
        return ticket

    def settle_at_once(self, now: float) -> None:
        """Something changed that the next choice should take into account. Costs are not kept here."""

    def blame(self, now: float, fault: HostFault) -> None:
        """The host is to blame for an item that failed. Errors are not kept here."""
