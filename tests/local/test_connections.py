"""Whether a local process still has connections."""

import socket

import pytest

from tierlb.local.connections import is_connected, takes_datagrams


def test_a_port_is_connected_for_as_long_as_somebody_is():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert not is_connected(port), "to listen is not to be connected"
        client = socket.create_connection(("127.0.0.1", port))
        server, _ = listening.accept()
        assert is_connected(port)
        assert not is_connected(client.getsockname()[1] + 1)
        server.close()
        client.close()
        assert not is_connected(port)


def test_ipv6_counts_too():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("::1", port)), listening.accept()[0]:
            assert is_connected(port)


def test_without_a_table_nothing_is_known(tmp_path):
    assert not is_connected(80, tmp_path)
    assert not takes_datagrams(80, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_over_udp_a_port_is_bound_and_connected_for_as_long_as_a_socket_is(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((host, 0))
        port = server.getsockname()[1]
        assert takes_datagrams(port)
        assert not is_connected(port)
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.connect((host, port))
            assert is_connected(port)
        assert not is_connected(port)
    assert not takes_datagrams(port)
