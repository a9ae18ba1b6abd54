"""Whether an ejected member works again: this node asks it before any client's request has to find out.

A pool with a health check is asked by that check, within its timeout; any other by a connect, within the tier's connect
timeout, so that what is slow to connect but in time for traffic comes back. Where the question could not be asked for
want of something here, nothing is concluded, and it is asked again a little later.
"""

import errno
from typing import TYPE_CHECKING

import trio

from tierlb.dataplane.health import Probe as Check
from tierlb.dataplane.health import check_once
from tierlb.model.topology import HealthCheck
from tierlb.net.reactor import WRITE
from tierlb.net.self_connect import connect_outcome
from tierlb.net.shortage import is_own
from tierlb.net.stream import Stream, dial
from tierlb.telemetry.internal_errors import barrier

if TYPE_CHECKING:
    from tierlb.dataplane.roster import Candidate

ASK_AGAIN_S = 1.0
"""After a question that could not be asked. A shortage ends when connections end, which takes seconds rather than
milliseconds."""
MOST_CHECKS = 64
"""Checks under way for recovery at a time; other members wait for their turn by ASK_AGAIN_S."""


def ask(candidate: "Candidate") -> None:
    """Begin to ask; `connected` or `connect_failed` of the candidate tells how it went."""
    roster = candidate.roster
    check = roster.checks.get(candidate.member.target)
    if check is None or roster.recovery is None:
        Probe.start(candidate)
    elif not roster.recovery.begin(candidate, check):
        ask_later(candidate)


def ask_later(candidate: "Candidate") -> None:
    """Nothing is concluded yet."""
    if not candidate.retired:
        candidate.deadline = candidate.roster.reactor.now + ASK_AGAIN_S
        candidate.roster.reactor.wheel.file(candidate)


class Probe(Stream):
    """One connect to an ejected member, closed as soon as it is made."""

    __slots__ = ("candidate",)

    candidate: "Candidate"

    @classmethod
    def start(cls, candidate: "Candidate") -> None:
        try:
            sock, code = dial(candidate.member.address)
        except OSError as error:
            cls._failed(candidate, error.errno or errno.EIO)
            return
        probe = candidate.probe = cls(candidate.roster.reactor, sock)
        probe.candidate = candidate
        if code:
            probe._finish(code)
            return
        probe.arm(candidate.roster.connect_s)
        try:
            probe.watch(WRITE)
        except OSError as error:
            probe._finish(error.errno or errno.EIO)

    def on_ready(self, mask: int) -> None:
        self._finish(connect_outcome(self.sock, self.candidate.port_at_risk))

    def on_deadline(self) -> None:
        self._finish(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self._finish(error.errno or errno.EIO)

    def _finish(self, code: int) -> None:
        if self.closed:
            return
        self.close()
        if code:
            self._failed(self.candidate, code)
        else:
            self.candidate.connected()

    @staticmethod
    def _failed(candidate: "Candidate", code: int) -> None:
        candidate.dial_failed(code)
        if is_own(code):
            ask_later(candidate)

    def close(self) -> None:
        self.candidate.probe = None
        super().close()


class CheckedRecovery:
    """One health check of an ejected member, in the nursery of a `Recovery`."""

    def __init__(self, candidate: "Candidate", check: HealthCheck, check_member: Check) -> None:
        self._candidate = candidate
        self._check = check
        self._check_member = check_member
        self._scope = trio.CancelScope()
        candidate.probe = self

    def close(self) -> None:
        """The member is gone: its answer does not matter any more."""
        self._candidate.probe = None
        self._scope.cancel()

    async def run(self) -> None:
        """An error ends this question only; it is asked again later."""
        with barrier(self._failed):
            await self._ask()

    def _failed(self, error: Exception) -> None:
        self._candidate.roster.on_error(error)
        ask_later(self._candidate)

    async def _ask(self) -> None:
        candidate = self._candidate
        good: bool | None = None
        with self._scope:
            try:
                good = (await self._check_member(candidate.member.address, self._check)).good
            finally:
                if candidate.probe is self:
                    candidate.probe = None
        if self._scope.cancelled_caught or candidate.retired:
            return
        if good:
            candidate.connected()
        elif good is None:
            ask_later(candidate)
        else:
            candidate.connect_failed(refused=True)


class Recovery:
    """Asks by health checks, for as long as it runs."""

    def __init__(self, check_member: Check = check_once) -> None:
        self._check_member = check_member
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def begin(self, candidate: "Candidate", check: HealthCheck) -> bool:
        """Whether there is room for another check, which has begun then."""
        if self._nursery is None or len(self._nursery.child_tasks) > MOST_CHECKS:
            return False
        self._nursery.start_soon(CheckedRecovery(candidate, check, self._check_member).run)
        return True
