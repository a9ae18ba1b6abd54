"""Items that have begun at a host, as tests write them down."""

from typing import TypeVar

from tierlb.balance.kind_places import KindPlace
from tierlb.balance.ticket import ItemCounts, Ticket
from tierlb.telemetry.tally import Tally

H = TypeVar("H", bound=ItemCounts)


def begun(host: H, now: float, number: int = 0, *, tally: Tally | None = None, long: bool = False) -> Ticket[H]:
    """An item of the kind with this number. The host owes its answer from now on."""
    ticket = host.begin(now, tally or Tally(), KindPlace(number), long=long)
    ticket.sent = now
    return ticket
