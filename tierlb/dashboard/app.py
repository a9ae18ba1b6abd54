"""The admin API: what the cluster is and does, and the verbs that change it, for people, programs and health checks.

What can be asked is listed in operations.py, who is heard in access.py. Here the list becomes an ASGI app, in which
whatever is refused is told in one form, and is served on a socket. It listens where the topology file says, on
loopback unless told otherwise.
"""

import socket
from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_asgi
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tierlb.controlplane.changes import Changes
from tierlb.dashboard.access import LOOPBACK_NAMES, KnownHostsOnly, demand_token
from tierlb.dashboard.answers import Answer
from tierlb.dashboard.openapi import document
from tierlb.dashboard.operations import Cluster, Operation, operations
from tierlb.dashboard.reading import read_body
from tierlb.dashboard.refusals import REFUSALS, Refusal, Refused, refusal_of

GRACE_S = 0.5
DESCRIPTION = "/v1/openapi.json"


def make_app(cluster: Cluster, changes: Changes, token: str, listen_host: str) -> Starlette:
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
        middleware=[Middleware(KnownHostsOnly, hosts=LOOPBACK_NAMES | {listen_host})],
        exception_handlers={HTTPException: _not_served},
    )


async def serve_admin(
    bound: socket.socket,
    cluster: Cluster,
    changes: Changes,
    token: str,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API on a listening socket, which becomes Hypercorn's, until cancelled."""
    host: str = bound.getsockname()[0]
    await serve_app(make_app(cluster, changes, token, host), bound, task_status=task_status)


async def serve_app(
    app: Starlette, bound: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve it on a listening socket, which becomes Hypercorn's, until cancelled."""
    config = Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.graceful_timeout = GRACE_S
    config.errorlog = None
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_asgi, app, config)
        task_status.started()


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
            status, refusal = refusal_of(problem, changes.progress)
            return Answer(refusal, status)
        except Exception as error:
            changes.controller.errors.note("admin request", error, path=operation.path)
            return Answer(Refusal("internal", "an internal error: see internal_error in the controller's log"), 500)

    return endpoint


async def _not_served(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    said = f"{problem.detail}: see {DESCRIPTION}"
    return Answer(Refusal("request", said), problem.status_code, dict(problem.headers or {}))
