"""Whether an ejected host works again: this node asks it before any client's request has to find out.

A pool with a health check is asked by that check, within its timeout; any other by a connect, within the tier's connect
timeout, so that what is slow to connect but in time for traffic comes back. Where the question could not be asked for
want of something here, nothing is concluded, and it is asked again a little later.
"""

import errno
from typing import TYPE_CHECKING

import trio

from tierlb.dataplane.upstream.health import Probe as Check
from tierlb.dataplane.upstream.health import check_once
from tierlb.model.topology import HealthCheck
from tierlb.net.reactor import WRITE
from tierlb.net.self_connect import connect_outcome
from tierlb.net.shortage import is_own
from tierlb.net.stream import Stream, dial
from tierlb.telemetry.internal_errors import barrier

if TYPE_CHECKING:
    from tierlb.dataplane.upstream.host import Host

ASK_AGAIN_S = 1.0
"""After a question that could not be asked. A shortage ends when connections end, which takes seconds rather than
milliseconds."""
MOST_CHECKS = 64
"""Checks under way for recovery at a time; other hosts wait for their turn by ASK_AGAIN_S."""


def ask(host: "Host") -> None:
    """Begin to ask; `connected` or `connect_failed` of the host tells how it went."""
    registry = host.registry
    check = registry.checks.get(host.spec.target)
    if check is None or registry.recovery is None:
        Probe.start(host)
    elif not registry.recovery.begin(host, check):
        ask_later(host)


def ask_later(host: "Host") -> None:
    """Nothing is concluded yet."""
    if not host.retired:
        host.deadline = host.registry.reactor.now + ASK_AGAIN_S
        host.registry.reactor.wheel.file(host)


class Probe(Stream):
    """One connect to an ejected host, closed as soon as it is made."""

    __slots__ = ("host",)

    host: "Host"

    @classmethod
    def start(cls, host: "Host") -> None:
        try:
            sock, code = dial(host.spec.address)
        except OSError as error:
            cls._failed(host, error.errno or errno.EIO)
            return
        probe = host.probe = cls(host.registry.reactor, sock)
        probe.host = host
        if code:
            probe._finish(code)
            return
        probe.arm(host.registry.connect_s)
        try:
            probe.watch(WRITE)
        except OSError as error:
            probe._finish(error.errno or errno.EIO)

    def on_ready(self, mask: int) -> None:
        self._finish(connect_outcome(self.sock, self.host.port_at_risk))

    def on_deadline(self) -> None:
        self._finish(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self._finish(error.errno or errno.EIO)

    def _finish(self, code: int) -> None:
        if self.closed:
            return
        self.close()
        if code:
            self._failed(self.host, code)
        else:
            self.host.connected()

    @staticmethod
    def _failed(host: "Host", code: int) -> None:
        host.dial_failed(code)
        if is_own(code):
            ask_later(host)

    def close(self) -> None:
        self.host.probe = None
        super().close()


class CheckedRecovery:
    """One health check of an ejected host, in the nursery of a `Recovery`."""

    def __init__(self, host: "Host", check: HealthCheck, check_host: Check) -> None:
        self._host = host
        self._check = check
        self._check_host = check_host
        self._scope = trio.CancelScope()
        host.probe = self

    def close(self) -> None:
        """The host is gone: its answer does not matter any more."""
        self._host.probe = None
        self._scope.cancel()

    async def run(self) -> None:
        """An error ends this question only; it is asked again later."""
        with barrier(self._failed):
            await self._ask()

    def _failed(self, error: Exception) -> None:
        self._host.registry.on_error(error)
        ask_later(self._host)

    async def _ask(self) -> None:
        host = self._host
        good: bool | None = None
        with self._scope:
            try:
                good = (await self._check_host(host.spec.address, self._check)).good
            finally:
                if host.probe is self:
                    host.probe = None
        if self._scope.cancelled_caught or host.retired:
            return
        if good:
            host.connected()
        elif good is None:
            ask_later(host)
        else:
            host.connect_failed(refused=True)


class Recovery:
    """Asks by health checks, for as long as it runs."""

    def __init__(self, check_host: Check = check_once) -> None:
        self._check_host = check_host
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def begin(self, host: "Host", check: HealthCheck) -> bool:
        """Whether there is room for another check, which has begun then."""
        if self._nursery is None or len(self._nursery.child_tasks) > MOST_CHECKS:
            return False
        self._nursery.start_soon(CheckedRecovery(host, check, self._check_host).run)
        return True
