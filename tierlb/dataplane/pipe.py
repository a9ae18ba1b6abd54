"""Two sockets joined: what comes from one goes to the other. The l4 relay and upgraded l7 connections end up here.

Backpressure: an end whose peer has a backlog is not read. Half-close: the end of one direction is passed on
when everything before it has been written, the other direction lives on. Bulk: when an end keeps filling its
read buffer, its direction moves to `splice(2)` through a kernel pipe, so that the bytes no longer visit this
process; the pipe is handed back by the first read that leaves the direction dry. Quiet: an end from which nothing
comes is looked at now and then (`net.peer_liveness`), because a host that is gone leaves its connections as they
were. Bytes from the other end do not count: to a host that is gone they only add to what is sent again.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from tierlb.net import peer_liveness
from tierlb.net.bulk import BULK_READ_BYTES, READ_BYTES
from tierlb.net.io import copy
from tierlb.net.layer import Layer
from tierlb.net.reactor import PEER_ENDED, READ, WRITE, Reactor
from tierlb.net.stream import Stream
from tierlb.net.wheel import NEVER, Timed

SPLICE_BYTES: Final = 1024 * 1024
SPLICE_AFTER_FULL_READS: Final = 4
SPLICES_PER_EVENT: Final = 4
SPARE_PIPES: Final = 32
QUIET_S = 2.0
"""A connection on which something moved this lately counts as in use."""
UNUSED_S = 10.0
"""One on which nothing has moved yet counts as in use for so long: the default of timeouts.head."""

spare_pipes: list[tuple[int, int]] = []
"""Kernel pipes of this process that no direction uses now."""


class Pipe(Timed):
    """The pair of ends, with one idle time for both, which began when something `moved`. `refusal`: why the upstream
    ended TLS before it sent anything: with TLS 1.3 it looks at our certificate after our handshake is over."""

    __slots__ = ("began", "client", "ending", "idle_s", "on_closed", "over", "reactor", "refusal", "upstream")

    def __init__(
        self,
        reactor: Reactor,
        client: int,
        upstream: int,
        idle_s: float,
        on_closed: Callable[["Pipe", bool], None],
    ) -> None:
        self.reactor = reactor
        self.idle_s = idle_s
        self.on_closed = on_closed
        self.over = self.ending = False
        self.refusal = ""
        self.began = reactor.now
        self.deadline = self.filed = NEVER
        self.client = End(self, client)
        self.upstream = End(self, upstream)
        self.client.peer = self.upstream
        self.upstream.peer = self.client

    def speak_through(self, end: "End", layer: Layer, unsent: bytes) -> None:
        """Before `start`: one end goes on with the layer of the stream before it, which left this `unsent`."""
        end.watch()
        if unsent:
            end.send(unsent)
        layer.move_to(end)
        end.layer = layer

    def start(self, to_client: bytes = b"", to_upstream: bytes = b"") -> None:
        """Join the sockets; the bytes given are delivered first. An end that took over a stream is watched already."""
        client, upstream = self.client, self.upstream
        client.is_plain = upstream.is_plain = client.layer is None and upstream.layer is None
        for end in (client, upstream):
            if not end.mask:
                end.watch(READ | PEER_ENDED)
        self._wait(peer_liveness.LOOK_S)
        if to_client:
            upstream.on_data(to_client)
        if to_upstream:
            client.on_data(to_upstream)
        for end in (client, upstream) if not client.is_plain else ():
            if end.layer is not None and not self.over:
                end.layer.moved()

    def end_soon(self) -> None:
        """The node drains: the upstream's end is enough from now on, the client's is not waited for."""
        self.ending = True
        if self.has_ended:
            self.finish(broken=False)

    @property
    def has_ended(self) -> bool:
        """Nothing more will come, and what came is delivered."""
        client, upstream = self.client, self.upstream
        ended = upstream.eof and (client.eof or self.ending)
        return ended and client.backlog is None and upstream.backlog is None

    @property
    def moved(self) -> float:
        """When something moved last, or when the pipe began: the idle time runs from then on."""
        return max(self.began, max(self.client.moved, self.upstream.moved))

    def moves(self) -> tuple[float, float]:
        """When something came last from the client and from the host."""
        return self.client.moved, self.upstream.moved

    @property
    def is_unused(self) -> bool:
        """Nothing has come from either end so far."""
        return not (self.client.carried or self.upstream.carried)

    def idle_since(self, now: float) -> float:
        """Since when nothing has moved; NEVER if that is not long enough to count as idle."""
        if self.over:
            return NEVER
        return self.moved if now - self.moved >= (UNUSED_S if self.is_unused else QUIET_S) else NEVER

    def give_way(self) -> bool:
        """Close both sides, for the node is full; false if the client seems to wait for an answer, or just asks."""
        if self.is_unused and self.client.has_unread:
            return False
        if self.client.carried and not (self.upstream.carried and peer_liveness.has_answered(self.client.fd)):
            return False
        self.finish(broken=False)
        return True

    def on_deadline(self) -> None:
        """Idle for too long, or a look is due."""
        now = self.reactor.now
        if now >= self.moved + self.idle_s:
            self.finish(broken=True)
        else:
            self._look(now)

    def _look(self, now: float) -> None:
        quiet_in_s = self.moved + peer_liveness.LOOK_S - now
        again_s = quiet_in_s if quiet_in_s > 0 else peer_liveness.LOOK_S
        for end in (self.client, self.upstream):
            next_s = end.next_look_s(now, quiet_in_s)
            if next_s == peer_liveness.GONE:
                end.on_broken(peer_liveness.vanished())
                return
            again_s = min(again_s, next_s)
        self._wait(now - self.moved + again_s)

    def _wait(self, quiet_s: float) -> None:
        """Wake up when nothing has moved for so long, at the latest at the end of the idle time."""
        self.deadline = self.moved + min(quiet_s, self.idle_s)
        self.reactor.wheel.file(self)

    def finish(self, *, broken: bool) -> None:
        """Close both sockets; if one `broken`, so that neither peer takes the cut for an end."""
        if self.over:
            return
        self.over = True
        self.reactor.wheel.forget(self)
        for end in (self.client, self.upstream):
            try:
                if broken:
                    end.reset()
                else:
                    end.close()
            except Exception as error:  # the other end and the counts are to be cleared up all the same
                self.reactor.report(error)
                Stream.close(end)
        self.on_closed(self, broken)
        for end in (self.client, self.upstream):
            del end.peer, end.pipe  # no cycle of objects is left: all is freed at once

    def abort(self) -> None:
        """A handler failed."""
        self.finish(broken=True)


class End(Stream):
    """One socket of a pipe; `carried` counts the bytes read from it, `moved` is when such a byte was last read or
    passed on, 0 before the first.

    `kernel` is the kernel pipe of a direction in bulk, with `held` bytes in it. `noted` is what was carried at the last
    look, `doubted` since when every look found the host gone. `is_plain`: neither end has a layer, so that bytes need
    not be seen here.
    """

    __slots__ = ("carried", "doubted", "full_reads", "held", "is_plain", "kernel", "moved", "noted", "peer", "pipe")
    __deletable__ = ("peer", "pipe")

    peer: "End"

    def __init__(self, pipe: Pipe, fd: int) -> None:
        super().__init__(pipe.reactor, fd)
        self.pipe = pipe
        self.carried = 0
        self.moved = 0.0
        self.doubted = NEVER
        self.noted = self.full_reads = self.held = 0
        self.kernel: tuple[int, int] | None = None
        self.is_plain = True

    def on_ready(self, mask: int) -> None:
        """Nearly every event in one call: read a little, write all of it, and see the end, if that has come too. What
        is not so simple goes the long way."""
        peer = self.peer
        is_simple = mask & ~PEER_ENDED == READ and self.read_bytes == READ_BYTES
        if not is_simple or peer.backlog is not None or self.kernel is not None:
            self._ready_for(mask)
            return
        if not self.is_plain:
            Stream.on_ready(self, mask)
            return
        for _ in range(2 if mask & PEER_ENDED else 1):
            try:
                copied = copy(self.fd, peer.fd, READ_BYTES)
            except OSError as error:
                self.on_broken(error)
                return
            if not (isinstance(copied, int) and 0 < copied < READ_BYTES):
                break
            self.carried += copied
            self.moved = self.reactor.now
        else:
            return
        if copied == 0:
            self._take(b"")
        elif copied is not None:
            self._copied(copied)

    def _copied(self, copied: int | tuple[int, bytes, int]) -> None:
        """The read was filled, or the peer did not take all of it."""
        size, rest, code = (copied, b"", 0) if isinstance(copied, int) else copied
        self.carried += size
        self.moved = self.reactor.now
        if size == READ_BYTES:
            self.reactor.unserved.add(self.fd)
            self.read_bytes = self.reactor.bulk.bytes_for(self)
        peer = self.peer
        if code:
            peer._write_failed(OSError(code, os.strerror(code)))
        elif rest:
            peer.send(rest)
            if peer.backlog is not None:
                self.pause()

    def on_data(self, data: bytes) -> None:
        peer = self.peer
        self.moved = self.reactor.now
        self.carried += len(data)
        peer.send(data)
        if peer.backlog is not None:
            self.pause()
        if len(data) >= BULK_READ_BYTES // 2:
            self.reactor.bulk.moved += len(data)
            self.full_reads += 1
        else:
            self.full_reads = 0

    def on_eof(self) -> None:
        """It is passed on when the batch is over. Most clients close with the last byte, too: then both are closed."""
        if self.pipe.has_ended:
            self.pipe.finish(broken=False)
        else:
            self.reactor.ready.add(self)

    def on_turn(self) -> None:
        """Pass on the end, unless the other side has ended by now."""
        if not self.eof:
            super().on_turn()
            return
        peer = self.peer
        if peer.mask & READ and not peer.eof:
            peer.on_ready(READ)
            if self.closed:
                return
        self._set_mask(self.mask & ~READ)
        if peer.backlog is None and not peer.shut:
            self._pass_on_eof()

    def on_drained(self) -> None:
        """This end caught up: its peer may go on, or its end may be passed on at last."""
        peer = self.peer
        if self.pipe.has_ended:
            self.pipe.finish(broken=False)
        elif peer.eof:
            peer._pass_on_eof()
        else:
            peer.resume()

    def on_broken(self, error: OSError) -> None:
        if error.errno == errno.EPROTO and self is self.pipe.upstream and not self.carried:
            self.pipe.refusal = str(error.strerror)
        self.pipe.finish(broken=True)

    def next_look_s(self, now: float, quiet_in_s: float) -> float:
        """As `peer_liveness.next_look_s`, for a pipe in which nothing will have moved for LOOK_S in so long. One from
        which something came since the last look is spared this one, unless all is quiet."""
        active = self.carried != self.noted
        self.noted = self.carried
        next_s = peer_liveness.LOOK_S if active and quiet_in_s > 0 else self.reactor.next_look_s(self.fd)
        next_s, self.doubted = peer_liveness.confirm(next_s, now, self.pipe.moved, self.doubted)
        return next_s

    def close(self) -> None:
        self._return_kernel_pipe()
        super().close()

    def _pass_on_eof(self) -> None:
        self.peer.shutdown_write()

    def take_end(self) -> None:
        if not self.eof:  # it stays watched until its turn, and may be found again before that
            self.eof = True
            self.on_eof()

    def _set_mask(self, mask: int) -> None:
        super()._set_mask(mask | PEER_ENDED if mask & READ else mask & ~PEER_ENDED)

    # Bulk.

    def _read(self) -> None:
        if self.kernel is not None or (self.full_reads >= SPLICE_AFTER_FULL_READS and self._borrow_kernel_pipe()):
            self._splice()
        else:
            super()._read()

    def _splice(self) -> None:
        assert self.kernel is not None
        _, into = self.kernel
        for _ in range(SPLICES_PER_EVENT):
            try:
                moved = os.splice(self.fd, into, SPLICE_BYTES, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
            except BlockingIOError:
                self._leave_bulk()
                return
            except OSError as error:
                self.on_broken(error)
                return
            if moved == 0:
                self._leave_bulk()
                self._take(b"")
                return
            self.held += moved
            self.moved = self.reactor.now
            self.carried += moved
            self.reactor.bulk.moved += moved
            if not self._empty_into_peer():
                return

    def _empty_into_peer(self) -> bool:
        """Move what the kernel pipe holds to the peer; false if some is left (then we stop reading)."""
        assert self.kernel is not None
        out_of, _ = self.kernel
        try:
            while self.held:
                self.held -= os.splice(out_of, self.peer.fd, self.held, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        except BlockingIOError:
            self.pause()
            self.peer._set_mask(self.peer.mask | WRITE)
            return False
        except OSError as error:
            self._leave_bulk()
            self.peer._write_failed(error)
            return False
        return True

    def _flush(self) -> None:
        source = self.peer
        if source.held:
            if source._empty_into_peer():
                self._set_mask(self.mask & ~WRITE)
                source.moved = self.reactor.now
                source.resume()
        else:
            source.moved = self.reactor.now
            super()._flush()

    def _borrow_kernel_pipe(self) -> bool:
        if self.peer.backlog is not None or not self.is_plain:
            return False
        try:
            self.kernel = spare_pipes.pop() if spare_pipes else os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # out of descriptors: copying still works
            self.full_reads = 0
            return False
        return True

    def _leave_bulk(self) -> None:
        self.full_reads = 0
        self._return_kernel_pipe()

    def _return_kernel_pipe(self) -> None:
        if self.kernel is None:
            return
        if self.held or len(spare_pipes) >= SPARE_PIPES:
            os.close(self.kernel[0])
            os.close(self.kernel[1])
        else:
            spare_pipes.append(self.kernel)
        self.kernel = None
        self.held = 0
