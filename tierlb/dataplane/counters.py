"""What a front counts; the plane turns it into a report."""

import attrs


@attrs.define(slots=True)
class Counters:
    """Cumulative since the node's start, but for the two gauges `connections` and `in_flight`."""

    connections: int = 0
    in_flight: int = 0
    items: int = 0
    errors: int = 0
    rejected: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
