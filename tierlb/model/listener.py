"""Where a tier listens for clients: an address, and what is particular to it."""

import attrs

from tierlb.model.address import Address

HTTPS_PORT = 443


@attrs.frozen
class TierListener:
    """One place where a tier listens for clients. `mode`: the permissions of a unix socket; None: what the umask of the
    process that opens it leaves. `redirect_https`: the port of the https URL with which each request is
    answered; 0: none is."""

    address: Address
    mode: int | None = None
    redirect_https: int = 0


def as_listeners(given: Address | tuple[TierListener, ...] | None) -> tuple[TierListener, ...]:
    """One address stands for a listener without settings, None for no listener."""
    if given is None:
        return ()
    return (TierListener(given),) if isinstance(given, Address) else given
