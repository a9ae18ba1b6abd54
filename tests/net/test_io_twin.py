"""System calls on non-blocking sockets: the C module and its twin return the same, whatever is asked of them."""

import contextlib
import ctypes
import errno
import fcntl
import importlib.util
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierlb.net import io, io_twin
from tierlb.net.bulk import READ_BYTES
from tierlb.net.io_twin import AT_RISK, HERE, SPEAKS_FIRST
from tierlb.net.sockaddr import pack_sockaddr

ROOT = Path(__file__).parent.parent.parent
BUILT = "TIERLB_IO_BUILT"
"""The environment variable by which scripts/check-io names the directory of its own build."""
DEADLINE_S = 30.0
RESET = struct.pack("ii", 1, 0)
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


@pytest.fixture(scope="session")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The C module: what is installed, what check-io built, or a build of its own."""
    if io.IN_C:
        return importlib.import_module("tierlb.net._io")
    place = Path(os.environ.get(BUILT) or tmp_path_factory.mktemp("io"))
    file = place / f"_io{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not file.exists():
        if shutil.which(os.environ.get("CC", "cc")) is None:
            pytest.skip("needs a C compiler")
        subprocess.run([ROOT / "scripts" / "build-io", place], check=True, timeout=10 * DEADLINE_S)
    spec = importlib.util.spec_from_file_location("tierlb.net._io", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["twin", "C"])
def calls(request: pytest.FixtureRequest) -> Any:
    """One of the two."""
    return io_twin if request.param == "twin" else request.getfixturevalue("in_c")


@pytest.fixture(scope="session")
def both(in_c: ModuleType) -> list[Any]:
    """The twin and the C module."""
    return [io_twin, in_c]


class Pair:
    """Two joined sockets that do not block: TCP over loopback, with small buffers."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.near = socket.create_connection(listening.getsockname(), timeout=DEADLINE_S)
            self.far, _ = listening.accept()
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.far.settimeout(DEADLINE_S)
        self.near.setblocking(False)
        self.fd = self.near.fileno()

    def fill(self, calls: Any) -> int:
        """Write to `far` until nothing more is taken; how much that was."""
        filled = 0
        while sent := calls.send(self.fd, bytes(65536)):
            filled += sent
        return filled

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture
def other() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def await_bytes(sock: socket.socket, count: int) -> None:
    """Until so many bytes wait there."""
    sock.settimeout(DEADLINE_S)
    while len(sock.recv(count, socket.MSG_PEEK | socket.MSG_WAITALL)) < count:
        pass
    sock.setblocking(False)


# Streams.


def test_recv_returns_what_is_there(calls, pair):
    pair.far.sendall(b"some bytes")
    await_bytes(pair.near, 10)
    assert calls.recv(pair.fd, 4) == b"some"
    assert calls.recv(pair.fd, READ_BYTES) == b" bytes"


def test_recv_of_nothing_is_none_and_of_the_end_empty(calls, pair):
    assert calls.recv(pair.fd, 100) is None
    pair.far.close()
    pair.near.settimeout(DEADLINE_S)
    assert pair.near.recv(1) == b""
    pair.near.setblocking(False)
    assert calls.recv(pair.fd, 100) == b""


def test_recv_of_more_than_a_buffer_holds(calls):
    near, far = socket.socketpair()
    with near, far:
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        data = random.Random(1).randbytes(100_000)
        assert calls.send(far.fileno(), data) == len(data)
        assert calls.recv(near.fileno(), 256 * 1024) == data
        assert calls.recv(near.fileno(), 256 * 1024) is None


def test_errors_of_the_socket_are_raised(calls, pair):
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    pair.far.close()
    with pytest.raises(ConnectionResetError):
        calls.recv(pair.fd, 100)
    with pytest.raises(BrokenPipeError):
        calls.send(pair.fd, b"x")
    fd = pair.near.detach()
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        calls.recv(fd, 100)


@pytest.mark.parametrize("wrap", [bytes, memoryview, bytearray])
def test_send_takes_any_bytes(calls, pair, wrap):
    assert calls.send(pair.fd, wrap(b"abc")) == 3
    assert pair.far.recv(10) == b"abc"
    assert calls.send(pair.fd, wrap(b"")) == 0


def test_send_returns_what_the_kernel_took(calls, pair):
    data = bytes(16 * 1024 * 1024)
    assert 0 < calls.send(pair.fd, data) < len(data)
    pair.fill(calls)
    assert calls.send(pair.fd, b"x") == 0


