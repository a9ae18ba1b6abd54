"""A hash that is the same at every node and in every run, for affinity."""

from hashlib import blake2b


def stable_hash(text: bytes) -> int:
    """64 bits of BLAKE2b without a key. Python's own `hash` of bytes differs in every process."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
