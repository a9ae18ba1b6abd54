"""Nodes started by hand below a controller that is killed and comes back: edge (l4) → two l7 nodes, each with its own
endpoint in this process, which a test can make slow."""

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from scripts.benchmarks.lost import kill
from tests.cluster.controller import TOKEN
from tests.cluster.traffic import Endpoint, Traffic
from tests.processes import Process, running, tierlb
from tierlb.model.address import Address, parse_address
from tierlb.node.process import TOKEN_VARIABLE

DEADLINE_S = 240.0
START_S = 120.0
SLOW_S = 0.3
EVEN, LITTLE = 0.5, 0.2
NODES = {"edge-1": "edge", "left-1": "left", "right-1": "right"}
TOPOLOGY = """\
cluster: orphans
tiers:
  edge: {{kind: l4, listen: "{listen}", to: [left, right]}}
  left: {{kind: l7, routes: [{{match: {{path: /work}}, to: slow}}]}}
  right: {{kind: l7, routes: [{{match: {{path: /work}}, to: fast}}]}}
pools:
  slow: {{endpoints: ["{slow}"]}}
  fast: {{endpoints: ["{fast}"]}}
"""


@attrs.define
class Orphans:
    """The nodes' processes, and a controller that comes and goes."""

    file: Path
    log: Path
    listen: Address
    control: str
    slow: Endpoint
    nodes: dict[str, "Process[bytes]"] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def controlled(self) -> Iterator["Process[bytes]"]:
        """A controller for as long as the block runs."""
        argv = [sys.executable, "-m", "tests.cluster.controller", str(self.file), self.control.rpartition(":")[2]]
        with running(argv, self.log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield process

    async def until_whole(self, controller: "Process[bytes]") -> dict[str, Any]:
        """The status as soon as nothing is missing."""

        def ask() -> dict[str, Any]:
            assert controller.stdin is not None
            assert controller.stdout is not None
            controller.stdin.write(b"\n")
            controller.stdin.flush()
            return dict(json.loads(controller.stdout.readline()))

        with trio.fail_after(START_S):
            while (status := await trio.to_thread.run_sync(ask))["missing"]:  # noqa: ASYNC110 (asked anew each time)
                await trio.sleep(0.05)
        return status


@pytest.fixture
async def orphans(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Orphans]:
    slow, fast = Endpoint(), Endpoint()
    for endpoint in (slow, fast):
        await nursery.start(endpoint.serve)
    listen, control = free_address(), free_address()
    file, log = tmp_path / "orphans.yaml", tmp_path / "log"
    file.write_text(TOPOLOGY.format(listen=listen, slow=slow.address, fast=fast.address))
    orphans = Orphans(file, log, parse_address(listen), control, slow)
    with contextlib.ExitStack() as stack:
        for name, tier in NODES.items():
            argv = tierlb("node", name=name, tier=tier, join=f"ws://{control}")
            orphans.nodes[name] = stack.enter_context(running(argv, log, {TOKEN_VARIABLE: TOKEN}))
        yield orphans


def pids(status: dict[str, Any]) -> dict[str, int]:
    return {node["name"]: node["pid"] for tier in status["tiers"].values() for node in tier["nodes"]}


async def test_traffic_reports_and_weights_go_on_without_the_controller_and_it_learns_the_tree_again(
    orphans: Orphans,
) -> None:
    traffic = Traffic((orphans.listen.host, orphans.listen.port), work="/work")
    with trio.fail_after(DEADLINE_S):
        with orphans.controlled() as controller:
            before = await orphans.until_whole(controller)
            async with traffic.flowing(kept=2, fresh=6):
                await traffic.until_share("left-1", EVEN / 2)
                kill(controller.pid)
                orphans.slow.takes_s = SLOW_S
                await traffic.until_share("left-1", 0.0, LITTLE)
                with orphans.controlled() as again:
                    after = await orphans.until_whole(again)
                    await traffic.until_share("left-1", 0.0, LITTLE)
    assert traffic.failures == []
    assert pids(before) == pids(after) == {name: process.pid for name, process in orphans.nodes.items()}
    assert after["serving"]
