"""Loads: a node's own counters, those of its hosts, and the load of a subtree.

Counters are cumulative since the node's start, so that a lost report does no harm. An *item* is a request wherever an
l7 tier is at or below the node, and a connection otherwise.
"""

import attrs

REPORT_INTERVAL_S = 0.25
"""Between two regular reports of a child to one of its parents."""
JSON_KEY = "json_key"
"""In a field's metadata: its key in JSON documents, where that is not its name."""
KindTimes = tuple[int, int, float]
"""The key of a kind of items, how many were answered, and the seconds to the answers' heads in all; cumulative."""


@attrs.frozen
class HostLoad:
    """One host as this node sees it.

    `availability` is one of available, ejected, unhealthy, silent, awaited, draining, maintenance or weight 0.
    `capacity` is in items per second as used for choosing (0: unknown). `share` is the part (0..1) of this node's
    recent items that the host got. `report_age_s` is None for hosts without reports. `problem`: the result of the last
    health check of an unhealthy endpoint. `parked`: how many of those in flight are no queue there, tunnels included
    (balance/parking.py). `capacity_age_s`: the age of what the capacity was learnt from (None: unknown). `way`: how an
    l4 node gets connections there: handoff, relay or nftables, empty if it cannot.
    """

    name: str
    in_flight: int
    done: int
    failed: int
    availability: str = "available"
    capacity: float = 0.0
    share: float = 0.0
    report_age_s: float | None = None
    problem: str = ""
    parked: int = 0
    capacity_age_s: float | None = None
    way: str = ""


@attrs.frozen
class CertificateExpiry:
    """A certificate that a process shows: its file, the names that it is for, and when it expires, in seconds since
    1970. `use`: to whom it is shown, which is clients, the endpoints of a pool (`pool app`), the rest of the
    cluster (`cluster`), or callers of the admin API (`admin API`)."""

    file: str
    names: tuple[str, ...]
    expires: float
    use: str


@attrs.frozen
class NodeLoad:
    """A node's own counters.

    `items` are requests at an l7 node and connections at an l4 node. `errors` are those that this node answered with
    5xx of its own or cut. `rejected` were refused as malformed, over a cap, or from an address that is no parent's.
    `busy` is the share of wall time (0..1) in which the event loop did not wait, over the last second or so.
    `turned_away` are the rejected that came when the node was full, `gave_way` idle connections that were closed for
    new ones. `shortages` names what the node lacks now, in sentences for an operator. `short_connects` counts connects
    to hosts that failed because this machine lacked something. `tunnels` are the upgraded connections among those in
    flight. `internal_errors` are those of the process that a barrier caught. `parked` are the items in flight that wait
    for something other than their host, tunnels included. `lost_datagrams` are those that the kernel had no room for.
    `certificates` are those that the node shows, as their files were read last.
    """

    connections: int
    in_flight: int
    items: int
    errors: int
    rejected: int
    bytes_in: int
    bytes_out: int
    busy: float
    hosts: tuple[HostLoad, ...] = attrs.field(default=(), metadata={JSON_KEY: "members"})
    turned_away: int = 0
    gave_way: int = 0
    shortages: tuple[str, ...] = ()
    short_connects: int = 0
    tunnels: int = 0
    internal_errors: int = 0
    parked: int = 0
    lost_datagrams: int = 0
    certificates: tuple[CertificateExpiry, ...] = ()


@attrs.frozen
class SubtreeLoad:
    """The report of a child on itself and everything below it, the same to every parent (BALANCING.md §4).

    `capacity` (items per second at full use) is 0 while unknown: zero is no load. `utilisation` is the larger of its
    own and that of what is below; `hottest` the largest of any node below, for alarms only. `in_flight`, `arrivals`,
    `done`, `errors` and `rejected` are the node's own counts of items. `response_s` is the recent mean time of an item
    that was not parked, to the head of its answer. `connection_s` is the mean life of a client connection (0: none
    ended yet). `age_s` is the age of the oldest figure that was aggregated, at the time of sending. `down` names pools
    without an available endpoint, as this node and those below it observe them. `parked`: how many of the items in
    flight are no queue, because they wait for something other than a host (balance/parking.py). `capacity_age_s`: the
    age of the newest figure behind the capacity. `slots`: how many items are worked on at a time below, with the
    current distribution of traffic (0: unknown). `overdue`: how late items are that wait, as a sum of ratios
    (balance/slowness.py). `kinds`: the times of the node's answers (balance/kind_counts.py).
    """

    capacity: float = 0.0
    own_capacity: float = 0.0
    utilisation: float = 0.0
    hottest: float = 0.0
    in_flight: int = 0
    arrivals: int = 0
    done: int = 0
    errors: int = 0
    rejected: int = 0
    connections: int = 0
    response_s: float = 0.0
    connection_s: float = 0.0
    age_s: float = 0.0
    ready_leaves: int = 0
    leaves: int = 0
    draining: bool = False
    down: tuple[str, ...] = ()
    parked: int = 0
    capacity_age_s: float = 0.0
    slots: float = 0.0
    overdue: float = 0.0
    kinds: tuple[KindTimes, ...] = ()

    @property
    def queued(self) -> int:
        """How many of the items in flight are queue."""
        return max(0, self.in_flight - self.parked)


@attrs.frozen
class Echo:
    """The part of a child's counts that came from the parent to which it reports."""

    in_flight: int = 0
    arrivals: int = 0
    connections: int = 0
    parked: int = 0

    @property
    def queued(self) -> int:
        """How many of the items in flight are queue."""
        return max(0, self.in_flight - self.parked)


@attrs.frozen
class Guidance:
    """Guidance from a parent to one of its children. `target`: the mean utilisation of it and its siblings, weighted by
    capacity. `all_hot`: whether all of them are hot. `response_s`: what this child's requests take at its siblings (0:
    unknown, or the child is not to act on it). `margin`: the factor above the target up to which a child does nothing.
    `give_per_s`: how many connections it is to close per second so that a sibling gets some; `probe`: only connections
    with few requests, because that sibling may still be slow."""

    target: float
    all_hot: bool = False
    response_s: float = 0.0
    margin: float = 1.1
    give_per_s: float = 0.0
    probe: bool = False


@attrs.frozen
class NodeRow:
    """The detail of one node, sent up only while a client watches. `latency` is an encoded telemetry sketch of the
    node's items in the last ten seconds or so."""

    node: str
    tier: str
    age_s: float
    own: NodeLoad
    subtree: SubtreeLoad
    latency: bytes = b""