# Copying.


def test_copy_passes_on_what_is_there(calls, pair, other):
    pair.far.sendall(b"some bytes")
    await_bytes(pair.near, 10)
    assert calls.copy(pair.fd, other.fd, 4) == 4
    assert calls.copy(pair.fd, other.fd, READ_BYTES) == 6
    assert calls.copy(pair.fd, other.fd, READ_BYTES) is None
    assert other.far.recv(10, socket.MSG_WAITALL) == b"some bytes"
    pair.far.close()
    pair.near.settimeout(DEADLINE_S)
    assert pair.near.recv(1) == b""
    assert calls.copy(pair.fd, other.fd, READ_BYTES) == 0


def test_copy_returns_what_could_not_be_sent(calls, pair, other):
    before = other.fill(calls)
    pair.far.sendall(b"not lost")
    await_bytes(pair.near, 8)
    assert calls.copy(pair.fd, other.fd, READ_BYTES) == (8, b"not lost", 0)
    assert calls.recv(pair.fd, READ_BYTES) is None
    while before:
        before -= len(other.far.recv(before))


def test_copy_says_whether_the_peer_failed(calls, pair, other):
    other.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    other.far.close()
    pair.far.sendall(b"whole")
    await_bytes(pair.near, 5)
    size, rest, code = calls.copy(pair.fd, other.fd, READ_BYTES)
    assert (size, rest) == (5, b"whole")
    assert code in (errno.ECONNRESET, errno.EPIPE)


def test_copy_raises_what_the_source_failed_with(calls, pair, other):
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    pair.far.close()
    with pytest.raises(ConnectionResetError):
        calls.copy(pair.fd, other.fd, READ_BYTES)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    total=st.integers(1, 400_000),
    sizes=st.lists(st.integers(1, 65536), min_size=1, max_size=6),
    buffer=st.sampled_from([1024, 20_000, 200_000]),
)
def test_whatever_is_copied_arrives_once_and_in_order(both, seed, total, sizes, buffer):
    """A source that is filled and a peer that is emptied by pieces of any size."""
    for calls in both:
        rng, data = random.Random(seed), random.Random(seed).randbytes(total)
        source, near = socket.socketpair()
        out, sink = socket.socketpair()
        with source, near, out, sink:
            for sock in (source, near, out, sink):
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            to_send, rest, copied, arrived = memoryview(data), b"", 0, b""
            while len(arrived) < total:
                if to_send:
                    to_send = to_send[calls.send(source.fileno(), to_send[: rng.randint(1, 100_000)]) :]
                if rest:
                    rest = rest[calls.send(out.fileno(), rest) :]
                else:
                    done = calls.copy(near.fileno(), out.fileno(), rng.choice(sizes))
                    if isinstance(done, tuple):
                        size, rest, code = done
                        assert code == 0
                        assert 0 < len(rest) <= size
                        copied += size
                    else:
                        copied += done or 0
                if rng.random() < 0.5:
                    arrived += calls.recv(sink.fileno(), rng.choice(sizes)) or b""
            assert arrived == data
            assert copied == total


# Connections.


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accept_returns_a_descriptor_and_where_it_comes_from(calls, host):
    with listening_at(host) as listening:
        assert calls.accept4(listening) is None
        with socket.create_connection(listening.getsockname()[:2], timeout=DEADLINE_S) as client:
            fd, *peer = calls.accept4(listening)
            with socket.socket(fileno=fd) as accepted:
                assert tuple(peer) == client.getsockname()[:2]
                assert not os.get_inheritable(fd)
                assert not os.get_blocking(fd)
                assert accepted.getpeername() == client.getsockname()


def test_accept_raises_when_there_is_no_descriptor_left(calls):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listening_at("127.0.0.1") as listening, socket.create_connection(listening.getsockname()):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                calls.accept4(listening)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connect_returns_a_descriptor_of_a_connection_that_is_made(calls, host):
    with listening_at(host) as listening:
        fd, code = calls.start_connect(pack_sockaddr(listening.getsockname()), HERE, -1)
        accepted, _ = listening.accept()
        with socket.socket(fileno=fd) as sock, accepted:
            assert code == 0
            assert sock.getpeername() == listening.getsockname()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not os.get_inheritable(fd)
            assert not os.get_blocking(fd)


