"""Several nodes at one public port: a burst is shared evenly, and nothing that waits at one of them is lost."""

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from scripts.benchmarks.cluster import free_address
from scripts.benchmarks.cores import accepted
from tests.cluster.changing import ASK, DEMO, Load, Site, running_site
from tierlb.model.address import Address, parse_address
from tierlb.topology.edit import Scale

NODES = 3
BURST = 240
"""With three nodes, one gets less than half or more than twice its share by chance once in 10^10 bursts."""
DEADLINE_S = 240.0
TEXT = """\
cluster: one-port
tiers:
  web: {{kind: l7, listen: "{listen}", replicas: {nodes}, to: demo}}
pools:
  demo: {{run: {{command: "{demo}"}}}}
"""


@pytest.fixture
def listen() -> Address:
    return parse_address(free_address())


@contextlib.asynccontextmanager
async def site_with(nodes: int, listen: Address, directory: Path) -> AsyncIterator[Site]:
    with trio.fail_after(DEADLINE_S):
        async with running_site(TEXT.format(listen=listen, nodes=nodes, demo=DEMO), directory) as site:
            yield site


def pid_of(site: Site, node: str) -> int:
    return next(pid for pid, name in site.children().items() if name == node)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (the kernel's tables announce nothing)
        await trio.sleep(0.05)


class Crowd:
    """Clients that connect at once and ask."""

    def __init__(self, stack: contextlib.ExitStack, address: Address, count: int) -> None:
        self.socks = [stack.enter_context(socket.create_connection(address.sockaddr, DEADLINE_S)) for _ in range(count)]
        for sock in self.socks:
            sock.sendall(ASK)

    async def answered(self) -> list[bytes]:
        """The first bytes of each answer."""
        answers = [b""] * len(self.socks)

        async def hear(number: int) -> None:
            answers[number] = await trio.to_thread.run_sync(self.socks[number].recv, 12, limiter=limiter)

        limiter = trio.CapacityLimiter(len(self.socks))
        async with trio.open_nursery() as nursery:
            for number in range(len(self.socks)):
                nursery.start_soon(hear, number)
        return answers


async def test_a_burst_is_shared_evenly(listen: Address, tmp_path: Path) -> None:
    async with site_with(NODES, listen, tmp_path) as site:
        pids = [pid_of(site, f"web-{number}") for number in range(1, NODES + 1)]
        with contextlib.ExitStack() as stack:
            for _ in range(BURST):
                stack.enter_context(socket.create_connection(listen.sockaddr, DEADLINE_S))
            await until(lambda: sum(accepted(pids, listen.port)) == BURST)
            counts = accepted(pids, listen.port)
    share = BURST / NODES
    assert all(share / 2 < count < share * 2 for count in counts), counts


@pytest.mark.parametrize("then", ["it stays so", "it is killed"])
async def test_what_comes_to_a_node_that_stands_still_is_served_by_another(
    listen: Address, tmp_path: Path, then: str
) -> None:
    """Without the others a third of the clients would wait until the node goes on."""
    async with site_with(NODES, listen, tmp_path) as site:
        pid = pid_of(site, "web-2")
        os.kill(pid, signal.SIGSTOP)
        try:
            with contextlib.ExitStack() as stack:
                crowd = Crowd(stack, listen, 60)
                if then == "it is killed":
                    os.kill(pid, signal.SIGKILL)
                assert set(await crowd.answered()) == {b"HTTP/1.1 200"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_no_connection_is_lost_while_nodes_come_and_go(listen: Address, tmp_path: Path) -> None:
    load = Load((listen.host, listen.port))
    async with site_with(1, listen, tmp_path) as site, load.flowing(kept=4, fresh=8):
        changes, request = site.changes, site.request
        await site.done(await changes.edit(Scale({"web": 3}), request, "scale web=3"))
        await site.done(changes.restart("web", request))
        await site.done(await changes.edit(Scale({"web": 2}), request, "scale web=2"))
        await site.done(await changes.edit(Scale({"web": 3}), request, "scale web=3"))
        await site.done(await changes.edit(Scale({"web": 1}), request, "scale web=1"))
        assert load.failures == []
    assert load.failures == []
    assert load.answered > 500
