"""The connections that one process of a child was given and that are not over: their tickets, by the numbers under
which they were handed over. That one has ended is known from the child's messages.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.handoff.taker import Handed
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.upstream.host import Host
from tierlb.telemetry.tally import Tally
from tierlb.wire.handoff import MAX_ENTRIES, MAX_MESSAGE_BYTES, Entry, encode_entry

ENDS_PER_TURN: Final = 256
"""Connections of a child that is gone, of which so many are counted as over in one turn."""


class Waiting:
    """A connection that is to be handed over, or that came back. `is_last`: no other host has room for it."""

    __slots__ = ("caller", "client", "is_last", "ticket", "tried")

    def __init__(
        self,
        client: int,
        caller: Caller,
        ticket: ConnectionTicket[Host],
        tried: tuple[Host, ...],
        *,
        is_last: bool = False,
    ) -> None:
        self.client = client
        self.caller = caller
        self.ticket = ticket
        self.tried = tried
        self.is_last = is_last


class Beside:
    """What is kept of few connections besides their tickets: the hosts that were tried before, whether this is the last
    try, and from where a connection was handed over to this node."""

    __slots__ = ("handed", "is_last", "tried")

    def __init__(self, handed: Handed | None, tried: tuple[Host, ...], *, is_last: bool) -> None:
        self.handed = handed
        self.tried = tried
        self.is_last = is_last


def tally_of(ticket: ConnectionTicket[Host]) -> Tally:
    """Where its connection is counted."""
    tally = ticket.tally
    assert isinstance(tally, Tally)
    return tally


class Given:
    """`number`: that of the next connection. `apart`: the child's network is another one, so that these connections end
    with this process."""

    __slots__ = ("_beside", "_context", "_tickets", "apart", "number")

    def __init__(self, context: L4Context) -> None:
        self._context = context
        self._tickets: dict[int, ConnectionTicket[Host]] = {}
        self._beside: dict[int, Beside] = {}
        self.number = 0
        self.apart = False

    @property
    def to_outlive(self) -> int:
        """Connections that this process has to outlive, so that they are not cut."""
        return len(self._tickets) if self.apart else 0

    def __len__(self) -> int:
        return len(self._tickets)

    def encoded(self, waiting: Iterable[Waiting]) -> tuple[list[Waiting], bytes]:
        """The first of those that wait, as many as one message holds but one at least, and that message."""
        batch: list[Waiting] = []
        entries: list[bytes] = []
        size = 0
        for number, each in enumerate(waiting, start=self.number):
            caller = each.caller
            entry = encode_entry(
                number,
                caller.source,
                caller.began,
                caller.entry_tlvs(),
                is_last=each.is_last,
            )
            size += len(entry)
            if len(batch) == MAX_ENTRIES or (batch and size > MAX_MESSAGE_BYTES):
                break
            batch.append(each)
            entries.append(entry)
        return batch, b"".join(entries)

    def begin(self, each: Waiting) -> None:
        """It is in the queue, and its socket no longer this process's."""
        caller = each.caller
        self._tickets[self.number] = each.ticket
        if each.tried or each.is_last or caller.handed is not None:
            self._beside[self.number] = Beside(caller.handed, each.tried, is_last=each.is_last)
        self.number += 1
        caller.settle()
        self._context.counters.handed += 1

    def over(self, number: int) -> None:
        """It has ended. A second time it has no effect."""
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            beside = self._beside.pop(number, None) if self._beside else None
            self._context.counters.handed -= 1
            self._context.count_over(ticket, tally_of(ticket), ticket.began, beside.handed if beside else None)

    def end_some(self, below: int) -> bool:
        """The child's process is gone, and with it those of its connections with numbers below this one. Whether some
        of these are left to be counted."""
        due = [number for number in islice(self._tickets, ENDS_PER_TURN + 1) if number < below]
        for number in due[:ENDS_PER_TURN]:
            self.over(number)
        return len(due) > ENDS_PER_TURN

    def lose(self, number: int) -> None:
        """Its socket is gone, and no host has had it."""
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            beside = self._beside.pop(number, None)
            self._context.counters.handed -= 1
            self._context.counters.errors += 1
            ticket.give_back(self._context.reactor.now)
            self._context.count_dropped(tally_of(ticket), beside.handed if beside else None)

    def lose_from(self, first: int) -> int:
        """Those with this number and higher ones are gone; how many those are."""
        lost = [number for number in range(first, self.number) if number in self._tickets]
        for number in lost:
            self.lose(number)
        return len(lost)

    def take_back(self, entry: Entry, client: int) -> Waiting | None:
        """One that the child did not take; None if it is none of these."""
        ticket = self._tickets.pop(entry.number, None)
        if ticket is None:
            return None
        beside = self._beside.pop(entry.number, None)
        self._context.counters.handed -= 1
        caller = Caller.back(entry.source, tally_of(ticket), entry.arrived, entry.tlvs)
        if beside is None:
            return Waiting(client, caller, ticket, ())
        caller.handed = beside.handed
        caller.had_last_try = beside.is_last
        return Waiting(client, caller, ticket, beside.tried)
