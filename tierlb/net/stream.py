"""A non-blocking socket in the reactor: what is read is handed on, what cannot be written yet is kept.

Subclasses interpret the bytes. They see `on_data`, `on_eof` (the peer will send no more; it may still read),
`on_broken` (reset, timed out), `on_drained` (the backlog is written) and `on_deadline`, never a readiness mask. There
is one deadline at a time; the phase that runs decides what it means.

Backpressure is the pair `backlog` / `pause()`: a forwarder into a stream stops reading its source while the
stream has a backlog, so memory per connection is bounded by one read, which is small where many have one (bulk.py).

Work per turn is bounded by `put_back`: `on_data` gives back the bytes that it did not get to. They count as unread,
come again when the stream has its next turn in the ready queue, and nothing is read from the socket before that.

A stream may speak through a `Layer`, such as TLS (`net.tls_layer`). Its subclass sees and sends what the layer carries.
"""

import errno
from collections import deque

from mypy_extensions import mypyc_attr

from tierlb.net.asked import error_of, has_bytes, reset_at_close
from tierlb.net.bulk import READ_BYTES
from tierlb.net.io import recv, send, shutdown
from tierlb.net.layer import Layer
from tierlb.net.reactor import ERROR, HANGUP, READ, WRITE, Reactor
from tierlb.net.wheel import NEVER, Timed


