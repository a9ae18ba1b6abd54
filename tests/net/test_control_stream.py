"""The options of a control connection's socket, and the socket under TLS."""

import socket
import ssl

import trio

from tierlb.net.control_stream import VANISHED_S, notice_if_vanished, tcp_socket


async def test_the_kernel_asks_on_a_quiet_connection_and_gives_up_after_seconds():
    tcp, other = trio.socket.socket(), trio.socket.socket()
    await tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    await other.connect(tcp.getsockname())
    stream = trio.SocketStream(other)
    notice_if_vanished(stream)
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert other.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == VANISHED_S * 1000
    assert tcp_socket(stream) is other
    assert tcp_socket(trio.SSLStream(stream, ssl.create_default_context(), server_hostname="x")) is other
    await trio.aclose_forcefully(stream)
    tcp.close()
