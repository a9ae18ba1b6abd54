"""A whole cluster on this machine: the controller in this process, every node and local endpoint a supervised process.

Everything starts at once, in any order: the controller gives each node what exists so far. The tree serves when every
node has acknowledged the snapshot that names all its hosts. The cluster stops in the direction of the traffic: edges
first, each tier after all its parents, the pools last, so that nothing is cut while something may still send to it.
Agents and other processes find how to join in the files with join credentials.

Left out: the admin API, which is above this layer; the caller starts it in `on_starting`.
"""

import contextlib
import os
import random
import select
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import attrs
import trio

from tierlb.balance.stop_times import longest_drain_s
from tierlb.channel.join_credentials import JoinCredentials, posted
from tierlb.channel.log import Log
from tierlb.channel.pages import ControllerPages
from tierlb.channel.private import make_private_directory, remove_tree
from tierlb.controller.controller import Controller
from tierlb.controller.reception import Reception
from tierlb.controller.waiting import log_slow_start
from tierlb.local.guard import Guard
from tierlb.local.launcher import Launcher
from tierlb.local.local_endpoints import LocalEndpoints, unknown_command
from tierlb.local.ports import FreePorts, PortTaken
from tierlb.local.process_manager import ProcessManager
from tierlb.model.address import Address
from tierlb.model.topology import Topology
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.keep_going import alone, keep_going
from tierlb.net.tls import TlsProblem
from tierlb.telemetry.log_quota import LogLosses
from tierlb.topology.allot import tiers_joined
from tierlb.topology.units import duration_text
from tierlb.wire.agent_check import AGENT_NOTICE_S
from tierlb.wire.credentials import Principal, Role

START_DEADLINE_S = 30.0
STOP_GAP_S = 0.2
"""The time between the stop of a tier and that of the next: longer than a node needs to notify its parents, after which
it no longer accepts connections."""
CONTROL_LISTEN = Address("127.0.0.1", 0)
NODES = "nodes"
"""Directory of the nodes' snapshot caches."""
HANDOFF = "handoff"
"""Directory in which the nodes find each other to hand connections over."""

OnServing = Callable[[trio.Nursery], Awaitable[None]]


def stop_order(topology: Topology) -> tuple[tuple[str, ...], ...]:
    """Names of tiers and pools in groups: each group after all that send to it; pools last."""
    groups: list[tuple[str, ...]] = []
    left = dict(topology.tiers)
    while left:
        group = tuple(name for name in left if not any(p.name in left for p in topology.parents(name)))
        assert group, "a topology has no cycle"
        groups.append(group)
        for name in group:
            del left[name]
    return (*groups, tuple(topology.pools))


def terminal_is_gone() -> bool:
    """Whether this process had a terminal that was closed, so that Ctrl-C cannot end it."""
    poll = select.poll()
    for descriptor in range(3):
        poll.register(descriptor, 0)
    return any(mask & select.POLLHUP and _is_character_device(descriptor) for descriptor, mask in poll.poll(0))


def _is_character_device(descriptor: int) -> bool:
    """A terminal is a character device even after it was closed; a pipe whose other end was closed is none."""
    return stat.S_ISCHR(os.fstat(descriptor).st_mode)


