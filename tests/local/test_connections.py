"""Whether a local process still has connections."""

import socket

from tierlb.local.connections import is_connected


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
    assert not is_connected(80, (tmp_path / "tcp",))
