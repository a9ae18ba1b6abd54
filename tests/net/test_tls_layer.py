"""A stream that speaks TLS, against a client made of the standard library, byte by byte where it matters."""

import ctypes
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import NAME, Authority
from tests.net.test_stream import Bench, Noted
from tierlb.net.bulk import READ_BYTES
from tierlb.net.reactor import Reactor
from tierlb.net.server_tls import load_server_tls
from tierlb.net.tls_layer import MOST_BARREN, MOST_HANDSHAKE_BYTES, TlsLayer, record_end

MIB = 1024 * 1024


class Secured(Noted):
    """Notes what it hears of TLS, too."""

    def on_secured(self) -> None:
        self.heard.append("secured")

    def on_unsecured(self, data: bytes) -> None:
        self.heard.append(("unsecured", data))


class Slow(Secured):
    """Works through three bytes a turn."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data[:3])
        self.put_back(data[3:])


class TlsBench(Bench):
    """A stream that is a server, and the client, whose records the test carries itself."""

    def __init__(self, authority: Authority, kind: type[Secured] = Secured, **settings: object) -> None:
        super().__init__()
        fd = self.stream.detach()
        self.stream = kind(self.reactor, fd)
        self.stream.watch()
        self.far.settimeout(0)
        self.far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        server = load_server_tls(authority.tls())
        self.layer = TlsLayer(self.stream, server.context, is_server=True)
        self.layer.begin()
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = authority.client(**settings).wrap_bio(self.into, self.out, server_hostname=NAME)

    def carry(self, size: int = MIB) -> None:
        """What the client has to say goes to the stream in pieces of this size, and what it says comes back."""
        while self.out.pending:
            self.far.sendall(self.out.read(size))
            self.turn()
        self.turn()
        try:
            while data := self.far.recv(MIB):
                self.into.write(data)
            self.into.write_eof()
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.into.write_eof()

    def shake(self, size: int = MIB) -> None:
        for _ in range(10):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.carry(size)
            else:
                self.carry(size)
                return

    def says(self, data: bytes, size: int = MIB) -> None:
        self.client.write(data)
        self.carry(size)

    def hears(self) -> bytes:
        """What came; empty at the end."""
        heard = b""
        for _ in range(100_000):
            try:
                piece = self.client.read(MIB)
            except ssl.SSLWantReadError:
                before = self.into.pending
                self.carry()
                if self.into.pending == before:
                    return heard
                continue
            if not piece:
                return heard
            heard += piece
        return heard


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


Begin = Callable[..., TlsBench]


@pytest.fixture
def begin(authority: Authority) -> Iterator[Begin]:
    """Makes benches, and clears up after them."""
    benches: list[TlsBench] = []

    def begin(*args: Any, **settings: Any) -> TlsBench:
        benches.append(TlsBench(authority, *args, **settings))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.stream.close()
        bench.far.close()
        bench.reactor.dispose()


@pytest.fixture
def bench(begin: Begin) -> TlsBench:
    return begin()


@pytest.fixture
def secured(bench: TlsBench) -> TlsBench:
    bench.shake()
    assert bench.stream.heard == ["secured"]
    bench.stream.heard.clear()
    return bench


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 3, 100, MIB])
def test_a_handshake_and_a_conversation_in_pieces_of_any_size(begin: Begin, size: int, version: ssl.TLSVersion) -> None:
    bench = begin(maximum_version=version)
    bench.shake(size)
    bench.says(b"hello", size)
    assert bench.stream.data == b"hello"
    bench.stream.send(b"good day")
    assert bench.hears() == b"good day"
    assert bench.stream.heard[0] == "secured"
    assert bench.client.version() == version.name.replace("TLSv1_", "TLSv1.")


def test_the_request_that_comes_with_the_end_of_the_handshake_is_heard(bench: TlsBench) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        bench.client.do_handshake()
    bench.carry()
    bench.client.do_handshake()
    bench.client.write(b"hello")
    bench.carry()
    assert bench.stream.heard == ["secured", 5]


def test_much_goes_both_ways(secured: TlsBench) -> None:
    much = bytes(range(256)) * 24_000
    for start in range(0, len(much), 64 * 1024):
        secured.says(much[start : start + 64 * 1024])
    assert secured.stream.data == much
    assert secured.stream.read_bytes > READ_BYTES
    secured.stream.send(much)
    assert secured.stream.backlog is not None
    assert secured.hears() == much
    assert secured.stream.backlog is None
    assert secured.stream.heard[-1] == "drained"


def test_records_of_one_byte_each_make_the_next_read_short(secured: TlsBench) -> None:
    secured.stream.read_bytes = 64 * READ_BYTES
    for _ in range(1000):
        secured.client.write(b"x")
    secured.carry()
    assert secured.stream.data == b"x" * 1000
    assert secured.stream.read_bytes == READ_BYTES


def test_a_close_notify_is_the_end_and_writing_goes_on(secured: TlsBench) -> None:
    secured.client.write(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        secured.client.unwrap()
    secured.carry()
    assert secured.stream.heard == [3, "eof"]
    assert not secured.stream.closed
    secured.stream.send(b"still here")
    secured.turn()
    assert secured.far.recv(MIB)


def test_an_end_without_a_close_notify_is_broken_and_no_end(secured: TlsBench) -> None:
    secured.says(b"cut")
    secured.far.shutdown(socket.SHUT_WR)
    secured.turn()
    assert secured.stream.heard == [3, "ECONNRESET"]


def test_an_end_that_came_while_it_was_paused_is_reported_when_it_goes_on(secured: TlsBench) -> None:
    secured.stream.pause_on_data = True
    secured.client.write(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        secured.client.unwrap()
    secured.carry()
    assert secured.stream.heard == [3]
    secured.stream.resume()
    secured.turn()
    assert secured.stream.heard == [3, "eof"]


def test_what_was_put_back_comes_before_the_end(begin: Begin) -> None:
    bench = begin(Slow)
    bench.shake()
    bench.client.write(b"abcdefgh")
    with pytest.raises(ssl.SSLWantReadError):
        bench.client.unwrap()
    bench.carry()
    for _ in range(10):
        bench.turn()
    assert bench.stream.data == b"abcdefgh"
    assert bench.stream.heard == ["secured", 3, 3, 2, "eof"]


def test_shutting_down_is_a_close_notify_and_reading_goes_on(secured: TlsBench) -> None:
    secured.stream.send(b"last")
    secured.stream.shutdown_write()
    secured.carry()
    assert secured.client.read(MIB) == b"last"
    assert secured.client.read(MIB) == b""
    secured.says(b"an upload goes on")
    assert secured.stream.data == b"an upload goes on"


def test_closing_says_close_notify(secured: TlsBench) -> None:
    secured.stream.send(b"all")
    secured.stream.close()
    secured.carry()
    assert secured.client.read(MIB) == b"all"
    assert secured.client.read(MIB) == b""


@pytest.mark.parametrize("how", ["reset", "with a backlog"])
def test_what_is_cut_does_not_look_like_an_end(secured: TlsBench, how: str) -> None:
    secured.stream.send(b"some" if how == "reset" else bytes(64 * MIB))
    if how == "reset":
        secured.stream.reset()
    else:
        secured.stream.close()
    with pytest.raises((ssl.SSLEOFError, ssl.SSLError)):  # noqa: PT012 (whichever read finds it)
        while secured.client.read(MIB):
            pass
        raise ssl.SSLError("a close_notify came")
    secured.turn()


def test_a_client_without_tls_is_told_apart_by_its_first_byte(bench: TlsBench) -> None:
    bench.far.sendall(b"GET / HTTP/1.1\r\n")
    bench.turn()
    assert bench.stream.heard == [("unsecured", b"GET / HTTP/1.1\r\n")]
    bench.stream.send(b"plain")
    assert bench.far.recv(MIB) == b"plain"


def test_garbage_behind_the_first_byte_is_broken_with_an_alert(bench: TlsBench) -> None:
    bench.far.sendall(b"\x16\x03\x01\x00\x10" + bytes([255]) * 16)
    bench.turn()
    assert bench.stream.heard == ["EPROTO"]
    assert bench.far.recv(MIB)[:1] == b"\x15"


def test_a_client_that_distrusts_the_certificate_breaks_off(bench: TlsBench, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    bench.client = stranger.client().wrap_bio(bench.into, bench.out, server_hostname=NAME)
    with pytest.raises(ssl.SSLCertVerificationError):
        bench.shake()
    bench.carry()
    assert bench.stream.heard == ["EPROTO"]


def test_a_handshake_that_is_cut_is_broken(bench: TlsBench) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        bench.client.do_handshake()
    bench.far.sendall(bench.out.read(20))
    bench.turn()
    bench.far.shutdown(socket.SHUT_WR)
    bench.turn()
    assert bench.stream.heard == ["ECONNRESET"]


def test_nothing_is_sent_before_the_handshake_is_over(bench: TlsBench) -> None:
    bench.stream.send(b"early")
    bench.shake()
    assert bench.hears() == b""


def test_a_handshake_that_waits_for_its_turn_holds_little(bench: TlsBench) -> None:
    """Nothing is served, as in a storm of others."""
    bench.layer.queued = True
    for _ in range(2 * MOST_HANDSHAKE_BYTES // READ_BYTES + 2):
        bench.far.settimeout(5)
        bench.far.sendall(b"\x16" + bytes(READ_BYTES - 1))
        bench.turn()
        if bench.stream.closed:
            break
    assert bench.stream.heard == ["EPROTO"]


def test_a_client_cannot_renegotiate(authority: Authority) -> None:
    """TLS 1.2, with a record as OpenSSL's client makes it: there is no call for it in `ssl`."""
    server = load_server_tls(authority.tls())
    assert server.context.options & ssl.OP_NO_RENEGOTIATION


