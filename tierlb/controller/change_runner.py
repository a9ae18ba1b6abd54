"""Runs one change at a time beside everything else, and keeps how the latest ones went."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import attrs
import trio

from tierlb.channel.log import Log
from tierlb.controller.kept_state import KeptState
from tierlb.controller.progress import Progress
from tierlb.controller.rollout import INTERNAL_REASON
from tierlb.telemetry.internal_errors import InternalErrors

KEPT_CHANGES = 16
"""Clients that follow a change ask a few times a second, so they learn its end also when others have begun since."""

Job = Callable[[Progress], Awaitable[str]]
"""Carries a change out and returns its outcome."""


class ChangeUnderWay(Exception):  # noqa: N818 (a verdict on the request: another change is on its way)
    """Another change is being carried out; the text says which."""


@attrs.define
class ChangeRunner:
    """`begin` a change, then `start` its job; it ends by itself."""

    _state: KeptState
    _errors: InternalErrors
    _log: Log
    recent: deque[Progress] = attrs.field(factory=lambda: deque(maxlen=KEPT_CHANGES), init=False)
    """The latest changes, newest last."""
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)

    @property
    def progress(self) -> Progress | None:
        """Of the change under way, or else the latest one."""
        return self.recent[-1] if self.recent else None

    async def run(self, on_start: Callable[[], None], task_status: trio.TaskStatus[None]) -> None:
        """Carry changes out, until cancelled. `on_start` may start one before any is asked for."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            on_start()
            task_status.started()
            await trio.sleep_forever()

    def demand_idle(self) -> None:
        """Raises ChangeUnderWay while a change is under way, and before `run`."""
        if self.progress is not None and not self.progress.over:
            which = f"revision {self.progress.revision} " if self.progress.revision else ""
            raise ChangeUnderWay(
                f"{which}({self.progress.what}, by {self.progress.who}) is being carried out: wait until it is over"
            )
        if self._nursery is None:
            raise ChangeUnderWay("the cluster is still starting")

    def begin(self, progress: Progress, lines: Iterable[str] = ()) -> Progress:
        """Another change cannot begin from now on. `lines`: what it does, for those that follow it."""
        for line in lines:
            progress.add(line)
        progress.number = self.progress.number + 1 if self.progress is not None else 1
        self.recent.append(progress)
        self._log.info("change_started", what=progress.what, revision=progress.revision, who=progress.who)
        return progress

    def start(self, progress: Progress, job: Job) -> None:
        """Carry out what has begun."""
        assert self._nursery is not None, "changes come after the start"
        self._nursery.start_soon(self._see_through, progress, job)

    async def _see_through(self, progress: Progress, job: Job) -> None:
        """A change that fails because of a bug is over, and others can begin."""
        with self._errors.barrier("change", what=progress.what):
            await self._end(progress, await job(progress))
        if not progress.over:
            progress.reason = progress.reason or INTERNAL_REASON
            progress.outcome = "failed"
            with self._errors.barrier("change", what=progress.what):
                await self._end(progress, "failed")

    async def _end(self, progress: Progress, outcome: str) -> None:
        if self._state.rollout is not None and progress.revision:
            await self._state.save_or_log(rollout=None)
        progress.outcome = outcome
        self._log.info("change_ended", what=progress.what, revision=progress.revision, outcome=outcome)
