"""Which addresses a node opens, and which ones others get for them."""

import pytest

from tierlb.model.address import Address, parse_address
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Kind
from tierlb.node.placement import Placement
from tierlb.topology.allot import ANY_PORT

CHECK, PUBLIC = Address("127.0.0.1", 7777), Address("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("placement", "public", "inner", "accept_from", "check"),
    [
        (Placement(), "127.0.0.1:8080", "127.0.0.1:0", ("127.0.0.1/32",), "127.0.0.1:7777"),
        (Placement(host="0.0.0.0", data_port=7945), "0.0.0.0:8080", "0.0.0.0:7945", (), "0.0.0.0:7777"),
        (Placement(host="10.0.0.3"), "10.0.0.3:8080", "10.0.0.3:0", (), "10.0.0.3:7777"),
        (Placement(host="::"), "[::]:8080", "[::]:0", (), "[::]:7777"),
        (Placement(data_port=7945), "127.0.0.1:8080", "127.0.0.1:7945", ("127.0.0.1/32",), "127.0.0.1:7777"),
    ],
    ids=["at home", "container", "one interface", "ipv6", "port"],
)
def test_a_snapshot_is_served_where_this_machine_says(placement, public, inner, accept_from, check):
    listeners = (Listener(PUBLIC, shared=True), Listener(ANY_PORT, inner=True, accept_from=("127.0.0.1/32",)))
    here = placement.localised(Snapshot(1, "shop", "web", Kind.L7, listeners, (), agent_check=CHECK))
    assert [str(listener.address) for listener in here.listeners] == [public, inner]
    assert [listener.accept_from for listener in here.listeners] == [(), accept_from]
    assert (here.listeners[0].shared, here.listeners[1].inner, str(here.agent_check)) == (True, True, check)


@pytest.mark.parametrize(
    ("advertised", "here", "bound", "announced"),
    [
        ("", "10.0.0.3", "0.0.0.0:7945", "10.0.0.3:7945"),
        ("", "", "0.0.0.0:7945", "0.0.0.0:7945"),
        ("", "10.0.0.3", "127.0.0.1:4001", "127.0.0.1:4001"),
        ("192.0.2.1", "10.0.0.3", "0.0.0.0:7945", "192.0.2.1:7945"),
        ("192.0.2.1", "", "10.0.0.3:7945", "192.0.2.1:7945"),
        ("", "fd00::3", "[::]:7945", "[fd00::3]:7945"),
    ],
)
def test_others_get_an_address_at_which_they_reach_it(advertised, here, bound, announced):
    assert str(Placement(advertised=advertised).announced(parse_address(bound), here)) == announced


@pytest.mark.parametrize(
    ("placement", "host", "opened"),
    [
        (Placement(), "0.0.0.0", "0.0.0.0:0"),
        (Placement(), "192.0.2.1", "192.0.2.1:0"),
        (Placement(host="10.0.0.3", data_port=7945), "0.0.0.0", "10.0.0.3:7945"),
    ],
)
def test_a_port_for_clients_is_opened_where_its_parents_listen(placement, host, opened):
    listener = Listener(Address(host, 0), inner=True, direct=True)
    (here,) = placement.localised(Snapshot(1, "shop", "web", Kind.L7, (listener,), ())).listeners
    assert (str(here.address), here.direct, here.accept_from) == (opened, True, ())


def test_a_port_on_all_addresses_of_ipv6_is_not_found_at_one_of_ipv4():
    assert str(Placement().announced(parse_address("[::]:4001"), "127.0.0.1")) == "[::1]:4001"
