"""Which requests are answered: those that mean this very host, of pages of our own origin, and with the token.

The Host header must be a loopback name, the address that was connected to, or one of `admin.hosts`, and nothing else
beside a port: no web page can reach the API by a name that it points at this machine (DNS rebinding). A page of another
origin can send a POST to loopback all the same, but it says where it comes from, and is refused: also one of another
port, where the cluster itself may serve other people's pages.

Clients on this machine may read without the token; changes, explanations and requests from elsewhere need it,
and so does what a proxy on this machine passes on. The token lies in a file that only its owner can read, so that of
all who can connect to loopback one user alone can make changes. `/healthz` is for load balancers and needs none; it
names no nodes to strangers.
"""

import hmac
import ipaddress
import re

import attrs
from starlette.types import ASGIApp, Receive, Scope, Send

from tierlb.admin.answers import Answer
from tierlb.admin.refusals import Refusal, Refused

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
READING = frozenset({"GET", "HEAD"})
MOST_TOKEN_CHARS = 512
HEALTH = "/healthz"
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_-]+(?:\.[a-z0-9_-]+)*))(?::([1-9][0-9]{0,4}))?")
"""A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port. No dot stands at its end."""
PASSED_ON = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})
"""Fields by which a proxy says that the request is not its own."""
IS_LOCAL = "tierlb.local"
"""In the scope of a request: whether it comes from this machine or shows the token."""


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


class KnownHostsOnly:
    """Middleware that answers what does not mean this host, comes from a page that is not ours, or from elsewhere
    without the token (None: nothing is said that needs one)."""

    def __init__(self, app: ASGIApp, hosts: Hosts, token: str | None) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Answer | None:
        given = _fields(scope, b"host")
        host = given[0].lower() if len(given) == 1 else ""
        if not self._hosts.means_here(host_name(host), (scope.get("server") or ("",))[0]):
            said = "this Host is not served here: use 127.0.0.1, or name it in admin.hosts of the topology file"
            return Answer(Refusal("access", said), 421)
        origins = _fields(scope, b"origin")
        own = f"{scope.get('scheme', 'http')}://{host}"
        if scope["method"] not in READING and any(origin.lower() != own for origin in origins):
            return Answer(Refusal("access", "pages of another origin can change nothing here"), 403)
        shown = _fields(scope, b"authorization")
        scope[IS_LOCAL] = (
            self._token is None or is_local(scope) or any(shows_token(field, self._token) for field in shown)
        )
        if scope[IS_LOCAL] or scope["path"] == HEALTH:
            return None
        refused = token_needed(bool(shown), "requests from other machines need the token")
        return Answer(refused.refusal, refused.status, refused.fields)


def host_name(header: str) -> str:
    """The name or address in a Host header, lower case and without brackets; "" if it is no such header."""
    found = HOST.fullmatch(header.lower())
    if found is None or int(found[3] or 1) > 65535:
        return ""
    return found[1] or found[2] or ""


def is_local(scope: Scope) -> bool:
    """Whether the request comes from this machine: by loopback, or from the very address that it was sent to. What a
    proxy here passes on does not."""
    client, server = ((scope.get(end) or ("",))[0] for end in ("client", "server"))
    if any(name in PASSED_ON for name, _ in scope["headers"]):
        return False
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or client == server


def shows_token(authorization: str, token: str) -> bool:
    """Whether the Authorization field holds the token."""
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip()[:MOST_TOKEN_CHARS].encode(), token.encode())


def demand_token(authorization: str, token: str) -> None:
    """Raises Refused unless the Authorization field holds the token."""
    if not shows_token(authorization, token):
        raise token_needed(bool(authorization), "changes and explanations need the token")


def token_needed(given: bool, otherwise: str) -> Refused:
    """What to say where another token was given, or none."""
    told = "this is not the token of this start" if given else otherwise
    return Refused(
        401,
        "access",
        f"{told}: it is in the file admin-token of the state directory, to be sent as Authorization: Bearer TOKEN",
        {"www-authenticate": 'Bearer realm="tierlb"'},
    )


def _fields(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for field, value in scope["headers"] if field == name]
