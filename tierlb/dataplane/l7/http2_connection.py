"""A client's connection over HTTP/2: the socket under a session, its deadlines, and how it ends."""

import errno
from collections.abc import Sequence
from typing import Final

from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.client_stream import SILENT_S, ClientStream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.http2_farewell import FarewellStage
from tierlb.dataplane.l7.http2_session import Http2Session
from tierlb.dataplane.l7.lifetime import count_end
from tierlb.dataplane.l7.relocation import Candidate
from tierlb.model.topology import ClientAbort
from tierlb.net.wheel import NEVER
from tierlb.wire.http2_frames import INTERNAL_FAILURE, NO_ERROR, BadConnection, goaway_frame

MOST_REPLIES: Final = 64 * 1024
"""Of frames that answer others, such as acknowledgements, for a client that does not read: then it is not read
either."""


class Http2Connection(ClientStream):
    """It takes over the socket and the lifetime of a connection over HTTP/1 on which HTTP/2 begins.
    `idle_at`: since when there is no stream, NEVER while there is one. `busy_at`: the reverse. `_in_head`: the client
    owes the rest of its preface or of a header block. `_behind`: bytes that were written while others had not been
    taken."""

    __slots__ = ("_behind", "_clients", "_identity", "_in_head", "busy_at", "idle_at", "session")

    def __init__(self, previous: ClientStream, clients: set[ClientStream]) -> None:
        super().__init__(previous.front, previous.fd, previous.lifetime)
        self._identity = previous.identity
        self._in_head = True
        self._behind = 0
        self._clients = clients
        self.idle_at = self.reactor.now
        self.busy_at = NEVER
        self.session = Http2Session(self)  # before the socket is taken, so that the previous one ends if this fails
        self.take_over(previous)
        clients.discard(previous)
        clients.add(self)
        self.arm(self.front.config.timeouts.head)
        if self.lifetime.expires < NEVER:
            self.end_within(max(0.0, self.lifetime.expires - self.reactor.now))

    @property
    def identity(self) -> ClientIdentity:
        return self._identity

    def under_way(self) -> Sequence[Exchange]:
        return self.session.under_way()

    def candidate(self) -> Candidate:
        now, lifetime = self.reactor.now, self.lifetime
        waits = any(exchange.ticket is not None and exchange.ticket.is_queued for exchange in self.session.unanswered())
        return Candidate(lifetime, waits, lifetime.activity(now, 0.0 if self.busy_at == NEVER else now - self.busy_at))

    # Reading and writing.

    def on_data(self, data: bytes) -> None:
        self.front.counters.bytes_in += len(data)
        if self.lingering:
            return
        session = self.session
        try:
            rest = session.receive(data)
        except BadConnection as error:
            self._fail(error)
            return
        in_head = session.in_head
        if in_head != self._in_head:
            self._in_head = in_head
            if in_head:
                self.arm(self.front.config.timeouts.head)
            else:
                self._settle()
        if rest:
            self.front.counters.bytes_in -= len(rest)
            self.put_back(rest)

    def on_turn(self) -> None:
        if (self.unread or self.end_waits) and not self.lingering:
            super().on_turn()
        if self.closed or self.lingering:
            return
        session = self.session
        try:
            session.turn()
        except BadConnection as error:
            self._fail(error)
            return
        self._count_written()
        if self.backlog is not None:
            if self.deadline == NEVER:
                self.arm(self.front.config.timeouts.stream)
        elif not session.streams and (self.eof or session.farewell.stage is FarewellStage.LEAVING):
            self.finish(linger=True)

    def _count_written(self) -> None:
        output = self.session.output
        written, output.written = output.written, 0
        self.front.counters.bytes_out += written
        if self.backlog is not None:
            self._behind += written
            if self._behind > MOST_REPLIES:
                self.pause()

    def on_busy(self) -> None:
        """The first of its streams began."""
        self.busy_at, self.idle_at = self.reactor.now, NEVER
        if self.backlog is None:
            self.disarm()

    def on_idle(self) -> None:
        """The last of its streams is over."""
        now = self.reactor.now
        self.lifetime.waited_s += now - self.busy_at
        self.busy_at, self.idle_at = NEVER, now
        if self.closed:
            return
        self._settle()
        if self.eof or self.session.farewell.stage is FarewellStage.LEAVING:
            self.reactor.ready.add(self)

    def _settle(self) -> None:
        """Set the deadline for a client that owes neither a header block nor its reading."""
        if self.backlog is not None or self._in_head or self.lingering:
            return
        if self.session.streams:
            self.disarm()
        else:
            self.arm(self.front.config.timeouts.idle)

    # What the stream reports.

    def on_eof(self) -> None:
        """Without a sending side a client of HTTP/2 gets no further than its windows."""
        if self.lingering:
            self.close()
            return
        if self.front.config.snapshot.client_abort is ClientAbort.FINISH:
            self.session.lose_all()
        else:
            self.session.abandon()
        if not self.session.streams:
            self.close()

    def on_broken(self, error: OSError) -> None:
        self.session.abandon()
        self.close()

    def on_drained(self) -> None:
        self._behind = 0
        if self.lingering:
            self.linger_on()
            return
        self.disarm()
        self._settle()
        self.resume()
        self.session.output.pump()
        self.reactor.ready.add(self)

    def on_deadline(self) -> None:
        if self.lingering:
            self.close()
        elif self.backlog is not None:
            self.on_broken(OSError(errno.ETIMEDOUT, "the client stalled"))
        elif self._in_head:
            self._fail(BadConnection(NO_ERROR, "the preface or a header block did not arrive in time"))
        else:
            self._say_goodbye(NO_ERROR)
            self.finish(linger=True)

    # The end.

    def _fail(self, error: BadConnection) -> None:
        """The client broke the protocol."""
        self.front.counters.rejected += 1
        self.session.abandon()
        self.session.reader.forget()
        self._say_goodbye(error.code, error.reason)
        if not self.closed:
            self.unread = b""
            self.finish(linger=True)

    def _say_goodbye(self, code: int, reason: str = "") -> None:
        session = self.session
        session.output.write(goaway_frame(session.last_id, code, reason))
        session.output.flush()
        self._count_written()

    def idle_since(self, now: float) -> float:
        if self.queued or self.lingering or self.backlog is not None or self.session.streams:
            return NEVER
        if self._in_head:
            began = self.lifetime.began
            return began if now - began >= SILENT_S else NEVER
        return self.idle_at

    def give_way(self) -> bool:
        if self.has_unread:
            return False
        self._say_goodbye(NO_ERROR)
        self.close()
        return True

    def end_within(self, seconds: float) -> None:
        lifetime = self.lifetime
        lifetime.expires = min(lifetime.expires, self.reactor.now + seconds)
        self.session.farewell.begin_within(seconds)

    def cut(self) -> None:
        if self.lingering:
            self.close()
            return
        self.session.cut()
        self._say_goodbye(NO_ERROR)
        if not self.closed:
            self.finish(linger=True)

    def abort(self) -> None:
        """A handler failed."""
        if self.closed:
            return
        try:
            self.front.counters.errors += len(self.under_way())
            self.session.abandon()
            self._say_goodbye(INTERNAL_FAILURE)
        finally:
            self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.session.abandon()
        self.session.reader.forget()
        try:
            super().close()
        finally:
            count_end(self.front.counters, self._identity, self.reactor.now - self.lifetime.began)
            self.front.relocation.forget(self.lifetime)
            self._clients.discard(self)