def test_connect_reaches_a_unix_socket(calls, tmp_path):
    path = str(tmp_path / "socket")
    assert calls.start_connect(pack_sockaddr(path), HERE, -1) == (-1, errno.ENOENT)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        fd, code = calls.start_connect(pack_sockaddr(path), HERE | SPEAKS_FIRST, -1)
        with socket.socket(fileno=fd) as sock:
            assert code == 0
            assert sock.getpeername() == path


def test_without_a_second_call_a_connection_is_under_way(calls):
    with listening_at("127.0.0.1") as listening:
        fd, code = calls.start_connect(pack_sockaddr(listening.getsockname()), 0, -1)
        with socket.socket(fileno=fd):
            assert code == errno.EINPROGRESS


def test_a_connection_that_is_not_made_leaves_no_descriptor(calls):
    with listening_at("127.0.0.1") as gone:
        name = pack_sockaddr(gone.getsockname())
    before = os.listdir("/proc/self/fd")
    assert calls.start_connect(name, HERE, -1) == (-1, errno.ECONNREFUSED)
    assert calls.start_connect(pack_sockaddr(("127.0.0.1", 0)), HERE, -1)[0] == -1
    assert os.listdir("/proc/self/fd") == before


def test_the_last_ack_waits_where_our_side_speaks_first(calls, pair):
    """Until then the host has no connection to accept. Linux waits 200 ms at most, which a busy machine may miss."""

    def waits(flags: int, asker: int) -> bool:
        return any(waits_once(flags, asker) for _ in range(10))

    def waits_once(flags: int, asker: int) -> bool:
        with listening_at("127.0.0.1") as listening:
            fd, code = calls.start_connect(pack_sockaddr(listening.getsockname()), flags | HERE, asker)
            with socket.socket(fileno=fd) as sock:
                assert code == 0
                if (accepted := calls.accept4(listening)) is None:
                    sock.send(b"first")
                    accepted = calls.accept4(listening)
                    os.close(accepted[0])
                    return True
                os.close(accepted[0])
                return False

    assert waits(SPEAKS_FIRST, -1)
    assert not waits(0, -1)
    assert not waits(0, pair.fd), "nothing was asked"
    pair.far.sendall(b"question")
    await_bytes(pair.near, 8)
    assert waits(0, pair.fd)
    assert calls.recv(pair.fd, 100) == b"question", "what waits stays"


