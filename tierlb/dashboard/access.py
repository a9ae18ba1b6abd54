"""Who is heard: requests that mean this very host, pages of our own origin, and, for changes, whoever has the token.

The Host header must be a loopback name or the address listened on, so that no web page can reach the API by a name that
it points at loopback (DNS rebinding). A page of another origin can send a POST to loopback all the same, but it says
where it comes from, and is refused: also one of another port, where the cluster itself may serve other people's pages.
The token lies in a file that only its owner can read, so that of all who can connect to loopback one user alone can
make changes.
"""

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from tierlb.dashboard.answers import Answer
from tierlb.dashboard.refusals import Refusal, Refused

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
READING = frozenset({"GET", "HEAD"})
MOST_TOKEN_CHARS = 512


class KnownHostsOnly:
    """Middleware that answers what does not mean this host, or comes from a page that is not ours."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Answer | None:
        host = _field(scope, b"host") or ""
        if host_name(host) not in self._hosts:
            return Answer(Refusal("access", "this Host is not served here: use 127.0.0.1"), 421)
        origin = _field(scope, b"origin")
        if origin is not None and scope["method"] not in READING and origin.lower() != f"http://{host.lower()}":
            return Answer(Refusal("access", "pages of another origin can change nothing here"), 403)
        return None


def host_name(header: str) -> str:
    """The name in a Host header, lower case, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def shows_token(authorization: str, token: str) -> bool:
    """Whether the Authorization field holds the token."""
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip()[:MOST_TOKEN_CHARS].encode(), token.encode())


def demand_token(authorization: str, token: str) -> None:
    """Raises Refused unless the Authorization field holds the token."""
    if shows_token(authorization, token):
        return
    told = "this is not the token of this start" if authorization else "changes need the token"
    raise Refused(
        401,
        "access",
        f"{told}: it is in the file admin-token of the state directory, to be sent as Authorization: Bearer TOKEN",
        {"www-authenticate": 'Bearer realm="tierlb"'},
    )


def _field(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for field, value in scope["headers"] if field == name), None)
