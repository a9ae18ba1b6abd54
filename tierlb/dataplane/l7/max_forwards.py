"""Max-Forwards (RFC 9110 §7.6.2): how many more hops an OPTIONS or TRACE may take, so that a client can ask a proxy on
the way. At 0 this node answers itself; else it sends one less. For other methods the field means nothing and passes.

A TRACE is answered with the request as it came, without what could hold a secret (RFC 9110 §9.3.8).
"""

from typing import Final

from tierlb.model.topology import Respond
from tierlb.wire.head_values import RequestHead
from tierlb.wire.http_fields import BadHead, read_field

MAX_FORWARDS: Final = b"max-forwards"
METHODS: Final = frozenset({b"OPTIONS", b"TRACE"})
LARGEST: Final = 2**31 - 1
KEPT_BACK: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


class FinalRecipient:
    """The action of a request that may go no further."""

    def answer(self, head: RequestHead) -> Respond:
        """This node's answer in the place of a server."""
        if head.method != b"TRACE":
            return Respond(200)
        lines = [b"TRACE %b HTTP/1.%d" % (head.target, head.minor)]
        lines += [field.line for field in head.fields if field.lower not in KEPT_BACK]
        return Respond(200, b"\r\n".join([*lines, b"", b""]).decode("latin-1"), "message/http")


def forwards_left(head: RequestHead) -> int | None:
    """How many hops the request may still take; None if there is no bound. Raises BadHead."""
    if head.method not in METHODS:
        return None
    values = [field.value for field in head.fields if field.lower == MAX_FORWARDS]
    if not values:
        return None
    if len(set(values)) != 1 or not values[0].isdigit():
        raise BadHead(400, "Max-Forwards is not a number")
    return min(int(values[0][:20]), LARGEST)


def one_hop_less(head: RequestHead, left: int) -> RequestHead:
    """The head to send on; `left` is more than 0."""
    others = tuple(field for field in head.fields if field.lower != MAX_FORWARDS)
    fields = (*others, read_field(b"Max-Forwards: %d" % (left - 1)))
    return RequestHead(head.method, head.target, head.minor, head.block.with_fields(fields, head.host, head.host_name))
