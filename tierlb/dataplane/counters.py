"""What a front counts, and for which parent; the account turns it into reports.

Items are counted where they come from (`tallies`), because each parent gets its own part: the echo of
BALANCING.md §2.
"""

from tierlb.telemetry.tally import Tallies


class Counters:
    """Cumulative since the node's start, but for the gauges `connections`, `handed` and `forwarded`. `handed`: of the
    connections, those that a node below was handed and has. `forwarded` are others, which the kernel forwards. This
    node holds neither.

    `timed` connections through an l4 node took `seconds` in all; what requests take is known by their kinds
    (balance.kinds). `waited` are the items that are over and were parked at their end. `ended` and `lived_s` count
    client connections that ended and how long they lasted. `piped_bytes` are those of joined sockets, which come to
    `bytes_in` and `bytes_out` as they end. `turned_away` are connections refused because the node was full (also in
    `rejected`), `gave_way` idle ones that were closed for new ones. `lost_datagrams` are those that the kernel had no
    room for.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "connections",
        "ended",
        "errors",
        "forwarded",
        "gave_way",
        "handed",
        "lived_s",
        "lost_datagrams",
        "piped_bytes",
        "rejected",
        "seconds",
        "tallies",
        "timed",
        "turned_away",
        "waited",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.handed = 0
        self.forwarded = 0
        self.timed = 0
        self.seconds = 0.0
        self.waited = 0
        self.ended = 0
        self.lived_s = 0.0
        self.errors = 0
        self.rejected = 0
        self.turned_away = 0
        self.gave_way = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.piped_bytes = 0
        self.lost_datagrams = 0
        self.tallies = Tallies()

    @property
    def items(self) -> int:
        """Items that arrived since the start."""
        return self.tallies.total().arrivals