@attrs.define
class Supervisor:
    """Runs one topology's cluster. `run` returns what went wrong, or an empty text after an orderly stop.

    `invite`: the directory with the join credentials for others, and with the directory of each node. `descriptors`:
    the soft limit of open files that processes start with. `on_hangup`: the action on SIGHUP; without it, and where
    SIGHUP comes because the terminal is gone, it stops the cluster. `losses`: of the log.
    """

    topology: Topology
    controller: Controller
    log: Log
    rng: random.Random
    start_deadline_s: float = START_DEADLINE_S
    invite: Path | None = None
    descriptors: int | None = None
    on_hangup: Callable[[], None] | None = None
    losses: LogLosses = attrs.field(factory=LogLosses)
    manager: ProcessManager = attrs.field(init=False)
    _stop_asked: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self, on_serving: OnServing, on_starting: OnServing | None = None) -> str:
        """Start everything, call `on_serving` once the tree serves, stop at a signal. `on_starting` is called before
        anything is started."""
        if problem := unknown_command(self.topology) or self._bad_tls():
            return problem
        admission = self.controller.admission
        admission.only_started = True
        self.controller.overview.starting = True
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with Guard(self.descriptors) as guard, trio.open_nursery() as background:
                background.start_soon(self.controller.run)
                keep = partial(guard.keep, self.log, self.controller.errors)
                background.start_soon(keep_going, self.controller.errors, "guard", keep)
                if on_starting is not None:
                    await on_starting(background)
                files = self.topology.tls
                tls = None if files is None else ClusterTls(files, self.log)
                if tls is not None:
                    self.controller.overview.shown.append(tls.expiries)
                    background.start_soon(keep_going, self.controller.errors, "certificates", tls.watch)
                context = None if tls is None else tls.control_server
                reception = Reception(self.log, self.controller.errors)
                reception.open(self.controller)
                pages = ControllerPages(self.controller.errors, self.losses, reception.unready).find
                control = await background.start(reception.serve, CONTROL_LISTEN, admission.admit, context, pages)
                for_agents = admission.credential(Principal(Role.AGENT))
                join_credentials = JoinCredentials(f"{'ws' if tls is None else 'wss'}://{control}", for_agents)
                with self._inviting(join_credentials):
                    problem = await self._run_fleet(background, guard, join_credentials, signals, on_serving)
                background.cancel_scope.cancel()
        return problem

    def stop(self) -> None:
        """Stop in an orderly way, as at the first signal."""
        self._stop_asked.set()

    @contextlib.contextmanager
    def _inviting(self, join_credentials: JoinCredentials) -> Iterator[None]:
        """The cluster itself needs no join credentials, so it runs without if the files cannot be written."""
        with contextlib.ExitStack() as stack:
            if self.invite is not None:
                try:
                    stack.enter_context(posted(self.invite, join_credentials))
                except OSError as error:
                    self.log.warning("join_credentials_write_failed", directory=str(self.invite), reason=str(error))
            yield

    async def _run_fleet(
        self,
        background: trio.Nursery,
        guard: Guard,
        join_credentials: JoinCredentials,
        signals: AsyncIterator[int],
        on_serving: OnServing,
    ) -> str:
        problem = ""
        async with trio.open_nursery() as nursery:
            background.start_soon(self._handle_signals, signals, nursery.cancel_scope)
            launcher = Launcher(nursery, guard, self.log, self.controller.errors)
            endpoints = LocalEndpoints(self.controller, launcher, FreePorts(self.rng))
            state, handoff = await self._fresh(NODES), self._made(await self._fresh(HANDOFF))
            self.manager = ProcessManager(self.controller, join_credentials, launcher, endpoints, state, handoff)
            try:
                self.manager.grow(self.topology)
            except PortTaken as taken:
                self.manager.sockets.close()
                return str(taken)
            background.start_soon(keep_going, self.controller.errors, "kept sockets", self.manager.sockets.run)
            problem = await self._serve(background, on_serving)
            await self._stop()
        self.manager.sockets.close()
        return problem

    async def _fresh(self, name: str) -> Path | None:
        """A directory for this run. What an earlier run left there is removed."""
        if self.invite is None:
            return None
        await trio.to_thread.run_sync(remove_tree, self.invite / name)
        return self.invite / name

    def _made(self, handoff: Path | None) -> Path | None:
        """The directory in which nodes find each other. Without it they hand nothing over."""
        if handoff is not None:
            try:
                make_private_directory(handoff)
            except OSError as error:
                self.log.warning(
                    "handoff_unavailable",
                    reason=str(error),
                    action="connections are relayed; under 'forward: handoff' they are refused",
                )
                return None
        return handoff

    async def _handle_signals(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP and self.on_hangup is not None and not terminal_is_gone():
                self.on_hangup()
                continue
            if self._stop_asked.is_set():
                self.log.warning("stop_forced", signal=signal.Signals(number).name)
                everything.cancel()
                return
            name, time = signal.Signals(number).name, duration_text(longest_drain_s(self.controller.topology))
            hint = f"work in progress has up to {time}; repeat the signal to end it now"
            self.log.info("stop_requested", signal=name, hint=hint)
            self._stop_asked.set()

    async def _serve(self, background: trio.Nursery, on_serving: OnServing) -> str:
        async with trio.open_nursery() as nursery:

            async def until_asked() -> None:
                await self._stop_asked.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_asked)
            problem = await self._wait_serving()
            if not problem:
                await on_serving(background)
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()
            return problem
        return ""

    async def _wait_serving(self) -> str:
        async with trio.open_nursery() as nursery:
            log = partial(log_slow_start, self.controller.readiness, self.log)
            nursery.start_soon(alone, self.controller.errors, "slow start", log)
            problem = await self._wait_whole()
            nursery.cancel_scope.cancel()
        self.controller.overview.starting = bool(problem)
        return problem

    async def _wait_whole(self) -> str:
        with trio.move_on_after(self.start_deadline_s):
            while self.controller.readiness.missing():
                if problem := self._permanent_problem():
                    return problem
                await self.controller.signals.wait_progress()
            return ""
        missing = (*self.controller.readiness.missing(), *self.manager.problems())
        return "\n  ".join((f"the cluster does not serve after {self.start_deadline_s:g} s:", *missing))

    def _permanent_problem(self) -> str:
        """A problem that waiting does not solve."""
        return self.controller.readiness.refused()

    async def _stop(self) -> None:
        """Stop tier after tier with short gaps, then the pools once no node is left.

        A tier does not wait for the one above to end: an edge relays connections for as long as they last, and the l7
        tier below closes those without a request in progress. A tier that answers HAProxy's agent-check serves until
        HAProxy has asked, and needs the tiers below for as long.
        """
        topology = self.controller.topology
        *tiers, pools = stop_order(topology)
        async with trio.open_nursery() as nursery:
            for names in tiers:
                self.manager.ask_to_stop(nursery, names)
                await trio.sleep(STOP_GAP_S)
                if any(topology.tiers[name].agent_check for name in names):
                    with trio.move_on_after(AGENT_NOTICE_S):
                        await self.manager.wait_ended(names)
        async with trio.open_nursery() as nursery:
            self.manager.ask_to_stop(nursery, pools)
            self.manager.ask_to_stop(nursery)

    def _bad_tls(self) -> str:
        try:
            if self.topology.tls is not None:
                tls = ClusterTls(self.topology.tls, self.log)
                lacks = (tls.lack_for(tier) for tier in tiers_joined(self.topology))
                return next((f"security.tls: {lack}" for lack in lacks if lack), "")
        except TlsProblem as problem:
            return f"security.tls: {problem}"
        return ""
