"""A queue for each node: which of them get connections, and what becomes of those that nobody takes."""

import contextlib
import errno
import os
import random
import socket
import stat

import attrs
import pytest

from tierlb.local.ports import FreePorts, PortTaken
from tierlb.local.shared_port import SharedPort
from tierlb.model.address import Address, ListenAddress
from tierlb.net.unix_socket import identity_of, unlink_if

CLIENTS = 48
"""Of two sockets that share them, one gets none by chance once in 10^14 bursts."""


@attrs.frozen(eq=False)
class Process:
    number: int

    def has_run(self):
        return False


ONE, TWO, THREE = (Process(number) for number in (1, 2, 3))


@pytest.fixture
def address():
    return ListenAddress(Address("127.0.0.1", FreePorts(random.Random(os.getpid())).take()))


@pytest.fixture
def port(address):
    port = SharedPort.bound(address, "tiers.edge.listen")
    yield port
    port.close()


@pytest.fixture
def clients(port):
    """Connect so many at once; the sockets stay open until the test is over."""
    with contextlib.ExitStack() as stack:

        def connect(count=CLIENTS):
            for _ in range(count):
                stack.enter_context(socket.create_connection(port.address.address.sockaddr, timeout=30))

        yield connect


def accept_all(sock):
    sock.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            count += 1
    return count


def test_each_node_has_a_queue_and_all_of_them_get_connections(port, clients):
    sockets = [port.lend(process) for process in (TWO, ONE, THREE)]
    clients()
    counts = [accept_all(sock) for sock in sockets]
    assert sum(counts) == CLIENTS
    assert min(counts) > 0


def test_a_process_that_replaces_another_has_the_very_same_socket(port, clients):
    one, two = port.lend(ONE), port.lend(TWO)
    clients()
    next_one = Process(1)
    assert port.lend(next_one) is one
    port.take_back(ONE)
    clients()
    assert accept_all(one) > CLIENTS / 2
    port.take_back(next_one)
    accept_all(two)
    clients()
    assert (accept_all(one), accept_all(two)) == (0, CLIENTS)


def test_only_sockets_with_a_process_get_connections(port, clients):
    sockets = {process: port.lend(process) for process in (THREE, ONE, TWO)}
    port.take_back(ONE)
    clients()
    counts = [accept_all(sockets[process]) for process in (ONE, TWO, THREE)]
    assert counts[0] == 0
    assert min(counts[1:]) > 0
    port.take_back(THREE)
    clients()
    assert [accept_all(sockets[process]) for process in (ONE, TWO, THREE)] == [0, CLIENTS, 0]
    port.take_back(TWO)
    clients()
    assert accept_all(sockets[TWO]) == CLIENTS, "without any process, connections wait for the next one"
    port.lend(ONE)
    clients()
    assert accept_all(sockets[ONE]) == CLIENTS
    port.take_back(THREE)  # twice does no harm


def test_what_waits_without_a_process_is_for_the_others(port, clients):
    port.lend(ONE)
    two = port.lend(TWO)
    clients()
    assert port.orphans() == []
    port.take_back(TWO)
    for offers in (port.orphans(), port.look()):
        assert [(offer.process, offer.sock) for offer in offers] == [(ONE, two)]
        assert 0 < offers[0].most < CLIENTS


def test_what_waits_at_a_process_that_stands_still_is_for_the_others(port, clients):
    one = port.lend(ONE)
    port.lend(TWO)
    clients()
    accept_all(port.lend(TWO))
    assert port.look() == []
    assert [(offer.process, offer.sock) for offer in port.look()] == [(TWO, one)]


def test_with_one_node_there_is_nothing_to_look_for(port):
    port.lend(ONE)
    port.lend(Process(1))
    assert not port.is_spread
    assert port.look() == []
    port.lend(TWO)
    assert port.is_spread


def test_an_address_of_another_cluster_is_not_shared(port, address):
    port.lend(ONE)
    with pytest.raises(PortTaken, match=r"tiers.web.listen: cannot listen on"):
        SharedPort.bound(address, "tiers.web.listen")
    port.lend(TWO)
    with pytest.raises(PortTaken, match="cannot listen on"):
        SharedPort.bound(address, "tiers.web.listen")


def test_a_unix_socket_is_not_taken_from_a_cluster_whose_nodes_do_not_run_yet(tmp_path, monkeypatch):
    address = ListenAddress(Address(str(tmp_path / "a.sock"), 0))
    port = SharedPort.bound(address, "tiers.edge.listen")
    before = identity_of(address.address.host)
    with pytest.raises(PortTaken, match=r"tiers.web.listen: cannot listen on unix:.*in use"):
        SharedPort.bound(address, "tiers.web.listen")
    assert identity_of(address.address.host) == before

    def listens_still(path, identity):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        unlink_if(path, identity)

    monkeypatch.setattr("tierlb.local.shared_port.unlink_if", listens_still)
    port.close()
    assert identity_of(address.address.host) is None


def test_permissions_are_those_of_its_own_file_alone(tmp_path):
    address = ListenAddress(Address(str(tmp_path / "a.sock"), 0))
    port = SharedPort.bound(address, "tiers.edge.listen", 0o600)
    port.permit(0o660)
    assert stat.S_IMODE(os.stat(address.address.host).st_mode) == 0o660
    assert not port.has_lost_file
    os.unlink(address.address.host)
    port.permit(0o666)
    assert port.has_lost_file
    other = SharedPort.bound(address, "tiers.edge.listen", 0o600)
    port.permit(0o640)
    assert stat.S_IMODE(os.stat(address.address.host).st_mode) == 0o600
    port.close()
    other.close()
    assert not os.path.exists(address.address.host)


def test_a_node_that_cannot_be_lent_a_socket_is_no_reason_to_give_others_less(port, clients, monkeypatch):
    one = port.lend(ONE)

    def in_use(*_):
        raise OSError(errno.EADDRINUSE, "Address already in use")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "listen", in_use)
        with pytest.raises(PortTaken):
            port.lend(TWO)
    clients()
    assert accept_all(one) == CLIENTS
    port.lend(TWO)


def test_at_the_end_the_address_is_free(port, address):
    port.lend(ONE)
    port.lend(TWO)
    port.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address.address.sockaddr)
    SharedPort.bound(address, "tiers.edge.listen").close()
