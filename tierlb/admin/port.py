"""The port of the admin API for as long as a process runs: the API is served there, or the reason why it is not."""

import socket
import ssl
from collections.abc import Callable

import attrs
import trio

from tierlb.controller.changes import Changes
from tierlb.controller.observer import Observer
from tierlb.model.address import Address
from tierlb.telemetry.internal_errors import InternalErrors


@attrs.frozen
class AdminPort:
    """`listening` stays open; each turn serves on a copy. `token` is what changes need, `hosts` the names under which
    clients may ask."""

    listening: socket.socket
    token: str
    errors: InternalErrors
    hosts: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(*self.listening.getsockname()[:2])

    async def serve(
        self, observer: Observer, changes: Changes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The API, until cancelled."""
        from tierlb.admin.app import serve_admin

        await serve_admin(self.listening.dup(), observer, changes, self.token, self.tls, task_status=task_status)

    async def stand_by(
        self, reason: Callable[[], str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The reason, until cancelled."""
        from tierlb.admin.standby import serve_standby

        await serve_standby(self.listening.dup(), reason, self.errors, self.hosts, self.tls, task_status=task_status)
