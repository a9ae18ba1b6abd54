"""Whether a local process still has connections: the kernel's table lists those of every process.

For endpoints that are to end. The nodes that sent there close what they kept and let finish what is under way, so
connections that are left are requests, tunnels or relayed connections.
"""

from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"
LOCAL, STATE = 1, 3
"""Columns of the tables."""


def is_connected(port: int, tables: tuple[Path, ...] = TABLES) -> bool:
    """Whether a connection to this port of this machine is established. Where there is no table there is none."""
    suffix = f":{port:04X}"
    return any(_has(table, suffix) for table in tables)


def _has(table: Path, suffix: str) -> bool:
    try:
        with table.open(encoding="ascii") as lines:
            next(lines, None)
            columns = (line.split(None, STATE + 1) for line in lines)
            return any(row[LOCAL].endswith(suffix) and row[STATE] == ESTABLISHED for row in columns)
    except OSError:
        return False
