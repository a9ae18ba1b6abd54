"""Long requests as values: how an endpoint serves one, and how its client behaves.

The request carries its own description in a `work` header (JSON), so that every contender passes on the same work
and nothing but the header differs where all kinds share one path. `work: d=1.25` is a short request of that demand,
`work: other d=1.25` is one that is not counted among the short ones.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import attrs

SHORT = re.compile(rb"\r\nwork: (other )?d=([0-9.]+)", re.IGNORECASE)
LONG = re.compile(rb"\r\nwork: (\{.*?\})(?:\r\n|$)", re.IGNORECASE)
HOLDERS = 2
"""The first so many endpoints take `first_s` for an item that has `elsewhere_s`; the others take that."""


@attrs.frozen
class Item:
    """One long request. Times at the endpoint are multiplied by the factor of the endpoint's phase."""

    first_s: float = 0.0
    """From the request (or from the end of its body) to the answer's head."""
    elsewhere_s: float | None = None
    """Instead of `first_s`, at all but the HOLDERS."""
    pieces: int = 0
    """Chunks of the answer's body after its head; without any the answer is `ok` with a length."""
    every_s: float = 0.0
    """Between two pieces."""
    piece_bytes: int = 64
    bulk_bytes: int = 0
    """The answer's body has this length and is sent as fast as it is taken."""
    slot: bool = False
    """The item queues for a slot and occupies it until its last piece."""
    read_per_s: int = 0
    """Bytes per second that the client reads; 0 is as fast as they come."""
    send_bytes: int = 0
    """Length of the request's body."""
    send_per_s: int = 0
    """Bytes per second of it that the client sends; needed with `send_bytes`."""
    messages: int = 0
    """The body is chunked and has so many messages; the endpoint sends back each one as a chunk of the answer."""
    message_bytes: int = 64
    message_s: float = 0.5
    """Between two messages."""

    @property
    def has_body(self) -> bool:
        """Whether the request needs a method that may carry one."""
        return bool(self.send_bytes or self.messages)

    def head_s(self, endpoint: int) -> float:
        """From the request to the answer's head at the endpoint of that number."""
        return self.first_s if self.elsewhere_s is None or endpoint < HOLDERS else self.elsewhere_s

    def whole_s(self, endpoint: int) -> float:
        """From the request to the answer's end as far as the endpoint decides."""
        return self.head_s(endpoint) + self.pieces * self.every_s


@attrs.frozen
class Guest:
    """A client that arrives at `at_s` and sends its items one after the other, again and again, on one connection."""

    at_s: float
    items: tuple[Item, ...]
    path: str = "/"
    method: str = "GET"


def request_head(guest: Guest, item: Item) -> bytes:
    """What the client sends before the request's body."""
    body = ""
    if item.messages:
        body = "Transfer-Encoding: chunked\r\n"
    elif guest.method != "GET":
        body = f"Content-Length: {item.send_bytes}\r\n"
    return f"{guest.method} {guest.path} HTTP/1.1\r\nHost: shop.test\r\n{body}work: {told(item)}\r\n\r\n".encode()


def told(item: Item) -> str:
    """The header's value: what differs from an Item() as JSON."""
    plain = attrs.asdict(Item())
    return json.dumps({name: value for name, value in attrs.asdict(item).items() if value != plain[name]})


def item_in(head: bytes) -> Item | None:
    """The long request that a request's head describes. Raises ValueError or TypeError if it is malformed."""
    found = LONG.search(head)
    return None if found is None else Item(**json.loads(found[1]))


def dump(guests: Sequence[Guest]) -> list[dict[str, Any]]:
    """Guests as JSON values."""
    return [attrs.asdict(each) for each in guests]


def read_guests(written: Sequence[dict[str, Any]]) -> tuple[Guest, ...]:
    """What `dump` wrote."""
    return tuple(Guest(**{**each, "items": tuple(Item(**one) for one in each["items"])}) for each in written)
