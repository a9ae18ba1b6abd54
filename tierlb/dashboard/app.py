"""The admin API: what the cluster is doing, for people, programs and health checks.

`GET /v1/status` is the whole tree as JSON, with figures of just now, for which it waits a moment; `GET /healthz`
answers 200 while every tier and pool has at least one that serves, else 503, at once. `POST /v1/explain` gives a nonce;
requests with `X-Tierlb-Explain: NONCE` are then explained for a while. It answers when most nodes should know of it,
which they confirm to nobody: whoever gets no explanation yet asks again and is given the same nonce.

The Host header must be a loopback name or the address listened on, so that no web page can reach the API by a name that
it points at loopback (DNS rebinding). A page of another origin can send a POST to loopback all the same, but it says
where it comes from, and is refused.
"""

import socket
from typing import Protocol

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_asgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tierlb.controlplane.status import ClusterStatus, as_json

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
READING = frozenset({"GET", "HEAD"})
GRACE_S = 0.5
EXPLAIN_S = 10.0
LEARN_S = 0.1
"""Time for the nonce to pass down the tree: some ms for each tier, more on busy machines."""


class Cluster(Protocol):
    """What the API shows; the controller."""

    def status(self) -> ClusterStatus:
        """What is known already."""

    async def observe(self) -> ClusterStatus:
        """The same after asking the nodes for their figures; waits a moment at most."""

    def explain(self, ttl_s: float) -> str:
        """A nonce: requests that carry it are explained for so long."""


def make_app(cluster: Cluster, listen_host: str) -> Starlette:
    """The API over whatever gives the status."""

    async def show_status(_: Request) -> Response:
        return JSONResponse(as_json(await cluster.observe()))

    async def show_health(_: Request) -> Response:
        now = cluster.status()
        if now.serving:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("\n".join(("not serving", *now.missing)) + "\n", status_code=503)

    async def begin_explaining(_: Request) -> Response:
        nonce = cluster.explain(EXPLAIN_S)
        await trio.sleep(LEARN_S)
        return JSONResponse({"nonce": nonce, "ttl_s": EXPLAIN_S})

    return Starlette(
        routes=[
            Route("/v1/status", show_status, methods=["GET"]),
            Route("/healthz", show_health, methods=["GET"]),
            Route("/v1/explain", begin_explaining, methods=["POST"]),
        ],
        middleware=[Middleware(_KnownHostsOnly, hosts=LOOPBACK_NAMES | {listen_host})],
    )


async def serve_admin(
    bound: socket.socket,
    cluster: Cluster,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API on a listening socket, which becomes Hypercorn's, until cancelled."""
    config = Config()
    host: str = bound.getsockname()[0]
    config.bind = [f"fd://{bound.detach()}"]
    config.graceful_timeout = GRACE_S
    config.errorlog = None
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_asgi, make_app(cluster, host), config)
        task_status.started()


def host_name(header: str) -> str:
    """The name in a Host header, lower case, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


class _KnownHostsOnly:
    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if host_name(_field(scope, b"host") or "") not in self._hosts:
            return PlainTextResponse("this Host is not served here: use 127.0.0.1\n", status_code=421)
        origin = _field(scope, b"origin")
        if origin is not None and scope["method"] not in READING and not self._is_own(origin):
            return PlainTextResponse("pages of another origin can change nothing here\n", status_code=403)
        return None

    def _is_own(self, origin: str) -> bool:
        return host_name(origin.partition("://")[2]) in self._hosts


def _field(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for field, value in scope["headers"] if field == name), None)
