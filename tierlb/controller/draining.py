"""What a change waits for while nodes drain, in words: `3 requests and 1 tunnel on web-2`.

From the rows that nodes send while a client of the admin API watches, so a node that has none to send, or ends at once,
is not named.
"""

from collections.abc import Iterable

from tierlb.model.load import NodeLoad
from tierlb.model.topology import Kind


def under_way(kind: Kind, load: NodeLoad) -> str:
    """What a node has still to finish; "" if that is nothing."""
    if kind is Kind.L4:
        return _counted([(load.connections, "connection")])
    requests = max(0, load.in_flight - load.tunnels)
    return _counted([(requests, "request"), (load.tunnels, "tunnel")])


def waiting_for(nodes: Iterable[tuple[str, Kind, NodeLoad]]) -> str:
    """What several have; "" while nothing is known to be waited for."""
    return ", ".join(f"{what} on {name}" for name, kind, load in nodes if (what := under_way(kind, load)))


def _counted(counts: Iterable[tuple[int, str]]) -> str:
    return " and ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count)