def test_connect_raises_where_no_socket_can_be_made(calls):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            calls.start_connect(pack_sockaddr(("127.0.0.1", 80)), HERE, -1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_that_reached_itself_is_refused(calls):
    """In a network of its own, where the kernel can choose no other port."""
    name = pack_sockaddr(("127.0.0.1", 40_000))
    with own_network() as ports:
        ports.write_text("40000 40000")
        fd, code = calls.start_connect(name, HERE, -1)
        with socket.socket(fileno=fd) as itself:
            assert code == 0
            assert itself.getsockname() == itself.getpeername()
            itself.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert calls.start_connect(name, HERE | AT_RISK, -1) == (-1, errno.ECONNREFUSED)
        with socket.socket() as service:
            service.bind(("127.0.0.1", 40_000))  # no SO_REUSEADDR: not even TIME-WAIT is left


@contextlib.contextmanager
def own_network() -> Iterator[Path]:
    """Sockets that this thread makes in the block are in another network; the file with the local ports there."""
    with open("/proc/thread-self/ns/net") as here:
        if LIBC.unshare(CLONE_NEWNET):
            pytest.skip("needs the right to make network namespaces")
        try:
            with socket.socket() as sock:
                fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
            yield Path("/proc/sys/net/ipv4/ip_local_port_range")
        finally:
            assert LIBC.setns(here.fileno(), CLONE_NEWNET) == 0


def listening_at(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind((host, 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"no {host} here: {error}")
    sock.listen()
    return sock


# Datagrams.


def datagram_socket(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind((host, 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"no {host} here: {error}")
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_come_with_the_address_that_answers_go_to(calls, host):
    with datagram_socket(host) as ours, datagram_socket(host) as theirs:
        assert calls.recvmmsg(ours) == []
        name = pack_sockaddr(theirs.getsockname())
        to_us = pack_sockaddr(ours.getsockname())
        assert calls.sendmmsg(theirs, [(b"one", to_us), (b"", to_us), (bytes(60_000), to_us)]) == 3
        assert calls.recvmmsg(ours) == [(b"one", name), (b"", name), (bytes(60_000), name)]
        assert calls.recvmmsg(ours) == []
        assert calls.sendmmsg(ours, [(b"answer", name)]) == 1
        assert theirs.recv(100) == b"answer"


def test_a_connected_socket_needs_no_address(calls):
    with datagram_socket() as ours, datagram_socket() as theirs:
        ours.connect(theirs.getsockname())
        assert calls.sendmmsg(ours, [(b"one", b""), (b"two", b"")]) == 2
        assert [theirs.recv(100), theirs.recv(100)] == [b"one", b"two"]
        assert calls.sendmmsg(ours, []) == 0


def test_one_call_takes_a_batch(calls):
    with datagram_socket() as ours, datagram_socket() as theirs:
        many = [(b"%d" % number, pack_sockaddr(ours.getsockname())) for number in range(40)]
        assert calls.sendmmsg(theirs, many) == io_twin.BATCH
        assert calls.sendmmsg(theirs, many[io_twin.BATCH :]) == 40 - io_twin.BATCH
        assert [data for data, _ in calls.recvmmsg(ours)] == [data for data, _ in many[: io_twin.BATCH]]
        assert [data for data, _ in calls.recvmmsg(ours)] == [data for data, _ in many[io_twin.BATCH :]]


def test_a_datagram_that_cannot_be_sent_ends_the_batch(calls):
    with datagram_socket() as ours, datagram_socket() as theirs:
        name = pack_sockaddr(theirs.getsockname())
        too_long = (bytes(65_536), name)
        assert calls.sendmmsg(ours, [(b"one", name), too_long, (b"two", name)]) == 1
        with pytest.raises(OSError, match="Message too long"):
            calls.sendmmsg(ours, [too_long])
        assert theirs.recv(100) == b"one"


def test_a_full_socket_takes_no_datagram(calls):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        for _ in range(10_000):
            if not calls.sendmmsg(near, [(b"x", b"")]):
                return
        raise AssertionError("it took ten thousand")


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.one_of(st.binary(max_size=100), st.integers(0, 20_000).map(bytes)), max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_datagrams_arrive_as_they_were_sent(both, batches):
    for sends in both:
        for receives in both:
            with datagram_socket() as ours, datagram_socket() as theirs:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                to_us, name = pack_sockaddr(ours.getsockname()), pack_sockaddr(theirs.getsockname())
                for batch in batches:
                    assert sends.sendmmsg(theirs, [(data, to_us) for data in batch]) == len(batch)
                    assert receives.recvmmsg(ours) == [(data, name) for data in batch]


# Bad arguments must not harm the process; the twin leaves them to the interpreter.


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("recv", ()),
        ("recv", (0,)),
        ("recv", (-1, 10)),
        ("recv", (0, 0)),
        ("recv", (0, -1)),
        ("recv", (0, 2**31)),
        ("recv", (0, 2**80)),
        ("recv", ("0", 10)),
        ("send", (0,)),
        ("send", (-1, b"")),
        ("send", (0, "text")),
        ("send", (0, None)),
        ("copy", (0, 1)),
        ("copy", (0, -1, 10)),
        ("copy", (0, 1, 65537)),
        ("copy", (0, 1, 0)),
        ("start_connect", ()),
        ("start_connect", (b"x" * 16, 0)),
        ("start_connect", ("x" * 16, 0, 0)),
        ("start_connect", (b"x" * 16, None, 0)),
        ("start_connect", (b"x" * 16, 2**80, 0)),
        ("accept4", (-1,)),
        ("accept4", (None,)),
        ("recvmmsg", (-1,)),
        ("recvmmsg", ("x",)),
        ("sendmmsg", (0,)),
        ("sendmmsg", (0, None)),
        ("sendmmsg", (0, [None])),
        ("sendmmsg", (0, [(b"x", b""), (b"x",)])),
        ("sendmmsg", (0, [(b"x", "text")])),
    ],
)
def test_bad_arguments_are_refused(in_c, name, arguments):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        getattr(in_c, name)(*arguments)


def test_an_address_that_is_none_is_refused(calls):
    with datagram_socket() as ours:
        for bad in (b"\x00", bytes(16), bytes(200)):
            with pytest.raises((OSError, ValueError)):
                calls.sendmmsg(ours, [(b"x", bad)])
            with pytest.raises((OSError, ValueError)):
                calls.start_connect(bad, HERE | AT_RISK, -1)
