import pytest

from tierlb.model.address import Address, read_address
from tierlb.model.listener import TierListener
from tierlb.model.places import bound_listeners, listed_addresses
from tierlb.model.topology import Kind, Tier

OTHER = TierListener(Address("/run/a.sock", 0), mode=0o600)


def test_every_address_is_one_listener_and_a_socket_for_each_family() -> None:
    tier = Tier("web", Kind.L7, (), listen=(TierListener(Address("*", 80), redirect_https=443), OTHER))
    assert listed_addresses(tier) == "*:80, unix:/run/a.sock"
    assert {str(place): each for place, each in bound_listeners(tier).items()} == {
        "0.0.0.0:80": tier.listen[0],
        "[::]:80": tier.listen[0],
        "unix:/run/a.sock": OTHER,
    }


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "*:80", "unix:/run/a.sock"])
def test_what_is_written_of_an_address_is_read_again(text: str) -> None:
    assert str(read_address(text)) == text
