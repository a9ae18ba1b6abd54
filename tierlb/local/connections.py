"""Whether a local process still has connections, from the kernel's table of all processes.

Used for endpoints that are to end. The nodes that sent there have closed idle connections and let work in progress
finish, so the connections that are left are requests, tunnels or relayed connections.
"""

from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"
LOCAL_COLUMN, STATE_COLUMN = 1, 3
"""Columns of the tables."""


def is_connected(port: int, tables: tuple[Path, ...] = TABLES) -> bool:
    """Whether a connection to this port of this machine is established. False where the kernel has no such table."""
    suffix = f":{port:04X}"
    return any(_has_connection(table, suffix) for table in tables)


def _has_connection(table: Path, suffix: str) -> bool:
    try:
        with table.open(encoding="ascii") as lines:
            next(lines, None)
            columns = (line.split(None, STATE_COLUMN + 1) for line in lines)
            return any(row[LOCAL_COLUMN].endswith(suffix) and row[STATE_COLUMN] == ESTABLISHED for row in columns)
    except OSError:
        return False
