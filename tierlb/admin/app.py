"""The admin API: what the cluster is and does, and the verbs that change it, for people, programs and health checks.

What can be asked is listed in operations.py, which requests are answered in access.py. Here the list becomes an ASGI
app that gives every refusal the same form, and is served on a socket. It listens where the topology file says, by
default on loopback.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from tierlb.admin.access import Hosts, KnownHostsOnly, demand_token, shows_token
from tierlb.admin.answers import Answer
from tierlb.admin.openapi import document
from tierlb.admin.operations import Cluster, Operation, operations
from tierlb.admin.reading import read_body
from tierlb.admin.refusals import REFUSALS, Refusal, Refused, refusal_of
from tierlb.admin.serving import MOST_STRANGERS, listener_of, serve
from tierlb.controller.changes import Changes
from tierlb.net.door import Door

DESCRIPTION = "/v1/openapi.json"


def make_app(cluster: Cluster, changes: Changes, token: str, hosts: Hosts) -> Starlette:
    """The API over whatever gives the status and carries changes out; `token` is what changes need."""
    listed = operations(cluster, changes)
    described = Answer(document(listed))

    async def describe(_: Request) -> Response:
        return described

    return Starlette(
        routes=[
            *(Route(each.path, _endpoint(each, changes, token), methods=[each.method]) for each in listed),
            Route(DESCRIPTION, describe, methods=["GET"]),
        ],
        middleware=[Middleware(KnownHostsOnly, hosts=hosts, token=token)],
        exception_handlers={HTTPException: _not_served},
    )


async def serve_admin(
    bound: socket.socket,
    cluster: Cluster,
    changes: Changes,
    token: str,
    tls: ssl.SSLContext | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API on a listening socket, which is closed at the end, until cancelled."""
    host: str = bound.getsockname()[0]
    errors, log = changes.controller.errors, changes.log

    def note_drop(address: str) -> None:
        log.warning("stranger_dropped", address=address, reason="too many connections to the admin API")

    def known(scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return shows_token(given.decode("latin-1"), token)

    door = Door(partial(errors.note, "admin connection"), note_drop, MOST_STRANGERS)
    listening = listener_of(bound)
    task_status.started()
    hosts = Hosts(host, changes.controller.topology.admin_hosts)
    await serve(make_app(cluster, changes, token, hosts), listening, door, known, tls)


def _endpoint(operation: Operation, changes: Changes, token: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            if operation.token:
                demand_token(request.headers.get("authorization", ""), token)
            body = await read_body(request, operation.body) if operation.body is not None else None
            return await operation.handle(request, body)
        except Refused as refused:
            return Answer(refused.refusal, refused.status, refused.fields)
        except REFUSALS as problem:
            status, refusal = refusal_of(problem, changes.runner.progress)
            return Answer(refusal, status)
        except Exception as error:
            changes.controller.errors.note("admin request", error, path=operation.path)
            return Answer(Refusal("internal", "an internal error: see internal_error in the controller's log"), 500)

    return endpoint


async def _not_served(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    said = f"{problem.detail}: see {DESCRIPTION}"
    return Answer(Refusal("request", said), problem.status_code, dict(problem.headers or {}))
