"""What an exchange needs of whatever framed its request: a connection of HTTP/1 (`http1`) or a stream of
HTTP/2 (`http2_stream`).

The exchange hands over a response as values, a head, pieces of the body and the end, without any framing. In the other
direction the downstream takes the request's body apart and hands on plain pieces (`RequestHalf.take`).

Backpressure goes both ways. `pause` and `resume` stop and continue the reading of the request's body. A downstream that
`is_behind` could not write what it was given, and calls `Exchange.on_downstream_drained` when it has.
"""

from mypy_extensions import mypyc_attr

from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.reply import Reply
from tierlb.dataplane.pipe import Pipe
from tierlb.net.layer import Layer
from tierlb.wire.http_fields import Header


class NoRoomForTunnelError(Exception):
    """This node has no descriptors for a tunnel."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Downstream:
    """The side of an exchange that a client is on. `identity`: the client's. `has_left`: it ended its side after having
    waited (`abort`)."""

    __slots__ = ("has_left", "identity")

    has_left: bool
    identity: ClientIdentity

    def serves(self, exchange: object) -> bool:
        """Whether this exchange is still wanted."""
        raise NotImplementedError

    def pause(self) -> None:
        """Read no more of the request's body until `resume`, if some of it is still to come."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def expect(self, seconds: float) -> None:
        """The client is to send more of the body, or to read on if it `is_behind`, within so many seconds: NEVER while
        it owes nothing. When a body is late, `RequestHalf.gets_more_time` decides."""
        raise NotImplementedError

    # The response.

    def pass_interim(self, reply: Reply) -> None:
        """A 1xx response."""
        raise NotImplementedError

    def pass_head(self, reply: Reply, body: bytes, ended: bool, trailers: tuple[Header, ...] = ()) -> None:
        """The head of the final response, with what came of its body. If that `ended`, the exchange is over."""
        raise NotImplementedError

    def pass_body(self, piece: bytes) -> None:
        """A further piece of the body."""
        raise NotImplementedError

    def pass_end(self, piece: bytes, trailers: tuple[Header, ...]) -> None:
        """The last piece of the body, which may be empty. The exchange is over."""
        raise NotImplementedError

    @property
    def is_behind(self) -> bool:
        """Whether the client has yet to read what was passed on."""
        raise NotImplementedError

    @property
    def demands_switch(self) -> bool:
        """Whether a 2xx answer would be taken for a tunnel that is open, so that only a 101 may become one."""
        raise NotImplementedError

    # Other ends of the exchange.

    def answer_error(self, status: int, reason: str, *, retry_after: bool, extra: bytes) -> None:
        """This node answers in the host's place. `extra` holds further complete header lines."""
        raise NotImplementedError

    def refuse(self, status: int, reason: str, extra: bytes = b"") -> None:
        """The request cannot be understood or allowed."""
        raise NotImplementedError

    def cut(self) -> None:
        """The response that has begun breaks off, so that the client does not take what it has for all of it."""
        raise NotImplementedError

    def crash(self, error: Exception) -> None:
        """The exchange ended by an internal error."""
        raise NotImplementedError

    def detach(self) -> tuple[int, bytes, bytes, float, Layer | None]:
        """Give the descriptor away for a tunnel: it, the bytes not sent yet, those that came behind the request, when
        the connection began (below 0: the connection goes on by itself), and the layer that it speaks through. The
        request counts on until the tunnel ends, and the connection that became one. Raises NoRoomForTunnelError, and
        nothing has changed then."""
        raise NotImplementedError

    def on_joined(self, pipe: Pipe) -> None:
        """The tunnel, which begins."""
        raise NotImplementedError

    def on_tunnel_over(self, *, broken: bool) -> None:
        """It is over."""
        raise NotImplementedError
