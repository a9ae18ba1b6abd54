"""The admin API of a controller that is not the active one: says so, whatever it is asked."""

import socket
import ssl
from collections.abc import Callable
from functools import partial

import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tierlb.admin.access import Hosts, KnownHostsOnly
from tierlb.admin.answers import Answer
from tierlb.admin.refusals import Refusal
from tierlb.admin.serving import MOST_STRANGERS, listener_of, serve
from tierlb.net.door import Door
from tierlb.telemetry.internal_errors import InternalErrors

METHODS = ["GET", "POST"]


async def serve_standby(
    bound: socket.socket,
    reason: Callable[[], str],
    errors: InternalErrors,
    hosts: tuple[str, ...] = (),
    tls: ssl.SSLContext | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Refuse everything with 503 and `reason` on a listening socket, which is closed at the end, until cancelled."""

    async def refuse(_: Request) -> Response:
        return Answer(Refusal("standby", reason()), 503)

    host: str = bound.getsockname()[0]
    app = Starlette(
        routes=[Route("/{path:path}", refuse, methods=METHODS)],
        middleware=[Middleware(KnownHostsOnly, hosts=Hosts(host, hosts), token=None)],
    )
    listening = listener_of(bound)
    task_status.started()
    door = Door(partial(errors.note, "admin connection"), most_strangers=MOST_STRANGERS)
    await serve(app, listening, door, tls=tls)
