"""The sidecar beside an app: it joins as a leaf of a pool, reads its app four times a second and reports.

Traffic goes to the app's own address and never through here; if the sidecar dies the parents go on with their own
measurements. On SIGTERM it reports that the app drains, and goes on reading and reporting until nothing is in flight
any more or the drain time is over. So an operator who stops both stops the sidecar first.

An app that cannot be reached is reported as not ready. One that is slow to answer is not: it may be slow because it is
busy, and taking its traffic away would only make its siblings so. Its figures grow old instead, which parents see.
"""

import signal
from pathlib import Path

import attrs
import trio

from tierlb.agent.cpu import CgroupMeter, Gone, ProcessMeter
from tierlb.agent.fetch import AppUnreachable, NoAnswer, Url, fetch
from tierlb.agent.figures import MAX_FIGURES_BYTES, BadFigures, read_figures
from tierlb.agent.leaf import Leaf
from tierlb.channel.log import Log
from tierlb.channel.uplink import Uplink
from tierlb.model.load import Echo, Guidance, NodeRow, SubtreeLoad
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.keep_going import keep_going
from tierlb.telemetry.internal_errors import InternalErrors

READ_EVERY_S = 0.25
APP_ANSWER_S = 1.0
"""The app is asked four times a second, but never twice at a time: this is the longest gap a slow one makes."""
DRAIN_NOTICE_S = 1.0
"""From the report of a drain to the first check for idleness: parents have it by then, and what they sent has
arrived."""


@attrs.define
class Sidecar:
    """Reads the app and answers for it (channel.report_schedule.Reporter). `parents` is set once it has joined."""

    name: str
    pool: str
    log: Log
    leaf: Leaf
    url: Url | None = None
    meter: ProcessMeter | CgroupMeter | None = None
    uplink: Uplink | None = None
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    _problem: str = attrs.field(default="", init=False)

    async def run(self) -> None:
        """Read until cancelled, and have what changed reported at once."""
        while True:
            started_s = trio.current_time()
            with self.errors.barrier("reading of the app"):
                await self.read()
            if self.uplink is not None:
                self.uplink.reports.stir()
            await trio.sleep_until(started_s + READ_EVERY_S)

    async def read(self) -> None:
        """One round. A problem is logged when it begins or changes, not each time."""
        problem = ""
        if self.url is not None:
            problem = await self._ask(self.url)
        if self.meter is not None:
            problem = self._read_meter(self.meter) or problem
        if problem and problem != self._problem:
            self.log.warning("app_read_failed", reason=problem)
        elif self._problem and not problem:
            self.log.info("app_read_restored")
        self._problem = problem

    def subtree(self) -> SubtreeLoad:
        """The app's load."""
        return self.leaf.subtree(trio.current_time())

    def echo(self, parent: str) -> Echo:
        """Each parent's part: an equal one."""
        return self.leaf.echo(len(self.uplink.parents.names()) if self.uplink is not None else 1)

    def row(self) -> NodeRow:
        """The detail, while a client watches."""
        row = self.leaf.row(trio.current_time(), self.name, self.pool)
        return attrs.evolve(row, own=attrs.evolve(row.own, internal_errors=self.errors.counts.total()))

    def note_guidance(self, parent: str, guidance: Guidance) -> None:
        """Nothing to do: a leaf has no connections of its own to close."""

    async def idle(self) -> None:
        """Wait until the app reports that nothing is in flight; for ever where it reports nothing."""
        await trio.sleep(DRAIN_NOTICE_S)
        while not self.leaf.idle:  # noqa: ASYNC110 (it is read at that pace anyway)
            await trio.sleep(READ_EVERY_S)

    async def _ask(self, url: Url) -> str:
        try:
            self.leaf.note_answer(trio.current_time(), read_figures(await fetch(url, APP_ANSWER_S, MAX_FIGURES_BYTES)))
        except AppUnreachable as problem:
            self.leaf.note_down()
            return str(problem)
        except (NoAnswer, BadFigures) as problem:
            return str(problem)
        return ""

    def _read_meter(self, meter: ProcessMeter | CgroupMeter) -> str:
        try:
            self.leaf.note_processor_time(trio.current_time(), meter.read())
        except Gone as problem:
            self.leaf.note_down()
            return str(problem)
        return ""


def make_meter(pid: int | None, cgroup: Path | None, cores: float) -> ProcessMeter | CgroupMeter | None:
    """The meter that was asked for, read once. Raises Gone if there is nothing to read."""
    if pid is None and cgroup is None:
        return None
    meter = ProcessMeter(pid, cores) if pid is not None else CgroupMeter(cgroup or Path(), cores)
    meter.read()
    return meter


async def run_agent(sidecar: Sidecar, uplink: Uplink, drain_time_s: float, tls: ClusterTls | None = None) -> None:
    """Report until SIGTERM (or SIGINT), then drain and return. `tls` is looked at meanwhile."""
    sidecar.uplink = uplink
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            with sidecar.errors.barrier("reading of the app"):
                await sidecar.read()
            nursery.start_soon(sidecar.run)
            if tls is not None:
                nursery.start_soon(keep_going, sidecar.errors, "certificates", tls.watch)
            nursery.start_soon(uplink.run)
            await anext(aiter(signals))
            sidecar.log.info("drain_started", at_most_s=drain_time_s)
            await uplink.leave()
            with trio.move_on_after(drain_time_s):
                await sidecar.idle()
            nursery.cancel_scope.cancel()
