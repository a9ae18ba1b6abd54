"""Whether an ejected host works again: this node checks that before it sends client requests there.

A pool with a health check is asked by that check, within its timeout; any other by a connect, within the tier's connect
timeout, so that what is slow to connect but in time for traffic comes back. Where this machine lacks the descriptor,
port or memory to ask, nothing is concluded.

Over UDP there is no connect. A host without a health check gets traffic again when its ejection is over, and what it
refuses then goes to another host (`l4.udp_session`).

An answer is an errno: 0 if the host works, None if nothing was found out. A question that is closed early gives no
answer.
"""

import errno
from collections.abc import Callable, Mapping
from functools import partial

import trio

from tierlb.dataplane.upstream.health import Probe as Check
from tierlb.dataplane.upstream.health import check_once
from tierlb.model.address import Address, Transport
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import HealthCheck, Timeouts
from tierlb.net.asked import error_of
from tierlb.net.client_tls import ClientTls
from tierlb.net.dial import dial
from tierlb.net.reactor import ERROR, HANGUP, WRITE, Reactor
from tierlb.net.stream import Stream
from tierlb.telemetry.internal_errors import barrier
from tierlb.wire.announcement import local_header

MOST_CHECKS = 64
"""Checks under way for recovery at a time. Other hosts are asked later."""

Answered = Callable[[int | None], object]


class ConnectQuestion(Stream):
    """One connect to an ejected host, closed as soon as it is made."""

    __slots__ = ("answered", "first")

    answered: Answered
    first: bytes

    @classmethod
    def ask(
        cls,
        reactor: Reactor,
        address: Address,
        port_at_risk: int,
        timeout_s: float,
        answered: Answered,
        first: bytes = b"",
    ) -> "ConnectQuestion | int":
        """Begin to connect; an errno where that failed at once. `first` is sent before the end."""
        try:
            fd, code = dial(address, port_at_risk=port_at_risk)
        except OSError as error:
            return error.errno or errno.EIO
        if fd < 0:
            return code
        question = cls(reactor, fd)
        question.answered, question.first = answered, first
        question.arm(timeout_s)
        try:
            question.watch(WRITE)
        except OSError as error:
            question.close()
            return error.errno or errno.EIO
        return question

    def on_ready(self, mask: int) -> None:
        code = error_of(self.fd) if mask & (ERROR | HANGUP) else 0
        if self.first and not code:
            self.send(self.first)
        self._finish(code)

    def on_deadline(self) -> None:
        self._finish(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self._finish(error.errno or errno.EIO)

    def _finish(self, code: int) -> None:
        if not self.closed:
            self.close()
            self.answered(code)


class HealthQuestion:
    """One health check of an ejected host, in the nursery of a `Recovery`."""

    def __init__(
        self,
        address: Address,
        check: HealthCheck,
        check_host: Check,
        answered: Answered,
        on_error: Callable[[Exception], object],
    ) -> None:
        self._address = address
        self._check = check
        self._check_host = check_host
        self._answered = answered
        self._on_error = on_error
        self._scope = trio.CancelScope()

    def close(self) -> None:
        """The host is gone."""
        self._scope.cancel()

    async def run(self) -> None:
        """An error ends this question only."""
        with barrier(self._failed), self._scope:
            good = (await self._check_host(self._address, self._check)).good
            if not self._scope.cancel_called:
                self._answered(None if good is None else 0 if good else errno.ECONNREFUSED)

    def _failed(self, error: Exception) -> None:
        self._on_error(error)
        if not self._scope.cancel_called:
            self._answered(None)


class Recovery:
    """Asks ejected hosts; by health checks only for as long as it runs. `tls`: what endpoints speak, by pools."""

    def __init__(
        self, reactor: Reactor, on_error: Callable[[Exception], object], check_host: Check = check_once
    ) -> None:
        self.check_host = check_host
        self.tls: Mapping[str, ClientTls] = {}
        self._reactor = reactor
        self._on_error = on_error
        self._checks: Mapping[str, HealthCheck] = {}
        self._first: Mapping[str, bytes] = {}
        self._connect_s = Timeouts().connect
        self._nursery: trio.Nursery | None = None
        self._connects = True

    def configure(self, snapshot: Snapshot) -> None:
        """Ask as this snapshot has it from now on."""
        self._connects = snapshot.protocol is Transport.TCP
        self._connect_s = snapshot.timeouts.connect
        self._checks = {pool.name: pool.health for pool in snapshot.pools if pool.health is not None}
        self._first = {pool.name: local_header(pool.announces) for pool in snapshot.pools}

    def checks(self, target: str) -> bool:
        """Whether hosts of this pool have health checks."""
        return target in self._checks

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def by_traffic(self, target: str) -> bool:
        """Whether there is nothing to ask a host of this pool or tier: its next items show whether it works."""
        return not self._connects and target not in self._checks

    def ask(
        self, target: str, address: Address, port_at_risk: int, answered: Answered
    ) -> ConnectQuestion | HealthQuestion | int | None:
        """The question, which calls `answered` once; or the answer where that is known at once. Where a pool
        speaks TLS, a connect is followed by its handshake."""
        check, tls = self._checks.get(target), self.tls.get(target)
        if check is None and tls is not None:
            check = HealthCheck(timeout_s=self._connect_s)
        if check is None:
            first = self._first.get(target, b"")
            return ConnectQuestion.ask(self._reactor, address, port_at_risk, self._connect_s, answered, first)
        if self._nursery is None or len(self._nursery.child_tasks) > MOST_CHECKS:
            return None
        ask = self.check_host if tls is None else partial(check_once, tls=tls)
        question = HealthQuestion(address, check, ask, answered, self._on_error)
        self._nursery.start_soon(question.run)
        return question
