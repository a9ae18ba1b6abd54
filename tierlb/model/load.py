"""What a node counts, cumulative since its start, so that a lost report costs nothing."""

import attrs


@attrs.frozen
class MemberLoad:
    """One member as this node sees it. `ejected`: passed over after failed connects."""

    name: str
    in_flight: int
    done: int
    failed: int
    ejected: bool


@attrs.frozen
class NodeLoad:
    """A node's own counters.

    `items` are requests at an l7 node and connections at an l4 node; `errors` those that this node answered
    with 5xx of its own or cut; `rejected` those refused as malformed, over a cap, or from an address that is no
    parent's. `busy` is the share of wall time (0..1) the event loop did not wait since the last report.
    """

    connections: int
    in_flight: int
    items: int
    errors: int
    rejected: int
    bytes_in: int
    bytes_out: int
    busy: float
    members: tuple[MemberLoad, ...] = ()
