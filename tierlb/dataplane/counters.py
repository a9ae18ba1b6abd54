"""What a front counts, and for which parent; the account turns it into reports.

Items are counted where they come from (`tallies`), because each parent gets its own part: the echo of
BALANCING.md §2.
"""

import attrs

from tierlb.telemetry.tally import Tallies


@attrs.define(slots=True)
class Counters:
    """Cumulative since the node's start, but for the gauge `connections`.

    `timed` connections through an l4 node took `seconds` in all; what requests take is known by their kinds
    (balance.kinds). `waited` are the items that are over and were parked at their end. `ended` and `lived_s` count
    client connections that ended and how long they lasted. `piped_bytes` are those of joined sockets, which come to
    `bytes_in` and `bytes_out` as they end. `turned_away` are connections refused because the node was full (also in
    `rejected`), `gave_way` idle ones that were closed for new ones.
    """

    connections: int = 0
    timed: int = 0
    seconds: float = 0.0
    waited: int = 0
    ended: int = 0
    lived_s: float = 0.0
    errors: int = 0
    rejected: int = 0
    turned_away: int = 0
    gave_way: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    piped_bytes: int = 0
    tallies: Tallies = attrs.field(factory=Tallies)

    @property
    def items(self) -> int:
        """Items that arrived since the start."""
        return self.tallies.total().arrivals
