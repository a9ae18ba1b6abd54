"""What may be between the socket of a stream and its subclass."""

from mypy_extensions import mypyc_attr

from tierlb.net.wheel import Timed


@mypyc_attr(allow_interpreted_subclasses=True)
class Layer:
    """`ended`: the peer sends no more through it."""

    __slots__ = ("ended",)

    ended: bool

    def move_to(self, stream: Timed) -> None:
        """It is the layer of this stream from here on, which calls `moved` when it can be given bytes."""
        raise NotImplementedError

    def moved(self) -> None:
        """Hand on what the stream before did not get."""
        raise NotImplementedError

    def read(self) -> None:
        """The socket is readable: read, and call the stream's hooks."""
        raise NotImplementedError

    def sealed(self, data: bytes | memoryview) -> bytes:
        """What is to be written for these bytes, of which there may be none: then what the layer itself has to say."""
        raise NotImplementedError

    def shut(self) -> None:
        """No more will be sent."""
        raise NotImplementedError

    def leave(self) -> None:
        """The stream is about to be closed."""
        raise NotImplementedError
