"""TLS on one stream: what comes is decrypted before the stream's owner sees it, and what is sent is encrypted.

An `ssl.SSLObject` works between two MemoryBIOs. So a stream reads once, whatever number of records that brings, and
writes once what they are answered with. Records that are whole are read without an exception: only the part of one at
the end of a read raises SSLWantReadError.

A step of a handshake takes as long as ten requests or more. So each waits in a queue of its own (`Reactor.handshakes`),
of which a turn serves for a millisecond, and a storm of them does not hold up kept connections.

Left out: renegotiation and early data, which contexts do not allow (`net.tls`), and kernel TLS, which needs a module of
the kernel, and OpenSSL 3.2 for TLS 1.3 in both directions.
"""

import errno
import ssl
from typing import Any, Final

from tierlb.net.bulk import READ_BYTES
from tierlb.net.client_tls import handshake_reason
from tierlb.net.io import recv
from tierlb.net.layer import Layer
from tierlb.net.stream import Stream
from tierlb.net.wheel import Timed

RECORD_BYTES: Final = 16 * 1024
"""What a record holds at most (RFC 8446 §5.1)."""
MOST_READ_BYTES: Final = 64 * 1024
"""Read at once at most. As records of one byte each that takes some 3 ms."""
SMALL_BYTES: Final = 256
"""Of bytes in a record on average. After a read of smaller ones the next read is short."""
MOST_HANDSHAKE_BYTES: Final = 128 * 1024
"""That wait for a turn of the handshake. A chain of client certificates takes a tenth of this."""
MOST_UNASKED_BYTES: Final = 16 * 1024
"""Answers of TLS itself, as to updates of keys, that wait because the peer does not read."""
HANDSHAKE_RECORD: Final = 0x16
"""The first byte of a client that speaks TLS."""


