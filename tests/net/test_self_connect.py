"""Connections of a socket with itself, made on purpose by binding to the port first."""

import socket

import pytest
import trio

from tierlb.net import self_connect
from tierlb.net.self_connect import USUAL_RANGE, abandon, local_ports, open_stream, reached_itself


def connected_to_itself() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())
    return sock


def test_its_port_is_free_at_once() -> None:
    sock = connected_to_itself()
    address = sock.getsockname()
    abandon(sock)
    sock.close()
    with socket.socket() as service:
        service.bind(address)  # no SO_REUSEADDR: not even TIME-WAIT is left
        service.listen()


def test_a_socket_that_is_not_connected_did_not_reach_itself() -> None:
    with socket.socket() as sock:
        assert not reached_itself(sock)


def test_the_range_is_the_kernel_s(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    first, last = local_ports()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        assert first <= sock.getsockname()[1] <= last
    monkeypatch.setattr(self_connect, "RANGE", tmp_path / "missing")
    assert local_ports() == USUAL_RANGE


async def test_a_stream_that_reached_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        sock = connected_to_itself()
        sock.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    with pytest.raises(ConnectionRefusedError):
        await open_stream("127.0.0.1", 1)