def test_handshakes_of_many_clients_leave_kept_connections_their_turns(authority: Authority) -> None:
    """A turn serves handshakes for a millisecond by the reactor's clock, however many wait."""
    crashes: list[BaseException] = []
    now = [1000.0]

    def clock() -> float:
        now[0] += 0.0004
        return now[0]

    reactor = Reactor(crashes.append, clock)
    order: list[str] = []

    class Waiting:
        queued = False

        def on_turn(self) -> None:
            order.append("handshake")

        def abort(self) -> None: ...

    for _ in range(20):
        reactor.handshakes.add(Waiting())  # type: ignore[arg-type]
    near, far = socket.socketpair()
    near.setblocking(False)

    def on_ready(mask: int) -> None:
        order.append("kept")
        reactor.end_stint()

    reactor.add(near.fileno(), 1, on_ready)
    far.send(b"x")
    reactor.stint()
    reactor.stint()
    reactor.remove(near.fileno())
    near.close()
    far.close()
    reactor.dispose()
    assert order.count("kept") == 2
    first, second = (place for place, what in enumerate(order) if what == "kept")
    assert 0 < second - first - 1 <= 5


def test_a_stream_that_ends_gives_its_tls_to_the_next_one(secured: TlsBench) -> None:
    before = secured.stream
    after = Secured(secured.reactor, before.fd)
    after.take_over(before)
    assert after.layer is not None
    secured.says(b"to the next one")
    assert after.data == b"to the next one"
    after.send(b"from it")
    assert secured.hears() == b"from it"


