"""Where a tier listens for clients: an address, and what is particular to it; the versions of the PROXY protocol."""

import enum

import attrs

from tierlb.model.address import Address
from tierlb.model.tls import ListenerTls, NoTls

HTTPS_PORT = 443


class ProxyVersion(enum.Enum):
    """A version of the PROXY protocol, with which a balancer announces the client of a connection."""

    V1 = "v1"
    V2 = "v2"


@attrs.frozen
class AcceptProxy:
    """Balancers above that are not of this cluster, by networks in CIDR form: their connections begin with a PROXY
    header, of either version."""

    accept_from: tuple[str, ...]


@attrs.frozen
class TierListener:
    """One place where a tier listens for clients. `mode`: the permissions of a unix socket; None: what the umask of the
    process that opens it leaves. `redirect_https`: the port of the https URL with which each request is
    answered; 0: none is. `tls`: of this listener alone; None: as the tier has it."""

    address: Address
    mode: int | None = None
    redirect_https: int = 0
    proxy_protocol: AcceptProxy | None = None
    tls: ListenerTls | NoTls | None = None


def as_listeners(given: Address | tuple[TierListener, ...] | None) -> tuple[TierListener, ...]:
    """One address stands for a listener without settings, None for no listener."""
    if given is None:
        return ()
    return (TierListener(given),) if isinstance(given, Address) else given
