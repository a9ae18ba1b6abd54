"""Where a tier listens for clients: its addresses as the file has them, in words, and as sockets."""

from tierlb.model.address import ListenAddress
from tierlb.model.listener import TierListener
from tierlb.model.topology import Tier


def public_addresses(tier: Tier) -> tuple[ListenAddress, ...]:
    """Where the tier listens, and for what."""
    return tuple(ListenAddress(each.address, tier.protocol) for each in tier.listen)


def listed_addresses(tier: Tier) -> str:
    """The same in words."""
    return ", ".join(map(str, public_addresses(tier)))


def bound_listeners(tier: Tier) -> dict[ListenAddress, TierListener]:
    """The sockets that listen for the tier: of a listener at `*` one for each family."""
    return {ListenAddress(address, tier.protocol): each for each in tier.listen for address in each.address.bound}
