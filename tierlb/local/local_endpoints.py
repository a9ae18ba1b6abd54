"""The endpoints that pools with `run` start on this machine.

The nodes send to an endpoint as soon as it accepts connections; where tiers over UDP send to it, as soon as it has a
UDP socket at its port. Before one is stopped its address is withdrawn; the process is asked to end when no connection
to it is left, or after the drain time of its pool.
"""

import shlex
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator

import attrs
import trio

from tierlb.controller.controller import Controller
from tierlb.controller.status import EndpointStatus, State
from tierlb.local.connections import is_connected, takes_datagrams
from tierlb.local.launcher import Launcher, search_path
from tierlb.local.managed_process import ManagedProcess
from tierlb.local.ports import FreePorts
from tierlb.model.address import Address, Transport
from tierlb.model.topology import Pool, Run, Topology
from tierlb.net.self_connect import open_stream
from tierlb.topology.allot import transports_to

WITHDRAWN_S = 0.5
"""Within it every node that answers has the snapshot without the endpoint."""
CONNECT_EVERY_S = 0.02
BOUND_EVERY_S = 0.1
"""The table of all UDP sockets takes longer to read than a connect does."""
CHECK_CONNECTIONS_EVERY_S = 0.25


async def wait_accepting(address: Address, transports: Collection[Transport]) -> None:
    """Return once the address takes what senders have for it."""
    if Transport.UDP in transports:
        while not takes_datagrams(address.port):  # noqa: ASYNC110 (the kernel does not notify)
            await trio.sleep(BOUND_EVERY_S)
    while Transport.TCP in transports:
        try:
            stream = await open_stream(address.host, address.port)
        except OSError:
            await trio.sleep(CONNECT_EVERY_S)
        else:
            await stream.aclose()
            return


@attrs.define(eq=False)
class LocalEndpoint:
    """One endpoint: its process, where it listens, the command it was started with and its state."""

    pool: str
    address: Address
    command: str
    transports: frozenset[Transport] = frozenset({Transport.TCP})
    process: ManagedProcess = attrs.field(init=False)
    status: EndpointStatus = attrs.field(init=False)
    surplus: bool = False
    """The topology no longer names it. It is used only for as long as it serves."""


@attrs.define
class LocalEndpoints:
    """All of them, by pool."""

    controller: Controller
    launcher: Launcher
    ports: FreePorts
    wait_accepting: Callable[[Address, Collection[Transport]], Awaitable[None]] = wait_accepting
    is_connected: Callable[[int], bool] = is_connected
    pools: dict[str, list[LocalEndpoint]] = attrs.field(factory=dict, init=False)

    def grow(self, topology: Topology) -> None:
        """Start what the topology names and is not there. What it no longer names goes on for now."""
        for pool in topology.pools.values():
            if pool.run is not None:
                self._grow_pool(pool, pool.run, transports_to(topology, pool.name))
        for name, endpoints in self.pools.items():
            surplus = self._surplus(topology, name)
            for endpoint in endpoints:
                endpoint.surplus = endpoint in surplus
                self.publish(endpoint)

    async def shrink(self, topology: Topology) -> None:
        """Stop what the topology does not name, and wait until it has ended."""
        leaving = [endpoint for name in self.pools for endpoint in self._surplus(topology, name)]
        for endpoint in leaving:
            self.pools[endpoint.pool].remove(endpoint)
            self.launcher.nursery.start_soon(self._stop, endpoint)
        for endpoint in leaving:
            await endpoint.process.wait_ended()

    def processes(self, pools: Collection[str] | None = None) -> Iterator[tuple[str, ManagedProcess]]:
        """Pool and process of each endpoint, of all pools or of these."""
        for name, endpoints in self.pools.items():
            if pools is None or name in pools:
                yield from ((name, endpoint.process) for endpoint in endpoints)

    def _grow_pool(self, pool: Pool, run: Run, transports: frozenset[Transport]) -> None:
        endpoints = self.pools.setdefault(pool.name, [])
        there = sum(endpoint.command == run.command for endpoint in endpoints)
        for _ in range(run.replicas - there):
            endpoints.append(self._start(pool, run, self.ports.take(), transports))

    def _surplus(self, topology: Topology, pool: str) -> list[LocalEndpoint]:
        endpoints, wanted = self.pools[pool], topology.pools.get(pool)
        run = wanted.run if wanted is not None else None
        kept = [endpoint for endpoint in endpoints if run is not None and endpoint.command == run.command]
        kept = kept[: run.replicas] if run is not None else []
        return [endpoint for endpoint in endpoints if endpoint not in kept]

    def publish(self, endpoint: LocalEndpoint) -> None:
        """Pass on the state of an endpoint that is not being stopped."""
        if endpoint.surplus and endpoint.status.state is not State.SERVING:
            self.controller.endpoints.forget(endpoint.pool, endpoint.address)
        elif endpoint in self.pools.get(endpoint.pool, ()):
            self.controller.endpoints.note(endpoint.pool, endpoint.status)

    def _start(self, pool: Pool, run: Run, port: int, transports: frozenset[Transport]) -> LocalEndpoint:
        endpoint = LocalEndpoint(pool.name, Address("127.0.0.1", port), run.command, transports)

        def note(state: State, pid: int | None) -> None:
            endpoint.status = EndpointStatus(endpoint.address, state, pid)
            self.publish(endpoint)

        async def watch(pid: int) -> None:
            note(State.STARTING, pid)
            await self.wait_accepting(endpoint.address, endpoint.transports)
            note(State.SERVING, pid)

        def on_exit(pid: int) -> None:
            note(State.GONE, None)

        argv = tuple(_filled_in(part, endpoint.address) for part in shlex.split(run.command))
        name = f"{pool.name}/{endpoint.address}"
        endpoint.process = self.launcher.start(name, argv, watch=watch, on_exit=on_exit)
        endpoint.status = EndpointStatus(endpoint.address, State.GONE)
        return endpoint

    async def _stop(self, endpoint: LocalEndpoint) -> None:
        with self.controller.errors.barrier("endpoint withdrawal", endpoint=str(endpoint.address)):
            self.controller.endpoints.forget(endpoint.pool, endpoint.address)
        await trio.sleep(WITHDRAWN_S)
        with trio.move_on_after(self.launcher.drain_s(endpoint.pool)):
            while self.is_connected(endpoint.address.port):  # noqa: ASYNC110 (the kernel does not notify)
                await trio.sleep(CHECK_CONNECTIONS_EVERY_S)
        await endpoint.process.stop(self.launcher.stop_s(endpoint.pool))


def unknown_command(topology: Topology) -> str:
    """What is wrong with the command of a pool whose program does not exist; empty if all exist."""
    for pool in topology.pools.values():
        if pool.run is None:
            continue
        program = shlex.split(pool.run.command)[0]
        if shutil.which(program, path=search_path()) is None:
            return f"pools.{pool.name}.run.command: there is no program {program!r}: write its full path"
    return ""


def _filled_in(part: str, address: Address) -> str:
    return part.replace("{host}", address.host).replace("{port}", str(address.port))
