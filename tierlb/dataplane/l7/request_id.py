"""The id of a request in answers and log lines, where a trusted peer may have chosen it."""

MOST_CHARS = 128
"""Ids in use have 16 to 64; a longer one would fill the log."""


def printable_id(value: bytes) -> str:
    """The id as text of one line: what is no visible ASCII becomes a question mark."""
    return "".join(chr(byte) if 33 <= byte <= 126 else "?" for byte in value[:MOST_CHARS])