@mypyc_attr(allow_interpreted_subclasses=True)
class Stream(Timed):
    """One connected (or connecting) stream socket."""

    __slots__ = (
        "backlog",
        "closed",
        "eof",
        "fd",
        "layer",
        "lost",
        "mask",
        "paused",
        "queued",
        "reactor",
        "read_bytes",
        "shut",
        "unread",
    )

    def __init__(self, reactor: Reactor, fd: int) -> None:
        """The descriptor is this stream's from here on; the reactor closes it."""
        self.reactor = reactor
        self.fd = fd
        self.mask = 0
        self.backlog: deque[bytes | memoryview] | None = None
        self.closed = False
        self.eof = False
        self.lost: OSError | None = None
        self.shut = False
        self.paused = False
        self.queued = False
        self.unread = b""
        self.layer: Layer | None = None
        self.read_bytes = READ_BYTES
        self.deadline = NEVER
        self.filed = NEVER

    # What subclasses answer.

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_eof(self) -> None:
        raise NotImplementedError

    def on_broken(self, error: OSError) -> None:
        raise NotImplementedError

    def on_progress(self) -> None:
        """Some of the backlog was written, some is left."""

    def on_drained(self) -> None:
        """The backlog is empty again."""

    def on_secured(self) -> None:
        """The handshake of TLS is over."""

    def on_unsecured(self, data: bytes) -> None:
        """The peer began with these bytes, which are not TLS; there is no layer any more."""
        self.on_broken(OSError(errno.EPROTO, "the peer does not speak TLS"))

    def on_deadline(self) -> None:
        raise NotImplementedError

    # What they call.

    def watch(self, mask: int = READ) -> None:
        """Enter the reactor."""
        self.mask = mask
        self.reactor.add(self.fd, mask, self.on_ready)

    def arm(self, seconds: float) -> None:
        """Set the deadline to so many seconds from now."""
        self.deadline = at = self.reactor.now + seconds
        if at < self.filed:
            self.reactor.wheel.file(self)

    def disarm(self) -> None:
        self.deadline = NEVER

    def send(self, data: bytes | memoryview) -> None:
        """Write now what the kernel takes and keep the rest; never raises (see `on_broken`)."""
        if self.closed:
            return
        if self.layer is not None:
            data = self.layer.sealed(data)
            if not data:
                return
        if self.backlog is not None:
            self.backlog.append(data)
            return
        try:
            sent = send(self.fd, data)
        except OSError as error:
            self._write_failed(error)
            return
        if sent < len(data):
            self.backlog = deque((memoryview(data)[sent:] if sent else data,))
            self.reactor.bulk.begin()
            self._set_mask(self.mask | WRITE)

    def pause(self) -> None:
        """Stop reading until `resume`."""
        if not self.paused and not self.closed:
            self.paused = True
            self._set_mask(self.mask & ~READ)

    def resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            if self.unread or self.end_waits:
                self.reactor.ready.add(self)
            elif not self.eof:
                self._set_mask(self.mask | READ)

    def put_back(self, data: bytes) -> None:
        """Bytes that `on_data` did not get to: it is called with them again when this stream has its next turn."""
        if self.closed or not data:
            return
        self.unread = data + self.unread if self.unread else data
        self.read_bytes = READ_BYTES
        if not self.paused:
            self._set_mask(self.mask & ~READ)
            self.reactor.ready.add(self)

    @property
    def end_waits(self) -> bool:
        """Whether a layer found the end, and that is not reported yet."""
        return self.layer is not None and self.layer.ended and not self.eof

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait in the kernel."""
        return has_bytes(self.fd)

    def shutdown_write(self) -> None:
        """Tell the peer that no more will come. Call it with no backlog, and again `on_drained` if it leaves one."""
        if self.layer is not None:
            self.layer.shut()
            self.send(b"")
            if self.backlog is not None:
                return
        self.shut = True
        try:
            shutdown(self.fd)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def close(self) -> None:
        if not self.closed:
            try:
                if self.layer is not None:
                    self.layer.leave()
            finally:
                self.layer = None  # which refers to the stream: a cycle would be found late
                self.closed = True
                self.queued = False
                self._end_backlog()
                self.unread = b""
                self.reactor.wheel.forget(self)
                self.reactor.bulk.forget(self)
                self.reactor.close(self.fd)

    def reset(self) -> None:
        """Close so that the peer sees an error, not an end: what it has is not all there was to come."""
        if not self.closed:
            reset_at_close(self.fd)
            self.layer = None
            self.close()

    def abort(self) -> None:
        """A handler of this stream failed: drop it as if the peer had reset it."""
        if not self.closed:
            try:
                self.on_broken(OSError(errno.ECONNABORTED, "dropped after an internal error"))
            finally:
                self.close()

    def detach(self) -> int:
        """Give the descriptor away; the stream is over, the descriptor leaves the reactor."""
        if self.mask >= 0:
            self.reactor.remove(self.fd)
        self._end_backlog()
        self.closed = True
        self.queued = False
        self.reactor.wheel.forget(self)
        self.reactor.bulk.forget(self)
        return self.fd

    def take_over(self, previous: "Stream") -> None:
        """Continue on the socket of a stream that ends here, reading; one system call less than detach and watch."""
        self.move_layer(previous)
        previous.closed = True
        previous.queued = False
        self.reactor.wheel.forget(previous)
        self.reactor.bulk.forget(previous)
        self.backlog, previous.backlog = previous.backlog, None
        self.mask = READ if self.backlog is None else READ | WRITE
        self.reactor.replace(self.fd, self.mask, self.on_ready)

    def move_layer(self, previous: "Stream") -> None:
        """Speak through the layer of a stream that ends, if it has one. `Layer.moved` is to follow."""
        self.layer, previous.layer = previous.layer, None
        if self.layer is not None:
            self.layer.move_to(self)

    def take_unsent(self) -> bytes:
        """What waits to be written; with a layer that is what the layer made of it."""
        unsent = b"".join(self.backlog or ())
        self._end_backlog()
        return unsent

    # What the reactor calls.

    def on_ready(self, mask: int) -> None:
        """Nearly every event is one short read; that much is done in one call, the rest in `_ready_for`."""
        if mask != READ or self.paused or self.unread or self.layer is not None:
            self._ready_for(mask)
            return
        try:
            data = recv(self.fd, self.read_bytes)
        except OSError as error:
            self.on_broken(error)
            return
        if data is None:
            return
        if data and len(data) < self.read_bytes:
            self.on_data(data)
        else:
            self._take(data)

    def on_turn(self) -> None:
        """Go on with what was put back; when that is done, read from the socket again."""
        if self.paused or self.closed:
            return  # `resume` queues it again
        data, self.unread = self.unread, b""
        if data:
            self.reactor.unserved.add(self.fd)
            self.on_data(data)
        if not (self.unread or self.paused or self.closed or self.eof):
            if self.end_waits:
                self.take_end()
            elif data:
                self._set_mask(self.mask | READ)

    def _ready_for(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
            if self.closed:
                return
        if mask & READ and not self.paused and not self.unread:
            self._read()
        elif mask & (ERROR | HANGUP) and not self.mask & READ:
            self._hung_up()  # with READ (resumed since the poll) the next poll reports what there is to read as well

    def _read(self) -> None:
        if self.layer is not None:
            self.layer.read()
            return
        try:
            data = recv(self.fd, self.read_bytes)
        except OSError as error:
            self.on_broken(error)
            return
        if data is not None:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Hand on what a read returned; an empty read is the end of what the peer sends."""
        if data:
            if len(data) == self.read_bytes:
                self.reactor.unserved.add(self.fd)
                self.read_bytes = self.reactor.bulk.bytes_for(self)
            self.on_data(data)
        elif self.lost is not None:
            self.on_broken(self.lost)
        else:
            self.take_end()

    def take_end(self) -> None:
        """The peer sends no more."""
        self.eof = True
        self.on_eof()
        if not self.closed:
            self._set_mask(self.mask & ~READ)

    def _hung_up(self) -> None:
        """An error or a full hang-up while we were not reading. What the peer sent before stays readable."""
        code = error_of(self.fd)
        if code:
            self.on_broken(OSError(code, errno.errorcode.get(code, "?")))
        elif self.lost is not None:
            self.on_broken(self.lost)
        elif self.eof and not self.shut:
            self.on_broken(OSError(errno.ECONNRESET, "the peer closed both directions"))
        else:
            self.reactor.remove(self.fd)  # HANGUP cannot be masked: leave the set until reading resumes, if ever
            self.mask = -1

    def _flush(self) -> None:
        backlog = self.backlog
        if backlog is None:
            self._set_mask(self.mask & ~WRITE)
            return
        try:
            while backlog:
                piece = backlog[0]
                sent = send(self.fd, piece)
                if sent < len(piece):
                    backlog[0] = memoryview(piece)[sent:]
                    self.on_progress()
                    return
                backlog.popleft()
        except OSError as error:
            self._write_failed(error)
            return
        self._end_backlog()
        self._set_mask(self.mask & ~WRITE)
        self.on_drained()

    def _end_backlog(self) -> None:
        if self.backlog is not None:
            self.backlog = None
            self.reactor.bulk.end()

    def _write_failed(self, error: OSError) -> None:
        """The peer takes no more. What it sent before it went is still to be read; then the reader reports this.

        Writing uses up the socket's error, so that reading would find a plain end. EPIPE alone is no news: the
        peer's end had come before.
        """
        self._end_backlog()
        if error.errno != errno.EPIPE:
            self.lost = error
        self._set_mask(self.mask & ~WRITE)

    def _set_mask(self, mask: int) -> None:
        if self.mask == -1:
            reads = not (self.paused or self.eof or self.unread)
            mask = (READ if reads else 0) | (WRITE if self.backlog else 0)
            if mask:
                self.mask = mask
                self.reactor.add(self.fd, mask, self.on_ready)
        elif mask != self.mask:
            self.mask = mask
            self.reactor.modify(self.fd, mask)
