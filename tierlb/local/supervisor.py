"""A whole cluster on this machine: controller here, every node and local endpoint a supervised process.

Everything starts at once; nodes and endpoints find their place in whatever order they come up, for the
controller gives each what exists by then. The tree serves when every node has acked the configuration that
names all its hosts. Stopping goes the way of the traffic: edges first, each tier after all its parents, the
pools last, so that nothing is cut while something may still send to it. Whoever else may join, such as agents, is told
how by the files with join credentials.

Left out: the admin API, which the caller starts in `on_starting`, for this layer does not know it.
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
from tierlb.channel.private import remove_tree
from tierlb.controller.controller import Controller
from tierlb.controller.reception import Reception
from tierlb.controller.waiting import log_slow_start
from tierlb.local.guard import Guard
from tierlb.local.ports import FreePorts, PortTaken
from tierlb.local.process_manager import ProcessManager, unknown_command
from tierlb.model.address import Address
from tierlb.model.topology import Topology
from tierlb.net.keep_going import alone, keep_going
from tierlb.net.tls import TlsProblem, server_context
from tierlb.telemetry.log_quota import LogLosses
from tierlb.topology.diff import duration_text
from tierlb.wire.agent_check import NOTICE_S
from tierlb.wire.credentials import Principal, Role

START_DEADLINE_S = 30.0
STOP_GAP_S = 0.2
"""Between asking a tier and the one below: longer than a node's notice to its parents, and it no longer accepts."""
CONTROL_LISTEN = Address("127.0.0.1", 0)
NODES = "nodes"

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
    """Whether this process had a terminal that was closed: then Ctrl-C cannot end it."""
    poll = select.poll()
    for descriptor in range(3):
        poll.register(descriptor, 0)
    return any(mask & select.POLLHUP and _is_character_device(descriptor) for descriptor, mask in poll.poll(0))


def _is_character_device(descriptor: int) -> bool:
    """A terminal is one, also when it is gone; a pipe whose other end was closed is none."""
    return stat.S_ISCHR(os.fstat(descriptor).st_mode)


@attrs.define
class Supervisor:
    """Runs one topology's cluster. `run` returns what went wrong, or an empty text after an orderly stop.

    `invite`: the directory in which others find how to join, and where each node keeps what it serves. `descriptors`:
    the soft limit of open files that processes begin with. `on_hangup`: what SIGHUP asks for; without it, and where it
    comes because the terminal is gone, it stops the cluster. `losses`: of the log.
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
        """Start everything, call `on_serving` once the tree serves, stop when a signal asks for it. `on_starting` is
        called before anything is started."""
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
                tls = self.topology.tls
                context = server_context(tls) if tls is not None else None
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
        """Stop as the first signal does: orderly."""
        self._stop_asked.set()

    @contextlib.contextmanager
    def _inviting(self, join_credentials: JoinCredentials) -> Iterator[None]:
        """The cluster itself needs no join credentials, so it runs without if the files cannot be written."""
        with contextlib.ExitStack() as stack:
            if self.invite is not None:
                try:
                    stack.enter_context(posted(self.invite, join_credentials))
                except OSError as error:
                    self.log.warning("nobody else is told how to join", directory=str(self.invite), reason=str(error))
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
            background.start_soon(self._heed, signals, nursery.cancel_scope)
            ports, state = FreePorts(self.rng), await self._fresh_state()
            self.manager = ProcessManager(self.controller, join_credentials, guard, self.log, ports, nursery, state)
            try:
                self.manager.grow(self.topology)
            except PortTaken as taken:
                self.manager.sockets.close()
                return str(taken)
            problem = await self._serve(background, on_serving)
            await self._stop()
        self.manager.sockets.close()
        return problem

    async def _fresh_state(self) -> Path | None:
        """Where nodes keep what they serve. What those of an earlier run kept is of no use: nothing of that runs."""
        if self.invite is None:
            return None
        await trio.to_thread.run_sync(remove_tree, self.invite / NODES)
        return self.invite / NODES

    async def _heed(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP and self.on_hangup is not None and not terminal_is_gone():
                self.on_hangup()
                continue
            if self._stop_asked.is_set():
                self.log.warning("killing everything", signal=signal.Signals(number).name)
                everything.cancel()
                return
            name, time = signal.Signals(number).name, duration_text(longest_drain_s(self.controller.topology))
            hint = f"what is under way has up to {time}; again to end it now"
            self.log.info("stopping", signal=name, hint=hint)
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
            told = partial(log_slow_start, self.controller.readiness, self.log)
            nursery.start_soon(alone, self.controller.errors, "slow start", told)
            problem = await self._wait_whole()
            nursery.cancel_scope.cancel()
        self.controller.overview.starting = bool(problem)
        return problem

    async def _wait_whole(self) -> str:
        with trio.move_on_after(self.start_deadline_s):
            while self.controller.readiness.missing():
                if problem := self._hopeless():
                    return problem
                await self.controller.signals.wait_progress()
            return ""
        missing = (*self.controller.readiness.missing(), *self.manager.problems())
        return "\n  ".join((f"the cluster does not serve after {self.start_deadline_s:g} s:", *missing))

    def _hopeless(self) -> str:
        """What waiting will not mend."""
        return self.controller.readiness.refused()

    async def _stop(self) -> None:
        """Ask tier after tier, a moment apart, then the pools once no node is left.

        A tier is not waited for before the next is asked: an edge relays connections for as long as they last, and it
        is the l7 tier below that closes those without a request under way. One that tells HAProxy how it is serves on
        until HAProxy has asked, and needs the tiers below for as long.
        """
        topology = self.controller.topology
        *tiers, pools = stop_order(topology)
        async with trio.open_nursery() as nursery:
            for names in tiers:
                self.manager.ask_to_stop(nursery, names)
                await trio.sleep(STOP_GAP_S)
                if any(topology.tiers[name].agent_check for name in names):
                    with trio.move_on_after(NOTICE_S):
                        await self.manager.wait_ended(names)
        async with trio.open_nursery() as nursery:
            self.manager.ask_to_stop(nursery, pools)
            self.manager.ask_to_stop(nursery)

    def _bad_tls(self) -> str:
        try:
            if self.topology.tls is not None:
                server_context(self.topology.tls)
        except TlsProblem as problem:
            return f"security.tls: {problem}"
        return ""
