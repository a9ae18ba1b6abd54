"""The processes of a cluster on this machine, by name: started, replaced and stopped as the topology changes.

`grow` starts what a topology names and is not there, `shrink` stops what it does not name, `replace` puts a new process
in a node's place while the old one still serves. Nothing here decides when: that is controller/changes.py, which
knows what the nodes have acknowledged.

Who is stopped is retired first: the controller tells those above to send nothing more, and those that hold kept
connections to end them politely. SIGTERM follows as soon as all serve that, so a node with nothing under way ends at
once; one that has something takes up to the drain time of its tier.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import attrs
import trio

from tierlb.balance.stop_times import drain_times, stop_s
from tierlb.channel.admission import Enlistment
from tierlb.channel.join_credentials import JoinCredentials
from tierlb.channel.log import Log
from tierlb.controller.controller import Controller
from tierlb.controller.status import EndpointStatus, State
from tierlb.local.connections import is_connected
from tierlb.local.guard import Guard
from tierlb.local.managed_process import ManagedProcess
from tierlb.local.ports import FreePorts
from tierlb.local.sockets import Sockets
from tierlb.model.address import Address
from tierlb.model.topology import DRAIN_S, Pool, Run, Tier, Tls, Topology
from tierlb.net.self_connect import open_stream
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.topology.allot import node_names

RETIRE_S = 2.0
"""For all nodes to serve that one of them is retired; one that does not answer for so long is not waited for."""
HANDOVER_S = 0.5
"""From a new process being known everywhere to the end of the old one: by then it reports to its parents too, which
hear the old one no longer."""
UNPUBLISH_S = 0.5
PROBE_EVERY_S = 0.02
LOOK_EVERY_S = 0.25


@attrs.define(eq=False)
class Endpoint:
    """One local endpoint of a pool: its process, where it listens, the command it was started with and how it is.
    `surplus`: it is named no more, and counts only for as long as it serves."""

    pool: str
    address: Address
    command: str
    child: ManagedProcess = attrs.field(init=False)
    status: EndpointStatus = attrs.field(init=False)
    surplus: bool = False


@attrs.define
class ProcessManager:
    """`nursery` holds the processes; when it is cancelled they are killed. In `state` each node has a directory."""

    controller: Controller
    join_credentials: JoinCredentials
    guard: Guard
    log: Log
    ports: FreePorts
    nursery: trio.Nursery
    state: Path | None = None
    sockets: Sockets = attrs.field(factory=Sockets)
    replaces: bool = True
    _nodes: dict[str, ManagedProcess] = attrs.field(factory=dict, init=False)
    _endpoints: dict[str, list[Endpoint]] = attrs.field(factory=dict, init=False)
    _drains: dict[str, float] = attrs.field(factory=dict, init=False)
    """The drain times of tiers and pools, also of those that are no longer named while their processes end."""
    _replaced: list[ManagedProcess] = attrs.field(factory=list, init=False)
    _ending: bool = attrs.field(default=False, init=False)

    def grow(self, topology: Topology) -> tuple[str, ...]:
        """Start what is not there, unless everything is about to end; the names of what was started. Raises PortTaken,
        having started nothing, if a public address cannot be had."""
        if self._ending:
            return ()
        self._drains |= drain_times(topology)
        before = {child.name for child in self._children()}
        for tier in topology.tiers.values():
            if tier.listen is not None:
                self.sockets.open(tier.listen, tier.name)
        for tier in topology.tiers.values():
            for name in node_names(tier):
                if name not in self._nodes:
                    self._nodes[name] = self._start(self._node(topology, tier, name))
        for pool in topology.pools.values():
            if pool.run is not None:
                self._grow_pool(pool, pool.run)
        self._mark_surplus(topology)
        return tuple(child.name for child in self._children() if child.name not in before)

    def needed(self, tier: Tier) -> int:
        """How many nodes of the tier there have to be."""
        return tier.replicas

    def surplus(self, topology: Topology) -> tuple[str, ...]:
        """The nodes that run and that the topology does not name."""
        wanted = {name for tier in topology.tiers.values() for name in node_names(tier)}
        return tuple(name for name in self._nodes if name not in wanted)

    async def stop_nodes(self, names: Iterable[str]) -> None:
        """Retire them, then end their processes, which takes up to the drain times of their tiers. Those that were
        asked to end do so even if no task waits for them any more."""
        leaving = [name for name in names if name in self._nodes]
        if not leaving:
            return
        self.controller.node_admin.retire(leaving)
        try:
            with trio.move_on_after(RETIRE_S):
                while not self.controller.readiness.is_retired(leaving):
                    await self.controller.signals.wait_progress()
            children = [self._nodes.pop(name) for name in leaving]
            for child in children:
                self._stop_node(child)
            for child in children:
                await child.wait_ended()
        finally:
            self.controller.node_admin.retire(())

    async def shrink(self, topology: Topology) -> None:
        """Stop endpoints that the topology does not name, and let go of public addresses. Nodes are stopped before.
        Whoever is asked to end does so even if nobody waits any more."""
        self.sockets.keep({tier.listen: tier.name for tier in topology.tiers.values() if tier.listen is not None})
        leaving = []
        for name in list(self._endpoints):
            for endpoint in self._surplus_endpoints(topology, name):
                self._endpoints[name].remove(endpoint)
                self.nursery.start_soon(self._stop_endpoint, name, endpoint)
                leaving.append(endpoint.child)
        for child in leaving:
            await child.wait_ended()

    async def replace(self, topology: Topology, name: str) -> None:
        """A new process for the node; the old one is asked to end once the new one serves, and drains meanwhile
        (`wait_replaced`). The caller bounds how long that may take."""
        if self._ending:
            return
        tier = next(tier for tier in topology.tiers.values() if name in node_names(tier))
        old = self._nodes[name]
        new = self._nodes[name] = self._start(self._node(topology, tier, name))
        try:
            while not (self.controller.readiness.is_served_by(name, new.pid) and self.controller.readiness.settled()):
                await self.controller.signals.wait_progress()
            await trio.sleep(HANDOVER_S)
        except trio.Cancelled:
            self._nodes[name] = old
            with trio.CancelScope(shield=True):
                await new.stop(self._stop_s(tier.name))
            raise
        self._replaced.append(old)
        self._stop_node(old)

    async def wait_replaced(self) -> None:
        """Until the processes that were replaced have ended."""
        while self._replaced:
            await self._replaced[-1].wait_ended()
            self._replaced.pop()

    def problems(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """What went wrong with processes, all or these, each a phrase."""
        children = (child for child in self._children() if names is None or child.name in names)
        return tuple(child.problem for child in children if child.problem)

    def crashes(self, names: Collection[str]) -> int:
        """How often the process of any of these ended by itself, at most."""
        return max((child.crashes for child in self._children() if child.name in names), default=0)

    def ask_to_stop(self, nursery: trio.Nursery, names: Iterable[str] | None = None) -> None:
        """The end of everything: signal the nodes of these tiers and endpoints of these pools, or all, as they are.
        Nothing is started any more."""
        self._ending = True
        wanted = None if names is None else frozenset(names)
        for name, child in self._nodes.items():
            tier = name.rpartition("-")[0]
            if wanted is None or tier in wanted:
                nursery.start_soon(child.stop, self._stop_s(tier))
        for pool, group in self._endpoints.items():
            if wanted is None or pool in wanted:
                for endpoint in group:
                    nursery.start_soon(endpoint.child.stop, self._stop_s(pool))

    async def wait_ended(self, names: Iterable[str]) -> None:
        """Wait until no node of these tiers is left."""
        wanted = frozenset(names)
        for child in [child for name, child in self._nodes.items() if name.rpartition("-")[0] in wanted]:
            await child.wait_ended()

    def _children(self) -> list[ManagedProcess]:
        return [*self._nodes.values(), *(e.child for group in self._endpoints.values() for e in group)]

    def _stop_node(self, child: ManagedProcess) -> None:
        self.nursery.start_soon(child.stop, self._stop_s(child.name.rpartition("-")[0]))

    def _stop_s(self, name: str) -> float:
        """From SIGTERM to SIGKILL, of a tier's nodes or a pool's endpoints."""
        return stop_s(self._drains.get(name, DRAIN_S))

    def _start(self, child: ManagedProcess) -> ManagedProcess:
        child.errors = self.controller.errors
        self.nursery.start_soon(child.run)
        return child

    def _node(self, topology: Topology, tier: Tier, name: str) -> ManagedProcess:
        argv = (sys.executable, "-m", "tierlb", "node")
        options = (
            "--name",
            name,
            "--tier",
            tier.name,
            "--join",
            self.join_credentials.url,
            *_tls_options(topology.tls),
        )
        if self.state is not None:
            options += ("--state", str(self.state / name))
        enlistment = Enlistment(self.controller.admission, tier.name, name)

        def on_exit(pid: int) -> None:
            enlistment.end()
            self.controller.registry.exited(name, pid)

        return ManagedProcess(
            name,
            (*argv, *options),
            environment(),
            self.log,
            self.guard,
            on_exit=on_exit,
            sockets=self.sockets,
            tier=tier.name,
            introduce=enlistment.begin,
        )

    def _grow_pool(self, pool: Pool, run: Run) -> None:
        group = self._endpoints.setdefault(pool.name, [])
        there = sum(endpoint.command == run.command for endpoint in group)
        for _ in range(run.replicas - there):
            group.append(self._endpoint(pool, run, self.ports.take()))

    def _surplus_endpoints(self, topology: Topology, pool: str) -> list[Endpoint]:
        group, wanted = self._endpoints[pool], topology.pools.get(pool)
        run = wanted.run if wanted is not None else None
        kept = [endpoint for endpoint in group if run is not None and endpoint.command == run.command]
        kept = kept[: run.replicas] if run is not None else []
        return [endpoint for endpoint in group if endpoint not in kept]

    def _mark_surplus(self, topology: Topology) -> None:
        for name, group in self._endpoints.items():
            surplus = self._surplus_endpoints(topology, name)
            for endpoint in group:
                endpoint.surplus = endpoint in surplus
                self._tell(endpoint)

    def _tell(self, endpoint: Endpoint) -> None:
        """The controller, of an endpoint that is not being stopped."""
        if endpoint.surplus and endpoint.status.state is not State.SERVING:
            self.controller.endpoints.forget(endpoint.pool, endpoint.address)
        elif endpoint in self._endpoints.get(endpoint.pool, ()):
            self.controller.endpoints.note(endpoint.pool, endpoint.status)

    async def _stop_endpoint(self, pool: str, endpoint: Endpoint) -> None:
        with self.controller.errors.barrier("endpoint withdrawal", endpoint=str(endpoint.address)):
            self.controller.endpoints.forget(pool, endpoint.address)
        await trio.sleep(UNPUBLISH_S)
        with trio.move_on_after(self._drains.get(pool, DRAIN_S)):
            while is_connected(endpoint.address.port):  # noqa: ASYNC110 (nothing announces it)
                await trio.sleep(LOOK_EVERY_S)
        await endpoint.child.stop(self._stop_s(pool))

    def _endpoint(self, pool: Pool, run: Run, port: int) -> Endpoint:
        endpoint = Endpoint(pool.name, Address("127.0.0.1", port), run.command)

        def note(state: State, pid: int | None) -> None:
            endpoint.status = EndpointStatus(endpoint.address, state, pid)
            self._tell(endpoint)

        async def watch(pid: int) -> None:
            note(State.STARTING, pid)
            await _until_it_accepts(endpoint.address)
            note(State.SERVING, pid)

        def on_exit(pid: int) -> None:
            note(State.GONE, None)

        argv = tuple(_filled_in(part, endpoint.address) for part in shlex.split(run.command))
        name, env = f"{pool.name}/{endpoint.address}", environment()
        endpoint.child = self._start(
            ManagedProcess(name, argv, env, self.log, self.guard, watch=watch, on_exit=on_exit)
        )
        endpoint.status = EndpointStatus(endpoint.address, State.GONE)
        return endpoint


def _filled_in(part: str, address: Address) -> str:
    return part.replace("{host}", address.host).replace("{port}", str(address.port))


def environment() -> dict[str, str]:
    """Of processes that are started here."""
    env = {**os.environ, "PATH": search_path()}
    env.pop(TOKEN_VARIABLE, None)
    return env


def search_path() -> str:
    """PATH with this interpreter's directory first, so that `tierlb` in a command is this very tierlb."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


def unknown_command(topology: Topology) -> str:
    """What is wrong with a pool's command, if its program is not there."""
    for pool in topology.pools.values():
        if pool.run is None:
            continue
        program = shlex.split(pool.run.command)[0]
        if shutil.which(program, path=search_path()) is None:
            return f"pools.{pool.name}.run.command: there is no program {program!r}: write its full path"
    return ""


def _tls_options(tls: Tls | None) -> tuple[str, ...]:
    if tls is None:
        return ()
    return ("--tls-certificate", tls.certificate, "--tls-key", tls.key, "--tls-ca", tls.ca)


async def _until_it_accepts(address: Address) -> None:
    while True:
        try:
            stream = await open_stream(address.host, address.port)
        except OSError:
            await trio.sleep(PROBE_EVERY_S)
        else:
            await stream.aclose()
            return