class TlsLayer(Layer):
    """`established`: the handshake is over. `server_name`: what the client asked for. `is_broken`: nothing can be said
    to the peer any more."""

    __slots__ = (
        "_begun",
        "_incoming",
        "_is_server",
        "_outgoing",
        "_tls",
        "_unasked",
        "established",
        "is_broken",
        "queued",
        "server_name",
        "stream",
    )

    def __init__(self, stream: Stream, context: ssl.SSLContext, *, is_server: bool, host: str | None = None) -> None:
        """`host`: what the certificate of a server is to be for."""
        self.stream = stream
        self.ended = False
        self.established = False
        self.is_broken = False
        self.queued = False
        self.server_name: str | None = None
        self._is_server = is_server
        self._begun = False
        self._unasked = 0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server, server_hostname=host)

    @property
    def alpn(self) -> str | None:
        """The application protocol that both ends agreed on; None where one of them named none."""
        return self._tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> bytes | None:
        """That of the peer in DER form, if it showed one."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def peer_fields(self) -> dict[str, Any]:
        """Its fields, as `ssl.SSLSocket.getpeercert` has them."""
        return self._tls.getpeercert() or {}

    def begin(self, first: bytes = b"") -> None:
        """The stream speaks TLS from here on. `first`: what came of it already."""
        self.stream.layer = self
        if first:
            self._take(first)
        elif not self._is_server:
            self._wait_for_turn()

    # What the stream calls.

    def read(self) -> None:
        stream = self.stream
        try:
            data = recv(stream.fd, min(stream.read_bytes, MOST_READ_BYTES))
        except OSError as error:
            self._broken(error)
            return
        if data:
            self._take(data)
        elif data is not None and not self.ended:
            reason = "the connection ended without a close_notify" if self.established else "it ended in its handshake"
            self._broken(stream.lost or OSError(errno.ECONNRESET, reason))

    def sealed(self, data: bytes | memoryview) -> bytes:
        """Records that hold these bytes, behind what TLS itself has to say. Nothing can be sent before the handshake is
        over."""
        if data and self.established and not self.is_broken:
            write, size = self._tls.write, len(data)
            try:
                sent = write(data)
                if sent < size:  # it writes one record at a time
                    view = memoryview(data)
                    while sent < size:
                        sent += write(view[sent:])
            except ssl.SSLError:  # our close_notify was sent
                self.is_broken = True
        return self._outgoing.read()

    def shut(self) -> None:
        if self.established and not self.is_broken:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, ValueError):  # the close_notify of the peer has not come, as a rule
                return

    def move_to(self, stream: Timed) -> None:
        assert isinstance(stream, Stream)
        self.stream = stream

    def moved(self) -> None:
        if self.established and (self._incoming.pending or self.ended):
            self._open(b"")

    def leave(self) -> None:
        self.queued = False
        stream = self.stream
        if self.established and not self.is_broken and stream.backlog is None and stream.lost is None:
            self.shut()
            stream.send(b"")

    # The handshake.

    def on_turn(self) -> None:
        """A step of the handshake."""
        stream = self.stream
        if stream.closed or self.established:
            return
        try:
            self._tls.do_handshake()
            self.established = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ValueError) as error:
            stream.send(b"")
            self._broken(_failed(error))
            return
        if self._outgoing.pending:
            stream.send(b"")
        if self.established and not stream.closed:
            self.server_name = getattr(self._tls, "server_name", None)
            stream.on_secured()
            if self._incoming.pending and stream.layer is self and not stream.closed:
                self._open(b"")

    def abort(self) -> None:
        """A step failed."""
        self.stream.abort()

    def _wait_for_turn(self) -> None:
        self.stream.reactor.handshakes.add(self)

    def _take(self, data: bytes) -> None:
        """Bytes came from the socket."""
        stream = self.stream
        if self.established:
            size = stream.read_bytes
            if len(data) == min(size, MOST_READ_BYTES):
                stream.reactor.unserved.add(stream.fd)
                stream.read_bytes = stream.reactor.bulk.bytes_for(stream)
            self._open(data)
            return
        begins, self._begun = not self._begun, True
        if begins and self._is_server and data[0] != HANDSHAKE_RECORD:
            stream.layer = None
            stream.on_unsecured(data)
            return
        self._incoming.write(data)
        if self._incoming.pending > MOST_HANDSHAKE_BYTES:
            self._broken(OSError(errno.EPROTO, "the handshake is too long"))
        else:
            self._wait_for_turn()

    # Records.

    def _open(self, data: bytes) -> None:
        """Hand on what the records hold that are complete with these bytes."""
        stream = self.stream
        pieces: list[bytes] = []
        try:
            incoming, read = self._incoming, self._tls.read
            incoming.write(data)
            while True:
                piece = read(RECORD_BYTES)
                if not piece:
                    self.ended = True
                    break
                pieces.append(piece)
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            stream.send(b"")
            self._broken(_failed(error))
            return
        if self._outgoing.pending and not self._answers():
            return
        count = len(pieces)
        if count:
            opened = pieces[0] if count == 1 else b"".join(pieces)
            if count > 1 and len(opened) < count * SMALL_BYTES:
                stream.read_bytes = READ_BYTES
            stream.on_data(opened)
            stream = self.stream  # which may be the next one by now
        if self.ended and not (stream.closed or stream.unread or stream.paused or stream.eof):
            stream.take_end()

    def _answers(self) -> bool:
        """TLS has something to say itself. False if too much of that waits to be read by the peer."""
        stream = self.stream
        self._unasked = 0 if stream.backlog is None else self._unasked + self._outgoing.pending
        if self._unasked > MOST_UNASKED_BYTES:
            self._broken(OSError(errno.EPROTO, "the peer asks TLS for much and does not read"))
            return False
        stream.send(b"")
        return True

    def _broken(self, error: OSError) -> None:
        self.is_broken = True
        self.stream.on_broken(error)


def _failed(error: Exception) -> OSError:
    """An error of TLS as a stream reports it."""
    return OSError(errno.EPROTO, handshake_reason(error))
