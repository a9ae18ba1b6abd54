"""The connection of a client over HTTP/2, as its streams see it."""

from mypy_extensions import mypyc_attr

from tierlb.dataplane.l7.client_stream import ClientStream
from tierlb.dataplane.l7.http2_output import Output, SendingStream
from tierlb.wire.http2_reader import FrameTaker


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamOwner(FrameTaker):
    """Each method is called by a stream of it."""

    __slots__ = ("connection", "output")

    connection: ClientStream
    output: Output

    def resume(self, stream: SendingStream) -> None:
        """Call `go_on` of the stream in the next turn."""
        raise NotImplementedError

    def give_credit(self, stream: SendingStream, count: int) -> None:
        """So much of the body that came on this stream is passed on, or thrown away."""
        raise NotImplementedError

    def give_back(self, count: int) -> None:
        """So much of DATA was dealt with, of which the stream gets no credit."""
        raise NotImplementedError

    def close(self, stream: SendingStream) -> None:
        """The stream is over, in both directions, with its exchange."""
        raise NotImplementedError

    def reset(self, stream: SendingStream, code: int) -> None:
        """End the stream with RST_STREAM, unless it is over."""
        raise NotImplementedError

    def on_answered(self) -> None:
        """A response was handed over whole."""
        raise NotImplementedError

    def part(self) -> None:
        """Take no further streams, and end with those that there are."""
        raise NotImplementedError
