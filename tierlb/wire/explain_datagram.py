"""The datagram of `tierlb explain` for tiers over UDP: a nonce, then a line for each choice that nodes made for it.

It passes the tiers as a new client's first datagram does. Each node adds how it chose and sends it on to the node that
it chose; one that chose an endpoint, or found no host, sends it back instead. So no endpoint gets it.
"""

from collections.abc import Sequence

START = b"tierlb-explain "
MOST_TOLD_BYTES = 60_000
"""With all its lines. Further ones are left out, since a datagram cannot be longer than 65,507 bytes."""


def explain_question(nonce: str) -> bytes:
    """What is sent to the first tier."""
    return START + nonce.encode() + b"\n"


def nonce_in(datagram: bytes) -> bytes | None:
    """The nonce, if it is such a datagram."""
    return datagram[len(START) :].partition(b"\n")[0] if datagram.startswith(START) else None


def with_choice(datagram: bytes, line: bytes) -> bytes:
    """With one more line."""
    return datagram + line + b"\n" if len(datagram) + len(line) < MOST_TOLD_BYTES else datagram


def choices_in(datagram: bytes, nonce: str) -> Sequence[str] | None:
    """The lines, from the first tier down; None for anything but an answer to the question with this nonce."""
    if nonce_in(datagram) != nonce.encode():
        return None
    return [line.decode("ascii", "replace") for line in datagram.split(b"\n")[1:] if line]
