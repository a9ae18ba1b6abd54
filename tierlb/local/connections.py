"""Whether a local process still has connections, and whether it takes datagrams, from the kernel's tables of all
processes.

Used for endpoints. When one is to end, the nodes that sent there have closed idle connections and let work in progress
finish, so the connections that are left are requests, tunnels, relayed connections, or sessions over UDP.
"""

from collections.abc import Iterator
from pathlib import Path

NET = Path("/proc/net")
TCP, UDP = ("tcp", "tcp6"), ("udp", "udp6")
"""The names of the tables."""
ESTABLISHED = "01"
"""Also of a UDP socket that is connected."""
UNCONNECTED = "07"
LOCAL_COLUMN, REMOTE_COLUMN, STATE_COLUMN = 1, 2, 3
"""Columns of the tables."""


def is_connected(port: int, net: Path = NET) -> bool:
    """Whether a connection to this port of this machine is established, or a UDP socket of this machine is connected to
    such a port. False where the kernel has no such tables."""
    suffix = f":{port:04X}"
    connections = (row[LOCAL_COLUMN] for row in _rows(net, TCP) if row[STATE_COLUMN] == ESTABLISHED)
    sessions = (row[REMOTE_COLUMN] for row in _rows(net, UDP) if row[STATE_COLUMN] == ESTABLISHED)
    return any(end.endswith(suffix) for end in connections) or any(end.endswith(suffix) for end in sessions)


def takes_datagrams(port: int, net: Path = NET) -> bool:
    """Whether a process of this machine has bound a UDP socket to this port."""
    suffix = f":{port:04X}"
    return any(row[LOCAL_COLUMN].endswith(suffix) and row[STATE_COLUMN] == UNCONNECTED for row in _rows(net, UDP))


def _rows(net: Path, tables: tuple[str, ...]) -> Iterator[list[str]]:
    for table in tables:
        try:
            with (net / table).open(encoding="ascii") as lines:
                next(lines, None)
                yield from (line.split(None, STATE_COLUMN + 1) for line in lines)
        except OSError:
            continue
