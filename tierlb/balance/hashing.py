"""A hash that every node and every run agrees on: what affinity goes by."""

from hashlib import blake2b


def stable_hash(text: bytes) -> int:
    """64 bits of BLAKE2b, keyed by nothing. Python's own `hash` of bytes is different in every process."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
