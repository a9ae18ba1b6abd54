"""Connections to hosts: made or under way, refused, without a way."""

import errno
import os
import socket
from typing import Any

import pytest

from tierlb.model.address import Address
from tierlb.net.dial import dial
from tierlb.net.io import AT_RISK, HERE, SPEAKS_FIRST
from tierlb.net.sockaddr import pack_sockaddr


def test_dial_connects_without_waiting() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        fd, code = dial(Address(*listening.getsockname()))
        accepted, _ = listening.accept()
        with socket.socket(fileno=fd) as sock, accepted:
            assert code == 0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not os.get_blocking(fd)


ASKS = (
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


@pytest.mark.parametrize(("host", "asks"), [("127.0.0.1", 0), ("::1", 0), ("192.0.2.1", 1), ("2001:db8::1", 1)])
def test_the_kernel_asks_whether_another_host_is_there_and_spares_itself(host: str, asks: int) -> None:
    def connect(name: bytes, flags: int, asker: int) -> tuple[int, int]:
        return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET).detach(), errno.EINPROGRESS

    fd, code = dial(Address(host, 80), connect=connect)
    with socket.socket(fileno=fd) as sock:
        assert code == errno.EINPROGRESS
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == asks
        for level, option, value in ASKS:
            assert (sock.getsockopt(level, option) == value) is bool(asks)


def test_dial_reports_a_refusal() -> None:
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        assert dial(Address(*gone.getsockname())) == (-1, errno.ECONNREFUSED)


def test_a_connection_on_loopback_is_made_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        fd, code = dial(Address(*server.getsockname()), speaks_first=True)
        with socket.socket(fileno=fd) as near:
            assert code == 0
            assert near.getpeername() == server.getsockname()


def test_dial_tells_a_host_without_a_way_to_it_from_ports_that_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says EADDRNOTAVAIL for both."""
    for routed, expected in ((0, errno.EADDRNOTAVAIL), (errno.ENETUNREACH, errno.EHOSTUNREACH)):
        monkeypatch.setattr(socket.socket, "connect_ex", lambda self, at, code=routed: code)  # of datagram sockets
        assert dial(Address("::1", 80), connect=lambda *to: (-1, errno.EADDRNOTAVAIL)) == (-1, expected)


@pytest.mark.parametrize(
    ("host", "how", "flags"),
    [
        ("192.0.2.1", {}, 0),
        ("127.0.0.1", {}, HERE),
        ("127.0.0.1", {"speaks_first": True, "port_at_risk": 80}, HERE | SPEAKS_FIRST | AT_RISK),
        ("127.0.0.1", {"name": b"known", "asker": 5}, HERE),
    ],
)
def test_dial_passes_on_what_is_known_of_the_connection(host: str, how: dict[str, Any], flags: int) -> None:
    asked: list[tuple[bytes, int, int]] = []

    def connect(name: bytes, flags: int, asker: int) -> tuple[int, int]:
        asked.append((name, flags, asker))
        return -1, errno.ECONNREFUSED

    assert dial(Address(host, 80), connect=connect, **how) == (-1, errno.ECONNREFUSED)
    assert asked == [(how.get("name") or pack_sockaddr((host, 80)), flags, how.get("asker", -1))]
