from tierlb.net.networks import AcceptedNetworks


def test_an_address_is_accepted_if_one_of_the_networks_has_it() -> None:
    networks = AcceptedNetworks(("10.0.0.0/8", "2001:db8::/32"))
    for _ in range(2):
        assert networks.accept("10.1.2.3")
        assert networks.accept("2001:db8::1")
        assert not networks.accept("11.1.2.3")
        assert not networks.accept("2001:db9::1")


def test_without_networks_every_address_is_accepted() -> None:
    assert AcceptedNetworks(()).accept("192.0.2.1")


def test_a_link_local_address_may_carry_its_interface() -> None:
    assert AcceptedNetworks(("fe80::/10",)).accept("fe80::1%eth0")
