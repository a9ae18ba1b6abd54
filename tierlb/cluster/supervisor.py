"""A whole cluster on this machine: controller here, every node and local endpoint a supervised process.

Everything starts at once; nodes and endpoints find their place in whatever order they come up, for the
controller gives each what exists by then. The tree serves when every node has acked the configuration that
names all its members. Stopping goes the way of the traffic: edges first, each tier after all its parents, the
pools last, so that nothing is cut while something may still send to it.

Left out: the admin API, which the caller starts in `on_serving`, for this layer does not know it.
"""

import os
import random
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

import attrs
import trio

from tierlb.cluster.child import Child
from tierlb.cluster.guard import Guard
from tierlb.cluster.ports import FreePorts
from tierlb.controlplane.controller import Controller
from tierlb.controlplane.link import serve_child
from tierlb.controlplane.log import Log
from tierlb.controlplane.node import TOKEN_VARIABLE
from tierlb.controlplane.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.topology import Pool, Run, Tier, Tls, Topology
from tierlb.net.tls import TlsProblem, server_context
from tierlb.net.websocket import serve
from tierlb.topology.allot import node_names

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 12.0
"""A node ends by itself 10 s after SIGTERM at the latest; this leaves it time to do so."""
STOP_GAP_S = 0.2
"""Between asking a tier and the one below: longer than a node's notice to its parents, and it no longer accepts."""
PROBE_EVERY_S = 0.02
CONTROL_LISTEN = Address("127.0.0.1", 0)

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


@attrs.define
class Supervisor:
    """Runs one topology's cluster. `run` returns what went wrong, or an empty text after an orderly stop."""

    topology: Topology
    controller: Controller
    log: Log
    rng: random.Random
    start_deadline_s: float = START_DEADLINE_S
    _children: dict[str, list[Child]] = attrs.field(factory=dict, init=False)
    _stop_asked: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self, on_serving: OnServing) -> str:
        """Start everything, call `on_serving` once the tree serves, stop when a signal asks for it."""
        if problem := self._unknown_command() or self._bad_tls():
            return problem
        token = secrets.token_urlsafe(32)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with Guard() as guard, trio.open_nursery() as background:
                background.start_soon(self.controller.run)
                handler = partial(serve_child, self.controller)
                tls = self.topology.tls
                context = server_context(tls) if tls is not None else None
                control = await background.start(serve, handler, token, CONTROL_LISTEN, context)
                self._prepare(guard, f"{'ws' if tls is None else 'wss'}://{control}", token)
                problem = await self._run_children(background, signals, on_serving)
                background.cancel_scope.cancel()
        return problem

    async def _run_children(self, background: trio.Nursery, signals: AsyncIterator[int], on_serving: OnServing) -> str:
        problem = ""
        async with trio.open_nursery() as nursery:
            background.start_soon(self._heed, signals, nursery.cancel_scope)
            for group in self._children.values():
                for child in group:
                    nursery.start_soon(child.run)
            problem = await self._serve(background, on_serving)
            await self._stop()
        return problem

    async def _heed(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        async for number in signals:
            if self._stop_asked.is_set():
                self.log.warning("killing everything", signal=signal.Signals(number).name)
                everything.cancel()
                return
            self.log.info("stopping", signal=signal.Signals(number).name, hint="again to kill at once")
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
        with trio.move_on_after(self.start_deadline_s):
            while self.controller.missing():
                if problem := self._hopeless():
                    return problem
                await self.controller.wait_progress()
            return ""
        missing = (*self.controller.missing(), *self._problems())
        return "\n  ".join((f"the cluster does not serve after {self.start_deadline_s:g} s:", *missing))

    def _hopeless(self) -> str:
        """What waiting will not mend."""
        refusals = (
            f"{seat.name} refused its configuration: {seat.refusal}"
            for seat in self.controller.seats.values()
            if seat.refusal
        )
        return next(refusals, "")

    def _problems(self) -> tuple[str, ...]:
        return tuple(c.problem for group in self._children.values() for c in group if c.problem)

    async def _stop(self) -> None:
        """Ask tier after tier, a moment apart, then the pools once no node is left.

        A tier is not waited for before the next is asked: an edge relays connections for as long as they last, and it
        is the l7 tier below that closes those without a request under way.
        """
        *tiers, pools = stop_order(self.topology)
        async with trio.open_nursery() as nursery:
            for names in tiers:
                self._ask_to_stop(nursery, names)
                await trio.sleep(STOP_GAP_S)
        async with trio.open_nursery() as nursery:
            self._ask_to_stop(nursery, pools)

    def _ask_to_stop(self, nursery: trio.Nursery, names: Iterable[str]) -> None:
        for child in (child for name in names for child in self._children.get(name, ())):
            nursery.start_soon(child.stop, STOP_DEADLINE_S)

    def _unknown_command(self) -> str:
        for pool in self.topology.pools.values():
            if pool.run is None:
                continue
            program = shlex.split(pool.run.command)[0]
            if shutil.which(program, path=_search_path()) is None:
                return f"pools.{pool.name}.run.command: there is no program {program!r}: write its full path"
        return ""

    def _bad_tls(self) -> str:
        try:
            if self.topology.tls is not None:
                server_context(self.topology.tls)
        except TlsProblem as problem:
            return f"security.tls: {problem}"
        return ""

    def _prepare(self, guard: Guard, control_url: str, token: str) -> None:
        env = {**os.environ, "PATH": _search_path()}
        env.pop(TOKEN_VARIABLE, None)
        ports = FreePorts(self.rng)
        for tier in self.topology.tiers.values():
            node_env = {**env, TOKEN_VARIABLE: token}
            self._children[tier.name] = [
                self._node(tier, name, control_url, node_env, guard) for name in node_names(tier)
            ]
        for pool in self.topology.pools.values():
            if pool.run is not None:
                self._children[pool.name] = [
                    self._endpoint(pool, pool.run, ports.take(), env, guard) for _ in range(pool.run.replicas)
                ]

    def _node(self, tier: Tier, name: str, control_url: str, env: dict[str, str], guard: Guard) -> Child:
        argv = (sys.executable, "-m", "tierlb", "node")
        options = ("--name", name, "--tier", tier.name, "--join", control_url, *_tls_options(self.topology.tls))
        return Child(name, (*argv, *options), env, self.log, guard, on_exit=partial(self.controller.exited, name))

    def _endpoint(self, pool: Pool, run: Run, port: int, env: dict[str, str], guard: Guard) -> Child:
        address = Address("127.0.0.1", port)

        def note(state: State, pid: int | None) -> None:
            self.controller.note_endpoint(pool.name, EndpointStatus(address, state, pid))

        async def watch(pid: int) -> None:
            note(State.STARTING, pid)
            await _until_it_accepts(address)
            note(State.SERVING, pid)

        note(State.GONE, None)
        argv = tuple(part.replace("{port}", str(port)) for part in shlex.split(run.command))
        name = f"{pool.name}/{address}"
        return Child(name, argv, env, self.log, guard, watch=watch, on_exit=lambda pid: note(State.GONE, None))


def _tls_options(tls: Tls | None) -> tuple[str, ...]:
    if tls is None:
        return ()
    return ("--tls-certificate", tls.certificate, "--tls-key", tls.key, "--tls-ca", tls.ca)


def _search_path() -> str:
    """PATH with this interpreter's directory first, so that `tierlb` in a command is this very tierlb."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


async def _until_it_accepts(address: Address) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except OSError:
            await trio.sleep(PROBE_EVERY_S)
        else:
            await stream.aclose()
            return
