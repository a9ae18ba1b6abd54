"""The admin API: what the cluster is and does, and the verbs that change it, for people, programs and health checks.

operations.py lists what can be requested, access.py decides which requests are answered. Here the list becomes a
request handler with one form for refusals, served on a socket. The topology file gives its address; the default is on
loopback.
"""

import socket
import ssl
from functools import partial

import attrs
import trio

from tierlb.admin.access import Access, Hosts, demand_token, shows_token
from tierlb.admin.answers import json_answer, refused_answer
from tierlb.admin.openapi import openapi_document
from tierlb.admin.operations import Call, Cluster, Operation, operations
from tierlb.admin.reading import read_body
from tierlb.admin.refusals import REFUSALS, Refusal, RequestRefused, refusal_of
from tierlb.admin.serving import MOST_ADMIN_STRANGERS, listener_of, serve_requests
from tierlb.controller.changes import Changes
from tierlb.net.door import Door
from tierlb.net.http_server import HttpAnswer, HttpRequest

DESCRIPTION = "/v1/openapi.json"


@attrs.frozen(eq=False)
class AdminApp:
    """Answers requests with what the operations give. `routes`: the operations of each path, by their methods."""

    access: Access
    changes: Changes
    described: HttpAnswer
    routes: dict[str, dict[str, Operation]]

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Every request gets an answer, refusals and faults of the program included."""
        try:
            is_trusted = self.access.admit(request)
            operation, number = self._route(request)
            if operation is None:
                return self.described
            return await self._carry_out(operation, request, number, is_trusted)
        except RequestRefused as refused:
            return refused_answer(refused)

    def _route(self, request: HttpRequest) -> tuple[Operation | None, str]:
        """The operation, None for the description, and the number in its path. Raises RequestRefused."""
        path, number = request.path, ""
        if path not in self.routes and path != DESCRIPTION:
            head, _, number = path.rpartition("/")
            path = f"{head}/{{number}}"
        known = self.routes.get(path, {}) if path != DESCRIPTION else {"GET": None}
        method = "GET" if request.method == "HEAD" else request.method
        if not known or (not number and path.endswith("{number}")):
            raise RequestRefused(404, "request", f"Not Found: see {DESCRIPTION}")
        if method not in known:
            allowed = [*known, *(["HEAD"] if "GET" in known else [])]
            raise RequestRefused(
                405, "request", f"Method Not Allowed: see {DESCRIPTION}", {"Allow": ", ".join(allowed)}
            )
        return known[method], number

    async def _carry_out(self, operation: Operation, request: HttpRequest, number: str, is_trusted: bool) -> HttpAnswer:
        try:
            if operation.token:
                assert self.access.token, "the API has a token"
                demand_token(request, self.access.token)
            body = await read_body(request, operation.body) if operation.body is not None else None
            return await operation.handle(Call(is_trusted, number), body)
        except RequestRefused:
            raise
        except REFUSALS as problem:
            status, refusal = refusal_of(problem, self.changes.runner.progress)
            return json_answer(refusal, status)
        except Exception as error:
            self.changes.controller.errors.note("admin request", error, path=operation.path)
            text = "an internal error: see internal_error in the controller's log"
            return json_answer(Refusal("internal", text), 500)


def make_app(cluster: Cluster, changes: Changes, token: str, hosts: Hosts) -> AdminApp:
    """The API over whatever gives the status and carries changes out; `token` is what changes need."""
    listed = operations(cluster, changes)
    routes: dict[str, dict[str, Operation]] = {}
    for each in listed:
        routes.setdefault(each.path, {})[each.method] = each
    return AdminApp(Access(hosts, token), changes, json_answer(openapi_document(listed)), routes)


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

    door = Door(partial(errors.note, "admin connection"), note_drop, MOST_ADMIN_STRANGERS)
    listening = listener_of(bound)
    task_status.started()
    app = make_app(cluster, changes, token, Hosts(host, changes.controller.topology.admin_hosts))
    await serve_requests(app.answer, listening, door, partial(shows_token, token=token), tls)
