import pytest

from tierlb.model.address import Address
from tierlb.model.listener import TierListener, as_listeners

ADDRESS = Address("127.0.0.1", 80)
OTHER = TierListener(Address("/run/a.sock", 0), mode=0o600)


@pytest.mark.parametrize(
    ("given", "listeners"), [(None, ()), (ADDRESS, (TierListener(ADDRESS),)), ((OTHER,), (OTHER,)), ((), ())]
)
def test_one_address_stands_for_a_listener(given: object, listeners: tuple[TierListener, ...]) -> None:
    assert as_listeners(given) == listeners  # type: ignore[arg-type]
