"""WebSocket over HTTP/2 (RFC 8441): one stream of a client, joined with the tunnel to an endpoint of HTTP/1.1.

A tunnel joins two sockets (`tunnels`, `pipe`). A stream has none of its own, so it gets a pair of sockets of this
process: the pipe has one end, and the other one is here. So tunnels of streams wait, idle, drain and end as all others
do, and what one side sends ahead is bounded by the buffers of the pair and the window of the stream. The end of each
direction passes by itself; a tunnel that breaks resets the stream, and a stream that is reset breaks the tunnel.
"""

import socket
from typing import Final

from tierlb.dataplane.l7.downstream import NoRoomForTunnelError
from tierlb.dataplane.l7.http2_owner import StreamOwner
from tierlb.dataplane.l7.http2_upload import UploadingStream
from tierlb.dataplane.pipe import Pipe
from tierlb.net.layer import Layer
from tierlb.net.reactor import Reactor
from tierlb.net.stream import Stream
from tierlb.net.wheel import NEVER
from tierlb.wire.http2_frames import CANCEL, NO_ERROR, PROTOCOL_ERROR
from tierlb.wire.http2_head import MalformedError, tunnel_block
from tierlb.wire.http2_states import CLOSED, HALF_LOCAL

HEAD_END: Final = b"\r\n\r\n"


class TunnelEnd(Stream):
    """`owed`: bytes of the client for which it gets credit when the pipe has taken them. `is_open`: the head of the
    response was passed on, of which `head` came before. `ends`: the client sends no more. `over`: the pipe is."""

    __slots__ = ("ends", "head", "is_open", "over", "owed", "pipe", "stream")

    def __init__(self, reactor: Reactor, fd: int, stream: UploadingStream) -> None:
        super().__init__(reactor, fd)
        self.stream = stream
        self.pipe: Pipe | None = None
        self.head = b""
        self.is_open = self.ends = self.over = False
        self.owed = 0
        self.watch()

    # What the stream does.

    def take(self, piece: bytes, *, ended: bool) -> None:
        """What came of the client."""
        if piece:
            self.owed += len(piece)
            self.send(piece)
        self.ends = self.ends or ended
        if self.backlog is None:
            self._caught_up()

    def end(self) -> None:
        """The stream is over. That is orderly if both sides have ended."""
        if not (self.eof and self.shut) and self.pipe is not None:
            self.pipe.finish(broken=True)
        self.close()

    # What the stream of bytes reports.

    def on_data(self, data: bytes) -> None:
        stream = self.stream
        if not self.is_open:
            lines, found, data = (self.head + data).partition(HEAD_END)
            if not found:
                self.head = lines
                return
            self.is_open = True
            try:
                block = tunnel_block(lines)
            except MalformedError:
                stream.owner.reset(stream, PROTOCOL_ERROR)
                return
            stream.owner.output.write_head(stream, block, ended=False)
        if data:
            stream.owner.output.send(stream, data, ended=False)
            if stream.is_behind:
                self.pause()

    def on_eof(self) -> None:
        stream = self.stream
        if self.is_open:
            stream.owner.output.send(stream, b"", ended=True)
        else:
            stream.owner.reset(stream, CANCEL)

    def on_drained(self) -> None:
        self._caught_up()

    def _caught_up(self) -> None:
        """The pipe has all that came of the client."""
        stream = self.stream
        owed, self.owed = self.owed, 0
        if owed:
            stream.owner.give_credit(stream, owed)
        if self.ends and not self.shut:
            self.shutdown_write()
            if stream.state is CLOSED:
                stream.owner.close(stream)

    def on_broken(self, error: OSError) -> None:
        self.stream.owner.reset(self.stream, CANCEL)
        self.close()

    def on_deadline(self) -> None:
        """The pipe has the deadlines."""


class TunnelledStream(UploadingStream):
    """The part of a stream that may become a tunnel. `is_tunnel`: its request is an extended CONNECT. `tunnel`: from
    when the endpoint has switched protocols."""

    __slots__ = ("is_tunnel", "tunnel")

    def __init__(self, owner: StreamOwner, stream_id: int, window: int) -> None:
        super().__init__(owner, stream_id, window)
        self.is_tunnel = False
        self.tunnel: TunnelEnd | None = None

    @property
    def demands_switch(self) -> bool:
        return self.is_tunnel

    def _take(self, piece: bytes) -> None:
        tunnel = self.tunnel
        if tunnel is not None:
            tunnel.take(piece, ended=self.has_ended)
        elif self.is_tunnel and self.exchange is not None:  # it is held until there is a tunnel
            if piece:
                self._held.append(piece)
                self._held_bytes += len(piece)
        else:
            super()._take(piece)

    def _give_credit(self, count: int) -> None:
        if self.tunnel is not None and count:
            self.owner.give_credit(self, count)
        else:
            super()._give_credit(count)

    def on_sent_some(self) -> None:
        """A tunnel has the deadlines of its pipe, and after the pipe's end those of a stream."""
        if self.tunnel is None or self.tunnel.over:
            super().on_sent_some()

    def detach(self) -> tuple[int, bytes, bytes, float, Layer | None]:
        reactor = self.owner.connection.reactor
        ahead = b"".join(self._held)
        try:
            fd, self.tunnel = tunnel_for(reactor, self)
        except OSError as error:
            raise NoRoomForTunnelError from error
        self.exchange = None  # its place in the tally is the tunnel's now
        self.expect(NEVER)
        self.release()
        return fd, b"", ahead, -1.0, None

    def on_joined(self, pipe: Pipe) -> None:
        tunnel = self.tunnel
        assert tunnel is not None
        tunnel.pipe = pipe
        if self.has_ended:
            tunnel.take(b"", ended=True)

    def on_tunnel_over(self, *, broken: bool) -> None:
        tunnel = self.tunnel
        if tunnel is None:
            return
        tunnel.over = True
        if broken:
            self.cut()
        elif self.state is HALF_LOCAL:
            self.owner.reset(self, NO_ERROR)
        else:
            self._await_progress()

    def go_on(self) -> None:
        if self.tunnel is not None and self.tunnel.over:
            self._await_progress()
        super().go_on()

    def _await_progress(self) -> None:
        """The pipe is over, and the client is still to read what it carried."""
        self.expect(self.owner.connection.front.config.timeouts.stream)


def tunnel_for(reactor: Reactor, stream: UploadingStream) -> tuple[int, TunnelEnd]:
    """The descriptor for the pipe, and this end. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    return theirs.detach(), TunnelEnd(reactor, ours.detach(), stream)