def updates_keys(client: ssl.SSLObject) -> None:
    """Has the client ask for an update of keys with its next record; `ssl` has no call for it."""
    libssl = ctypes.CDLL("libssl.so.3")
    after_socket = 3 * ctypes.sizeof(ctypes.c_void_p)  # of struct PySSLSocket
    pointer = ctypes.c_void_p.from_address(id(client._sslobj) + after_socket)  # type: ignore[attr-defined]  # noqa: SLF001
    assert libssl.SSL_key_update(pointer, 1) == 1


def test_an_update_of_keys_is_answered(secured: TlsBench) -> None:
    updates_keys(secured.client)
    secured.says(b"with new keys")
    assert secured.stream.data == b"with new keys"
    secured.stream.send(b"likewise")
    assert secured.hears() == b"likewise"


def test_a_client_that_asks_tls_for_much_and_does_not_read_is_broken_off(secured: TlsBench) -> None:
    """Each update of keys that asks for another one is answered (RFC 8446 §4.6.3)."""
    secured.stream.send(bytes(64 * MIB))
    assert secured.stream.backlog is not None
    for _ in range(2000):
        if secured.stream.closed:
            break
        updates_keys(secured.client)
        secured.client.write(b"x")
        secured.far.sendall(secured.out.read())
        secured.turn()
    assert secured.stream.heard[-1] == "EPROTO"
    assert secured.stream.closed


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_flood_of_updates_of_keys_ends_the_connection_with_little_work(secured: TlsBench, data: bytes) -> None:
    """Each takes a third of a millisecond, and one call of `read` would work through all that there are."""
    for _ in range(500):
        updates_keys(secured.client)
        secured.client.write(b"x")
    records, cut = secured.out.read(), b""
    start = 0
    while (end := record_end(records, start)) > 0:
        size = end - start
        cut += records[start:end] if data or size != 23 else b""  # with data between them or without
        start = end
    secured.far.sendall(cut)
    secured.turn()
    assert secured.stream.heard[-1] == "EPROTO"
    assert len(secured.stream.data) <= 2 * MOST_BARREN


