"""Where a tier listens for clients: its addresses as the file has them, in words, and as sockets."""

from tierlb.model.address import ListenAddress
from tierlb.model.listener import TierListener
from tierlb.model.tls import ListenerTls, NoTls
from tierlb.model.topology import Kind, Tier, Topology


def public_addresses(tier: Tier) -> tuple[ListenAddress, ...]:
    """Where the tier listens, and for what."""
    return tuple(ListenAddress(each.address, tier.protocol) for each in tier.listen)


def listed_addresses(tier: Tier) -> str:
    """The same in words, with what clients speak there."""
    listed = zip(public_addresses(tier), tier.listen, strict=True)
    return ", ".join(f"{address}{' (TLS)' if listener_tls(tier, each) else ''}" for address, each in listed)


def listener_tls(tier: Tier, listener: TierListener) -> ListenerTls | None:
    """What clients speak at this listener of the tier; None: no TLS, as where all are sent to https."""
    if listener.redirect_https or listener.tls is NoTls.OFF:
        return None
    return listener.tls or tier.tls


def secured_listeners(topology: Topology, tier: Tier) -> tuple[TierListener, ...]:
    """Those of the tier where clients speak TLS, with it or with a tier below that it passes their connections to."""
    passed = tier.kind is Kind.L4 and any(_ends_passed_tls(topology, each) for each in tier.targets)
    return tuple(each for each in tier.listen if passed or listener_tls(tier, each) is not None)


def _ends_passed_tls(topology: Topology, name: str) -> bool:
    tier = topology.tiers.get(name)
    if tier is None or tier.tls is not None:
        return tier is not None
    return tier.kind is Kind.L4 and any(_ends_passed_tls(topology, each) for each in tier.targets)


def bound_listeners(tier: Tier) -> dict[ListenAddress, TierListener]:
    """The sockets that listen for the tier: of a listener at `*` one for each family."""
    return {ListenAddress(address, tier.protocol): each for each in tier.listen for address in each.address.bound}
