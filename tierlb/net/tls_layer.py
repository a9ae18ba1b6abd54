"""TLS on one stream: what comes is decrypted before the stream's owner sees it, and what is sent is encrypted.

An `ssl.SSLObject` works between two MemoryBIOs. So a stream reads once, whatever number of records that brings, and
writes once what they are answered with. Records are given to it one by one, as one call of `read` would work through
all that hold no data, such as updates of keys, which are dear. A peer may send few of these.

A step of a handshake takes as long as ten requests or more. So each waits in a queue of its own (`Reactor.handshakes`),
of which a turn serves for a millisecond, and a storm of them does not hold up kept connections.

A server's layer may lie over another one (`under`): a node of this cluster carries the TLS of a client through its own.

Left out: renegotiation and early data, which contexts do not allow (`net.server_tls`), and kernel TLS, which needs a
module of the kernel, and OpenSSL 3.2 for TLS 1.3 in both directions.
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
from tierlb.wire.client_hello import Verdict, read_client_hello

RECORD_BYTES: Final = 16 * 1024
"""What a record holds at most (RFC 8446 §5.1)."""
MOST_READ_BYTES: Final = 64 * 1024
"""Read at once at most. As records of one byte each that takes some 3 ms."""
SMALL_BYTES: Final = 256
"""Of bytes in a record on average. After a read of smaller ones the next read is short."""
MOST_HANDSHAKE_BYTES: Final = 128 * 1024
"""That wait for a turn of the handshake. A chain of client certificates takes a tenth of this."""
HANDSHAKE_RECORDS: Final = 32
"""In one turn of a handshake, which has some six in all."""
HEADER_BYTES: Final = 5
MOST_RECORD_BYTES: Final = RECORD_BYTES + 2048
"""With what encryption adds in TLS 1.2 (RFC 5246 §6.2.3)."""
MOST_BARREN: Final = 16
"""Records without data, and one more for each DATA_PER_BARREN. An update of keys takes 0.3 ms. Peers make one for
millions of records, and servers send two to four tickets."""
DATA_PER_BARREN: Final = 1024 * 1024
MOST_UNASKED_BYTES: Final = 16 * 1024
"""Answers of TLS itself, as to updates of keys, that wait because the peer does not read."""
DECODE_ERROR: Final = b"\x15\x03\x01\x00\x02\x02\x32"
"""The alert for a ClientHello that cannot be read (RFC 8446 §6.2)."""
HANDSHAKE_RECORD: Final = 0x16
"""The first byte of a client that speaks TLS."""


class TlsLayer(Layer):
    """`begun`: bytes of the peer came. `established`: the handshake is over. `server_name`: what the client asked for.
    `is_broken`: nothing can be said to the peer any more."""

    __slots__ = (
        "_allowance",
        "_held",
        "_incoming",
        "_is_known",
        "_is_server",
        "_outgoing",
        "_tls",
        "_unasked",
        "begun",
        "established",
        "is_broken",
        "queued",
        "server_name",
        "stream",
        "under",
    )

    def __init__(self, stream: Stream, context: ssl.SSLContext, *, is_server: bool, host: str | None = None) -> None:
        """`host`: what the certificate of a server is to be for."""
        self.stream = stream
        self.ended = False
        self.established = False
        self.is_broken = False
        self.queued = False
        self.server_name: str | None = None
        self.under: TlsLayer | None = None
        self._is_server = is_server
        self.begun = False
        self._is_known = not is_server
        self._unasked = 0
        self._held = b""
        self._allowance = MOST_BARREN * DATA_PER_BARREN
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server, server_hostname=host)

    @property
    def over(self) -> "TlsLayer | None":
        """The one that lies over it: that of the stream, if it is another one. Kept there alone, as no cycle of objects
        is to be left of a connection that ended."""
        top = self.stream.layer
        return top if isinstance(top, TlsLayer) and top is not self else None

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
        """The stream speaks TLS from here on, within the layer that it has. `first`: what came of it already."""
        under = self.stream.layer
        if isinstance(under, TlsLayer):
            self.under = under
        self.stream.layer = self
        if first:
            self._take(first)
        elif not self._is_server:
            self._wait_for_turn()

    # What the stream calls.

    def read(self) -> None:
        if self.under is not None:
            self.under.read()
            return
        stream = self.stream
        try:
            data = recv(stream.fd, min(stream.read_bytes, MOST_READ_BYTES))
        except OSError as error:
            self._broken(error)
            return
        if data:
            self._take(data)
        elif data is not None:
            self.cut_off()

    def sealed(self, data: bytes | memoryview) -> bytes:
        """Records that hold these bytes, behind what TLS itself has to say. Nothing can be sent before the handshake is
        over."""
        if data:
            self._write(data)
        said = self._outgoing.read()
        return said if self.under is None else self.under.sealed(said)

    def _write(self, data: bytes | memoryview) -> None:
        """Make records of these bytes."""
        if self.established and not self.is_broken:
            write, size = self._tls.write, len(data)
            try:
                sent = write(data)
                if sent < size:  # it writes one record at a time
                    view = memoryview(data)
                    while sent < size:
                        sent += write(view[sent:])
            except ssl.SSLError:  # our close_notify was sent
                self.is_broken = True

    def shut(self) -> None:
        self._say_end()
        under = self.under
        if under is not None:
            under.carry(self._outgoing.read())
            under.shut()

    def _say_end(self) -> None:
        if self.established and not self.is_broken:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, ValueError):  # the close_notify of the peer has not come, as a rule
                return

    def move_to(self, stream: Timed) -> None:
        assert isinstance(stream, Stream)
        self.stream = stream
        if self.under is not None:
            self.under.move_to(stream)

    def moved(self) -> None:
        if self.under is not None:
            self.under.moved()
        if self.established and (self._held or self.ended):
            self._open(b"")

    def leave(self) -> None:
        self.queued = False
        stream = self.stream
        if self.established and not self.is_broken and stream.backlog is None and stream.lost is None:
            self.shut()
            stream.send(b"")
        elif self.under is not None:
            self.under.leave()

    # What the layer over it calls, and the one under it.

    def carry(self, data: bytes) -> None:
        """Make records of these bytes, which are written with the next ones."""
        if data:
            self._write(data)

    def take_opened(self, data: bytes) -> None:
        """What the layer under it carried."""
        if self.established:
            self._open(data)
        else:
            self._take(data)

    def cut_off(self) -> None:
        """No more comes. That is an error, unless the peer has said so, at each of the layers."""
        if self.ended:
            if self.over is not None:
                self.over.cut_off()
            return
        reason = "the connection ended without a close_notify" if self.established else "it ended in its handshake"
        self._broken(self.stream.lost or OSError(errno.ECONNRESET, reason))

    # The handshake.

    def on_turn(self) -> None:
        """Go on with the handshake, as far as the records lead that are here."""
        stream = self.stream
        if stream.closed or self.established:
            return
        if self._is_server and not self._is_known:
            hello = read_client_hello(self._held)
            if hello.verdict is Verdict.PARTIAL:
                return
            if hello.verdict is not Verdict.WHOLE:
                self._outgoing.write(DECODE_ERROR)
                stream.send(b"")
                self._broken(OSError(errno.EPROTO, hello.problem or "it does not begin as TLS does"))
                return
            self._is_known = True
            self.server_name = hello.server_name or None
        try:
            self._shake()
        except (ssl.SSLError, ValueError) as error:
            stream.send(b"")
            self._broken(_failed(error))
            return
        if self._outgoing.pending:
            stream.send(b"")
        if self.established and not stream.closed:
            stream.on_secured()
            stream = self.stream  # which may be the next one by now
            if self._held and stream.layer is self and not stream.closed:
                self._open(b"")

    def _shake(self) -> None:
        """A turn's worth. Raises ssl.SSLError."""
        held, start = self._held, 0
        for _ in range(HANDSHAKE_RECORDS):
            end = record_end(held, start)
            if end < 0:
                raise ssl.SSLError("what comes is no TLS")
            if end > 0:
                self._incoming.write(held[start:end])
                start = end
            try:
                self._tls.do_handshake()
                self.established = True
                break
            except ssl.SSLWantReadError:
                if end <= 0:
                    break
        self._held = held[start:]
        if not self.established and record_end(self._held, 0) > 0:
            self._wait_for_turn()

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
        begins, self.begun = not self.begun, True
        if begins and self._is_server and data[0] != HANDSHAKE_RECORD:
            stream.layer = self.under
            stream.on_unsecured(data)
            return
        self._held += data
        if len(self._held) > MOST_HANDSHAKE_BYTES:
            self._broken(OSError(errno.EPROTO, "the handshake is too long"))
        else:
            self._wait_for_turn()

    # Records.

    def _open(self, data: bytes) -> None:
        """Hand on what the records hold that are complete with these bytes."""
        stream = self.stream
        pieces: list[bytes] = []
        try:
            self._open_into(pieces, self._held + data if self._held else data)
        except ssl.SSLError as error:
            stream.send(b"")
            self._broken(_failed(error))
            return
        if self._allowance < 0:
            stream.send(b"")
            self._broken(OSError(errno.EPROTO, "the peer sends many records without data"))
            return
        if self._outgoing.pending and not self._answers():
            return
        count = len(pieces)
        if count:
            opened = pieces[0] if count == 1 else b"".join(pieces)
            if count > 1 and len(opened) < count * SMALL_BYTES:
                stream.read_bytes = READ_BYTES
            if self.over is None:
                stream.on_data(opened)
            else:
                self.over.take_opened(opened)
            stream = self.stream  # which may be the next one by now
        if self.ended and not (stream.closed or stream.unread or stream.paused or stream.eof):
            if self.over is None:
                stream.take_end()
            else:
                self.over.cut_off()

    def _open_into(self, pieces: list[bytes], data: bytes) -> None:
        """Take the records apart, one by one. Raises ssl.SSLError."""
        write, read, start = self._incoming.write, self._tls.read, 0
        while not self.ended and self._allowance >= 0:
            end = record_end(data, start)
            if end <= 0:
                if end < 0:
                    raise ssl.SSLError("a record is too long")
                break
            write(data[start:end])
            start = end
            try:
                piece = read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                self._allowance -= DATA_PER_BARREN
                continue
            except ssl.SSLZeroReturnError:
                piece = b""
            if piece:
                pieces.append(piece)
                self._allowance += len(piece)
            else:
                self.ended = True
        self._held = data[start:]

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
        self._held = b""
        self.stream.on_broken(error)


def record_end(data: bytes, start: int) -> int:
    """Where the record ends that begins there; 0 if it is not complete, -1 if no record is so long."""
    if len(data) - start < HEADER_BYTES:
        return 0
    size = data[start + 3] << 8 | data[start + 4]
    if size > MOST_RECORD_BYTES:
        return -1
    end = start + HEADER_BYTES + size
    return end if end <= len(data) else 0


def _failed(error: Exception) -> OSError:
    """An error of TLS as a stream reports it."""
    return OSError(errno.EPROTO, handshake_reason(error))
