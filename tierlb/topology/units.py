"""Quantities as people write them in the topology file: durations (`1m30s`) and sizes (`64KiB`).

Durations need a unit, because a bare 30 could mean anything. A bare number of bytes is clear enough to be allowed. Each
reader raises ValueError with a sentence that says what to write.
"""

import re

SECONDS_PER = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES_PER = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

SHORTEST_DURATION_S = 0.1
"""Below this the figure would mean nothing to the data plane's coarse timers (a quarter of a second)."""
LONGEST_DURATION_S = 86_400.0
"""A day. More would be no timeout at all, which the bounds on memory do not allow."""
BYTE_UNITS = ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "KB")
LARGEST_BYTES = 2**50
"""Far above any body, far below where a float could round a size."""

NUMBER_PATTERN = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
DURATION = re.compile(rf"(?:{NUMBER_PATTERN}(?:ms|s|m|h))+")
DURATION_PART = re.compile(rf"({NUMBER_PATTERN})(ms|s|m|h)")
SIZE = re.compile(rf"({NUMBER_PATTERN}) ?([a-z]*)", re.IGNORECASE)


def parse_duration_s(text: str) -> float:
    """Read `250ms`, `2s`, `1m30s` or `1.5h` as seconds, between a tenth of a second and a day."""
    if not DURATION.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a duration: write one such as 250ms, 2s or 1m30s")
    parts = DURATION_PART.findall(text)
    scales = [SECONDS_PER[unit] for _, unit in parts]
    if scales != sorted(set(scales), reverse=True):
        raise ValueError(f"{shown(text)} is not a duration: write the largest unit first, each once")
    seconds = sum(float(number) * scale for (number, _), scale in zip(parts, scales, strict=True))
    if seconds < SHORTEST_DURATION_S:
        raise ValueError(f"{shown(text)} is too short: write at least 100ms")
    if seconds > LONGEST_DURATION_S:
        raise ValueError(f"{shown(text)} is too long: write at most 24h")
    return seconds


def parse_size_bytes(value: str | int) -> int:
    """Read `64KiB`, `10MB`, `512` or an int as a positive number of bytes."""
    text = value if isinstance(value, str) else f"{value:d}"
    found = SIZE.fullmatch(text)
    scale = BYTES_PER.get(found[2].lower()) if found else None
    if found is None or scale is None:
        raise ValueError(f"{shown(text)} is not a size: write one such as 64KiB or 10MB, or bytes")
    size = float(found[1]) * scale if "." in found[1] else int(found[1]) * scale
    if size != int(size):
        raise ValueError(f"{shown(text)} is not a whole number of bytes")
    if not 1 <= size <= LARGEST_BYTES:
        raise ValueError(f"{shown(text)} is out of range: write 1 byte to {LARGEST_BYTES // 2**40}TiB")
    return int(size)


def duration_text(seconds: float) -> str:
    """As `parse_duration_s` reads it: 250ms, 2.5s, 1m30s."""
    if seconds < 1:
        return f"{1000 * seconds:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    rest = round(rest, 3)
    parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{rest:g}s" if rest else "")
    return "".join(parts)


def size_text(count: int) -> str:
    """As `parse_size_bytes` reads it, in the largest unit of which it is a whole number: 64KiB, 10MB, 1000."""
    unit = next((unit for unit in BYTE_UNITS if count % BYTES_PER[unit.lower()] == 0), "")
    return f"{count // BYTES_PER[unit.lower()]}{unit}"


def shown(text: str) -> str:
    """A piece of the file for a message: quoted, escaped and never long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
