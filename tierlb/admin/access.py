"""Which requests are answered: those that mean this very host, from pages of our own origin, and with the token.

The Host header must be a loopback name, the address that was connected to, or one of `admin.hosts`, and nothing else
beside a port. So no web page can reach the API by a name that it points at this machine (DNS rebinding). A page of
another origin can send a POST to loopback all the same, but browsers name that origin, and it is refused. So is one of
another port, where the cluster itself may serve other people's pages.

Clients on this machine may read without the token. Changes, explanations and requests from elsewhere need it, and so
does what a proxy on this machine passes on. Only its owner can read the token's file, so other users of this machine
can connect to loopback but change nothing. `/healthz` is for load balancers and needs none; it names no nodes to
clients without the token.
"""

import hmac
import ipaddress
import re

import attrs

from tierlb.admin.refusals import RequestRefused
from tierlb.net.http_server import HttpRequest

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
READING = frozenset({"GET", "HEAD"})
MOST_TOKEN_CHARS = 512
HEALTH = "/healthz"
HOST_FIELD_PATTERN = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_-]+(?:\.[a-z0-9_-]+)*))(?::([1-9][0-9]{0,4}))?")
"""A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port. No dot stands at its end."""
PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Fields that a proxy adds to the requests that it passes on."""


@attrs.frozen
class Hosts:
    """`bound`: the address that is listened on; `named`: `admin.hosts`, lower case."""

    bound: str
    named: tuple[str, ...] = ()

    def means_here(self, name: str, connected_to: str) -> bool:
        """Whether a Host header with this name means this API, on a connection to that address."""
        if name in LOOPBACK_NAMES or name in self.named:
            return True
        return name == (connected_to if ipaddress.ip_address(self.bound).is_unspecified else self.bound)


@attrs.frozen
class Access:
    """Which requests are answered. `token`: None where no answer needs one."""

    hosts: Hosts
    token: str | None

    def admit(self, request: HttpRequest) -> bool:
        """Whether the request comes from this machine or shows the token. Raises RequestRefused for one that does not
        mean this host, comes from a page that is not ours, or from elsewhere without the token."""
        given = request.values("host")
        host = given[0].lower() if len(given) == 1 else ""
        if not self.hosts.means_here(host_of_field(host), request.server):
            text = "this Host is not served here: use 127.0.0.1, or name it in admin.hosts of the topology file"
            raise RequestRefused(421, "access", text)
        own = f"{request.scheme}://{host}"
        if request.method not in READING and any(origin.lower() != own for origin in request.values("origin")):
            raise RequestRefused(403, "access", "pages of another origin can change nothing here")
        is_trusted = self.token is None or is_local(request) or shows_token(request, self.token)
        if not is_trusted and request.path != HEALTH:
            raise _token_needed(request, "requests from other machines need the token")
        return is_trusted


def host_of_field(header: str) -> str:
    """The name or address in a Host header, lower case and without brackets; "" if it is no such header."""
    found = HOST_FIELD_PATTERN.fullmatch(header.lower())
    if found is None or int(found[3] or 1) > 65535:
        return ""
    return found[1] or found[2] or ""


def is_local(request: HttpRequest) -> bool:
    """Whether the request comes from this machine: by loopback, or from the very address that it was sent to. What a
    proxy here passes on does not."""
    if any(request.values(name) for name in PASSED_ON):
        return False
    try:
        address = ipaddress.ip_address(request.client)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or request.client == request.server


def shows_token(request: HttpRequest, token: str) -> bool:
    """Whether an Authorization field holds the token."""
    return any(_holds_token(field, token) for field in request.values("authorization"))


def demand_token(request: HttpRequest, token: str) -> None:
    """Raises RequestRefused unless an Authorization field holds the token."""
    if not shows_token(request, token):
        raise _token_needed(request, "changes and explanations need the token")


def _holds_token(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip()[:MOST_TOKEN_CHARS].encode(), token.encode())


def _token_needed(request: HttpRequest, otherwise: str) -> RequestRefused:
    """The refusal where another token was given, or none."""
    problem = "this is not the token of this start" if request.values("authorization") else otherwise
    return RequestRefused(
        401,
        "access",
        f"{problem}: it is in the file admin-token of the state directory, to be sent as Authorization: Bearer TOKEN",
        {"WWW-Authenticate": 'Bearer realm="tierlb"'},
    )
