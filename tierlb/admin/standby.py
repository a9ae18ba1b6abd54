"""The admin API of a controller that is not the active one: it refuses every request, with the reason."""

import socket
import ssl
from collections.abc import Callable
from functools import partial

import trio

from tierlb.admin.access import Access, Hosts
from tierlb.admin.answers import refused_answer
from tierlb.admin.refusals import RequestRefused
from tierlb.admin.serving import MOST_ADMIN_STRANGERS, listener_of, serve_requests
from tierlb.net.door import Door
from tierlb.net.http_server import HttpAnswer, HttpRequest
from tierlb.telemetry.internal_errors import InternalErrors


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
    access = Access(Hosts(bound.getsockname()[0], hosts), None)

    async def refuse(request: HttpRequest) -> HttpAnswer:
        try:
            access.admit(request)
        except RequestRefused as refused:
            return refused_answer(refused)
        return refused_answer(RequestRefused(503, "standby", reason()))

    listening = listener_of(bound)
    task_status.started()
    door = Door(partial(errors.note, "admin connection"), most_strangers=MOST_ADMIN_STRANGERS)
    await serve_requests(refuse, listening, door, tls=tls)
