"""The processes of a cluster on this machine, by name: started, replaced and stopped as the topology changes.

`grow` starts what a topology names and is not there, `shrink` stops what it does not name, `replace` starts a new
process in a node's place while the old one still serves. controller/changes.py decides when, by what the nodes have
acknowledged.

A node is retired before it is stopped: the controller has the tiers above send nothing more to it, and the node close
idle connections after their responses. SIGTERM follows as soon as all nodes have that snapshot. A node without work in
progress then ends at once, any other within the drain time of its tier.
"""

import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import attrs
import trio

from tierlb.channel.admission import Enlistment
from tierlb.channel.join_credentials import JoinCredentials
from tierlb.controller.controller import Controller
from tierlb.local.launcher import Launcher
from tierlb.local.local_endpoints import LocalEndpoints
from tierlb.local.managed_process import ManagedProcess
from tierlb.local.ports import addresses_here
from tierlb.local.program import Lending
from tierlb.local.sockets import Sockets
from tierlb.model.tls import Tls
from tierlb.model.topology import Tier, Topology
from tierlb.topology.allot import node_names, number_of

NODE_RETIRE_S = 2.0
"""How long the stop of a node waits until all nodes have the snapshot in which it is retired. A node that has not
answered by then does not delay it further."""
HANDOVER_S = 0.5
"""From the moment a new process is known everywhere to the end of the old one. By then the new one reports to its
parents, and their connections to the old one are closed."""


