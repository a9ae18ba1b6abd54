import attrs
import pytest

from tierlb.model.address import Address, read_address
from tierlb.model.listener import TierListener
from tierlb.model.places import bound_listeners, listed_addresses, secured_listeners
from tierlb.model.tls import CertificateFiles, ListenerTls, NoTls
from tierlb.model.topology import Forward, Kind, Match, Route, Share, Tier, Topology

OTHER = TierListener(Address("/run/a.sock", 0), mode=0o600)


def test_every_address_is_one_listener_and_a_socket_for_each_family() -> None:
    tier = Tier("web", Kind.L7, (), listen=(TierListener(Address("*", 80), redirect_https=443), OTHER))
    assert listed_addresses(tier) == "*:80, unix:/run/a.sock"
    assert {str(place): each for place, each in bound_listeners(tier).items()} == {
        "0.0.0.0:80": tier.listen[0],
        "[::]:80": tier.listen[0],
        "unix:/run/a.sock": OTHER,
    }


TLS = ListenerTls((CertificateFiles("a.pem", "a.key"),))


def test_where_clients_speak_tls_is_said_and_a_listener_decides_before_its_tier() -> None:
    own, plain = TierListener(Address("127.0.0.1", 443), tls=TLS), TierListener(Address("127.0.0.1", 80))
    off, sends = attrs.evolve(plain, tls=NoTls.OFF), attrs.evolve(plain, redirect_https=443)
    tier = Tier("web", Kind.L7, (), listen=(own, plain))
    assert listed_addresses(tier) == "127.0.0.1:443 (TLS), 127.0.0.1:80"
    assert listed_addresses(attrs.evolve(tier, tls=TLS)) == "127.0.0.1:443 (TLS), 127.0.0.1:80 (TLS)"
    for each in (off, sends):
        assert listed_addresses(attrs.evolve(tier, listen=(own, each), tls=TLS)) == "127.0.0.1:443 (TLS), 127.0.0.1:80"


def test_clients_of_an_edge_speak_tls_with_the_tier_below_that_has_it() -> None:
    def secured(edge: Tier, tls: ListenerTls | None) -> int:
        below = Tier("web", Kind.L7, (), listen=(TierListener(Address("127.0.0.1", 444), tls=TLS),), tls=tls)
        return len(secured_listeners(Topology("shop", {"edge": edge, "web": below}, {}), edge))

    routes = (Route(Match(), Forward((Share(1.0, ("web",)),))),)
    edge = Tier("edge", Kind.L4, routes, listen=TierListener(Address("127.0.0.1", 443)).address)
    assert secured(edge, TLS) == 1
    assert secured(edge, None) == 0, "the tls of its listener is for those that connect there"
    assert secured(attrs.evolve(edge, kind=Kind.L7), TLS) == 0


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "*:80", "unix:/run/a.sock"])
def test_what_is_written_of_an_address_is_read_again(text: str) -> None:
    assert str(read_address(text)) == text
