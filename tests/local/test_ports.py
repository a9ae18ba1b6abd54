import random
import socket

import pytest

from tierlb.local.ports import LOWEST_PORT, FreePorts, PortTaken, check_free, listen
from tierlb.model.address import Address, ListenAddress
from tierlb.model.topology import Kind, Tier, Topology
from tierlb.net.unix_socket import unlink_if


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield Address(*sock.getsockname())


def test_a_taken_port_is_named_with_its_tier_and_what_to_do(taken):
    tiers = {"edge": Tier("edge", Kind.L4, (), listen=taken, replicas=2)}
    with pytest.raises(PortTaken) as caught:
        check_free(Topology("shop", tiers, {}))
    assert f"tiers.edge.listen: cannot listen on {taken}: Address already in use" in str(caught.value)
    assert f"ss -ltnp 'sport = :{taken.port}'" in str(caught.value)


def test_free_ports_pass_and_are_free_afterwards():
    address = Address("127.0.0.1", FreePorts(random.Random(1)).take())
    topology = Topology("shop", {"edge": Tier("edge", Kind.L4, (), listen=address)}, {})
    check_free(topology)
    check_free(topology)
    listen(ListenAddress(address), "x").close()


def test_a_unix_socket_is_tried_out_and_removed_while_it_listens(tmp_path, monkeypatch):
    address = Address(str(tmp_path / "a.sock"), 0)
    topology = Topology("shop", {"edge": Tier("edge", Kind.L4, (), listen=address)}, {})

    def listens_still(path, identity):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        unlink_if(path, identity)

    monkeypatch.setattr("tierlb.local.ports.unlink_if", listens_still)
    check_free(topology)
    assert list(tmp_path.iterdir()) == []
    with listen(ListenAddress(address), "x"), pytest.raises(PortTaken, match=r"tiers\.edge\.listen: .* in use"):
        check_free(topology)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(PortTaken, match="cannot listen on 192\\.0\\.2\\.1:8080"):
        listen(ListenAddress(Address("192.0.2.1", 8080)), "admin.listen")


def test_ports_are_given_once_and_below_the_ephemeral_range():
    ports = FreePorts(random.Random(3))
    given = [ports.take() for _ in range(50)]
    assert len(set(given)) == 50
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        ephemeral_from = int(file.read().split()[0])
    assert all(LOWEST_PORT <= port < max(ephemeral_from, LOWEST_PORT + 1000) for port in given)


def test_a_port_in_use_is_not_given():
    first = FreePorts(random.Random(5)).take()
    with socket.create_server(("127.0.0.1", first)):
        assert FreePorts(random.Random(5)).take() != first