@attrs.define
class ProcessManager:
    """The nodes are here, the local endpoints in `endpoints`. In `state` each node has a directory, and in `handoff`
    they find each other."""

    controller: Controller
    join_credentials: JoinCredentials
    launcher: Launcher
    endpoints: LocalEndpoints
    state: Path | None = None
    handoff: Path | None = None
    sockets: Sockets = attrs.field(factory=Sockets)
    replaces: bool = True
    nodes: dict[str, ManagedProcess] = attrs.field(factory=dict, init=False)
    _replaced: list[ManagedProcess] = attrs.field(factory=list, init=False)
    _ending: bool = attrs.field(default=False, init=False)

    def grow(self, topology: Topology) -> tuple[str, ...]:
        """Start what is not there, unless everything is about to end; the names of what was started. Raises PortTaken,
        having started nothing, if a public address is taken."""
        if self._ending:
            return ()
        self.launcher.note_drains(topology)
        before = {process.name for process in self.processes()}
        for tier in topology.tiers.values():
            for address, listener in addresses_here(tier).items():
                self.sockets.open(address, tier.name, listener.mode)
        for address in self.sockets.lost_files():
            self.launcher.log.warning("unix_socket_lost", address=str(address))
        for tier in topology.tiers.values():
            for name in node_names(tier):
                if name not in self.nodes:
                    self.nodes[name] = self._start_node(topology, tier, name)
        self.endpoints.grow(topology)
        return tuple(process.name for process in self.processes() if process.name not in before)

    def needed(self, tier: Tier) -> int:
        """How many nodes of the tier there have to be."""
        return tier.replicas

    def surplus(self, topology: Topology) -> tuple[str, ...]:
        """The nodes that run and that the topology does not name."""
        wanted = {name for tier in topology.tiers.values() for name in node_names(tier)}
        return tuple(name for name in self.nodes if name not in wanted)

    async def stop_nodes(self, names: Iterable[str]) -> None:
        """Retire these nodes, then end their processes, which takes up to the drain times of their tiers."""
        leaving = [name for name in names if name in self.nodes]
        if not leaving:
            return
        self.controller.node_admin.retire(leaving)
        try:
            with trio.move_on_after(NODE_RETIRE_S):
                while not self.controller.readiness.is_retired(leaving):
                    await self.controller.signals.wait_progress()
            processes = [self.nodes.pop(name) for name in leaving]
            for process in processes:
                self.launcher.stop_soon(process, _tier_of(process.name))
            for process in processes:
                await process.wait_ended()
        finally:
            self.controller.node_admin.retire(())

    async def shrink(self, topology: Topology) -> None:
        """Stop endpoints that the topology does not name, and close public addresses. Nodes are stopped before."""
        self.sockets.keep({address: tier.name for tier in topology.tiers.values() for address in addresses_here(tier)})
        await self.endpoints.shrink(topology)

    async def replace(self, topology: Topology, name: str) -> None:
        """Start a new process for the node. The old one is asked to end once the new one serves, and drains meanwhile
        (`wait_replaced`). The caller sets a deadline."""
        if self._ending:
            return
        tier = next(tier for tier in topology.tiers.values() if name in node_names(tier))
        old = self.nodes[name]
        new = self.nodes[name] = self._start_node(topology, tier, name)
        try:
            while not (self.controller.readiness.is_served_by(name, new.pid) and self.controller.readiness.settled()):
                await self.controller.signals.wait_progress()
            await trio.sleep(HANDOVER_S)
        except trio.Cancelled:
            self.nodes[name] = old
            with trio.CancelScope(shield=True):
                await new.stop(self.launcher.stop_s(tier.name))
            raise
        self._replaced.append(old)
        self.launcher.stop_soon(old, tier.name)

    async def wait_replaced(self) -> None:
        """Wait until the processes that were replaced have ended."""
        while self._replaced:
            await self._replaced[-1].wait_ended()
            self._replaced.pop()

    def problems(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """What went wrong with processes, all or these, each a phrase."""
        return tuple(process.problem for process in self.processes(names) if process.problem)

    def crashes(self, names: Collection[str]) -> int:
        """How often the process of any of these ended by itself, at most."""
        return max((process.crashes for process in self.processes(names)), default=0)

    def ask_to_stop(self, nursery: trio.Nursery, names: Iterable[str] | None = None) -> None:
        """The end of the cluster: signal the nodes of these tiers and endpoints of these pools, or all, as they are.
        Nothing is started any more."""
        self._ending = True
        groups = None if names is None else frozenset(names)
        nodes = [(_tier_of(name), process) for name, process in self.nodes.items()]
        for group, process in (*nodes, *self.endpoints.processes(groups)):
            if groups is None or group in groups:
                nursery.start_soon(process.stop, self.launcher.stop_s(group))

    async def wait_ended(self, tiers: Collection[str]) -> None:
        """Wait until no node of these tiers is left."""
        for process in [process for name, process in self.nodes.items() if _tier_of(name) in tiers]:
            await process.wait_ended()

    def processes(self, names: Collection[str] | None = None) -> list[ManagedProcess]:
        """All processes, or those with these names."""
        processes = (*self.nodes.values(), *(process for _, process in self.endpoints.processes()))
        return [process for process in processes if names is None or process.name in names]

    def _start_node(self, topology: Topology, tier: Tier, name: str) -> ManagedProcess:
        argv: tuple[str, ...] = (sys.executable, "-P", "-m", "tierlb", "node", "--name", name, "--tier", tier.name)
        argv += ("--join", self.join_credentials.url, *_tls_options(topology.tls))
        if self.state is not None:
            argv += ("--state", str(self.state / name))
        if self.handoff is not None:
            argv += ("--handoff", str(self.handoff))
        enlistment = Enlistment(self.controller.admission, tier.name, name)

        def on_exit(pid: int) -> None:
            enlistment.end()
            self.controller.registry.exited(name, pid)

        lending = Lending(self.sockets, tier.name, number_of(name), enlistment.begin)
        return self.launcher.start(name, argv, lending, on_exit=on_exit)


def _tier_of(node: str) -> str:
    return node.rpartition("-")[0]


def _tls_options(tls: Tls | None) -> tuple[str, ...]:
    if tls is None:
        return ()
    return ("--tls-certificate", tls.certificate, "--tls-key", tls.key, "--tls-ca", tls.ca)