def test_a_few_updates_of_keys_are_no_flood(secured: TlsBench) -> None:
    for _ in range(MOST_BARREN // 2):
        updates_keys(secured.client)
        secured.says(b"x")
    assert secured.stream.data == b"x" * (MOST_BARREN // 2)
    assert not secured.stream.closed


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (b"\x17\x03\x03\x00\x01x", 0, 6),
        (b"ab\x17\x03\x03\x00\x01xy", 2, 8),
        (b"\x17\x03\x03\x00\x02x", 0, 0),
        (b"\x17\x03", 0, 0),
        (b"", 0, 0),
        (b"\x17\x03\x03\xff\xff" + bytes(70_000), 0, -1),
    ],
)
def test_where_a_record_ends(data: bytes, start: int, end: int) -> None:
    assert record_end(data, start) == end


def test_a_handshake_in_very_many_records_takes_several_turns(bench: TlsBench) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        bench.client.do_handshake()
    hello = bench.out.read()[5:]
    bench.out.write(b"".join(b"\x16\x03\x01\x00\x01" + hello[at : at + 1] for at in range(len(hello))))
    bench.shake()
    assert bench.stream.heard == ["secured"]


def test_a_name_that_is_none_of_dns_is_refused_without_a_word_from_ssl(
    bench: TlsBench, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        bench.client.do_handshake()
    bench.far.sendall(bench.out.read().replace(b"shop.example", b"sh\xc3p.example"))
    bench.turn()
    assert bench.stream.heard == ["EPROTO"]
    assert bench.far.recv(MIB)[:1] == b"\x15"
    assert "Exception ignored" not in capfd.readouterr().err


def test_an_error_of_the_socket_is_reported(secured: TlsBench) -> None:
    secured.reset()
    secured.turn()
    assert secured.stream.heard == [errno.errorcode[errno.ECONNRESET]]


class Nested:
    """A client's TLS inside that of a parent, at a server that ends both."""

    def __init__(self, outer: TlsBench, authority: Authority) -> None:
        self.outer = outer
        outer.shake()
        outer.stream.heard.clear()
        TlsLayer(outer.stream, load_server_tls(authority.tls()).context, is_server=True).begin()
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = authority.client().wrap_bio(self.into, self.out, server_hostname=NAME)
        for _ in range(4):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.carry()
        self.carry()

    def carry(self) -> None:
        """What the client has to say goes inside the outer connection, and what is answered there comes back."""
        self.outer.says(self.out.read())
        self.into.write(self.outer.hears())

    def says(self, data: bytes) -> None:
        self.client.write(data)
        self.carry()


@pytest.fixture
def nested(bench: TlsBench, authority: Authority) -> Nested:
    return Nested(bench, authority)


def test_one_layer_carries_another(nested: Nested) -> None:
    stream = nested.outer.stream
    assert stream.heard == ["secured"]
    nested.says(b"hello")
    assert stream.data == b"hello"
    much = bytes(range(256)) * 400
    stream.send(much)
    nested.carry()
    heard = b""
    while len(heard) < len(much):
        heard += nested.client.read(MIB)
    assert heard == much


def test_an_end_of_the_outer_layer_alone_is_a_cut(nested: Nested) -> None:
    stream = nested.outer.stream
    with pytest.raises(ssl.SSLWantReadError):
        nested.outer.client.unwrap()
    nested.outer.carry()
    assert stream.heard[-1] == "ECONNRESET"


def test_our_end_goes_out_through_both_layers(nested: Nested) -> None:
    stream = nested.outer.stream
    stream.send(b"the last")
    stream.shutdown_write()
    nested.into.write(nested.outer.hears())
    assert nested.client.read(MIB) == b"the last"
    assert nested.client.read(MIB) == b"", "a close_notify came"


def test_a_client_inside_that_does_not_speak_tls_is_heard_and_the_outer_layer_stays(
    bench: TlsBench, authority: Authority
) -> None:
    bench.shake()
    outer = bench.stream.layer
    TlsLayer(bench.stream, load_server_tls(authority.tls()).context, is_server=True).begin()
    bench.says(b"GET / HTTP/1.1")
    assert ("unsecured", b"GET / HTTP/1.1") in bench.stream.heard
    assert bench.stream.layer is outer
    bench.stream.send(b"400")
    assert bench.hears() == b"400"
