"""The TCP or TLS stream under a control connection, the same at both ends.

A control connection is quiet for seconds at a time. So the kernel, which wakes no process for it, asks on a quiet
connection whether the peer is still there, and gives the connection up if its host or network is gone.
"""

import socket

import trio

VANISHED_S = 6.0
"""The kernel gives a connection up whose peer has answered nothing for so long."""
KEEPALIVE_AFTER_S, KEEPALIVE_EVERY_S = 2, 1
"""Keepalive probes: the first after this much silence, then one in each such interval."""

ControlStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def tcp_socket(stream: ControlStream) -> trio.socket.SocketType:
    """The socket under the stream."""
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    assert isinstance(tcp, trio.SocketStream)
    return tcp.socket


def notice_if_vanished(tcp: trio.SocketStream) -> None:
    """Have the kernel end the connection once the peer's host is gone."""
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_AFTER_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(VANISHED_S * 1000))
