"""A node is killed and started again while there is no controller: it serves what it served, where it served it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.changing import Load
from tests.cluster.controller import TOKEN
from tests.processes import Process, running, tierlb
from tierlb.model.address import Address, parse_address
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.node.snapshot_cache import SnapshotCache, load

DEADLINE_S = 180.0
WAIT_S = 40.0
NODES = {"edge-1": "edge", "web-1": "web"}
TOPOLOGY = """\
cluster: alone
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, routes: [{{match: {{path: /work}}, respond: {{status: 200, body: "done"}}}}]}}
"""


@attrs.define
class Alone:
    """The nodes' processes, which a test ends and starts."""

    directory: Path
    listen: Address
    control: str
    stack: contextlib.ExitStack
    nodes: dict[str, "Process[bytes]"] = attrs.field(factory=dict)

    def start(self, name: str) -> None:
        argv = tierlb("node", name=name, tier=NODES[name], join=f"ws://{self.control}", state=self.directory / name)
        log = self.directory / "log"
        self.nodes[name] = self.stack.enter_context(running(argv, log, {TOKEN_VARIABLE: TOKEN}))

    def kill(self, name: str) -> None:
        os.kill(self.nodes[name].pid, signal.SIGKILL)
        self.nodes[name].wait(WAIT_S)

    def kept(self, name: str) -> SnapshotCache | None:
        return load(self.directory / name, name, NODES[name], "alone")[0]

    @contextlib.contextmanager
    def controlled(self) -> Iterator["Process[bytes]"]:
        """A controller for as long as the block runs."""
        argv = [sys.executable, "-m", "tests.cluster.controller", str(self.directory / "alone.yaml")]
        port = self.control.rpartition(":")[2]
        with running([*argv, port], self.directory / "log", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield process


def ask(controller: "Process[bytes]") -> dict[str, Any]:
    assert controller.stdin is not None
    assert controller.stdout is not None
    controller.stdin.write(b"\n")
    controller.stdin.flush()
    return dict(json.loads(controller.stdout.readline()))


async def until_whole(controller: "Process[bytes]") -> dict[str, Any]:
    """The status as soon as nothing is missing."""
    with trio.fail_after(WAIT_S):
        while (status := await trio.to_thread.run_sync(ask, controller))["missing"]:  # noqa: ASYNC110 (asked anew)
            await trio.sleep(0.05)
    return status


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 (of other processes)
            await trio.sleep(0.02)


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Alone]:
    listen = free_address()
    (tmp_path / "alone.yaml").write_text(TOPOLOGY.format(listen=listen))
    with contextlib.ExitStack() as stack:
        alone = Alone(tmp_path, parse_address(listen), free_address(), stack)
        for name in NODES:
            alone.start(name)
        yield alone


async def test_a_node_serves_after_a_restart_without_a_controller(alone: Alone) -> None:
    traffic = Load((alone.listen.host, alone.listen.port))
    with trio.fail_after(DEADLINE_S):
        with alone.controlled() as controller:
            await until_whole(controller)
            await until(lambda: all(good and (good.parents or good.node == "edge-1") for good in kept_of_all(alone)))
        before = [good for good in kept_of_all(alone) if good is not None]
        async with traffic.flowing(kept=2, fresh=2):
            await until(lambda: traffic.answered > 20)
        assert traffic.failures == []
        for name in NODES:
            alone.kill(name)
            alone.start(name)
            await serves_again(traffic)
        async with traffic.flowing(kept=2, fresh=2):
            answered = traffic.answered
            await until(lambda: traffic.answered > answered + 20)
            with alone.controlled() as controller:
                status = await until_whole(controller)
                await trio.sleep(0.5)
    assert traffic.failures == [], "neither alone nor when the controller is back"
    rows = {node["name"]: node for tier in status["tiers"].values() for node in tier["nodes"]}
    assert {name: row["pid"] for name, row in rows.items()} == {n: p.pid for n, p in alone.nodes.items()}
    for good in before:
        assert rows[good.node]["addresses"] == [str(address) for address in good.addresses], "at the very same ports"


def kept_of_all(alone: Alone) -> list[SnapshotCache | None]:
    return [alone.kept(name) for name in NODES]


async def serves_again(traffic: Load) -> None:
    """Ask until the first answer; until then requests may fail, for nobody is there. How soon a node goes on alone is
    in tests/node/test_process.py."""
    probe = Load(traffic.address)
    with trio.fail_after(WAIT_S):
        while not probe.answered:
            async with probe.flowing(kept=0, fresh=1, think_s=0.01):
                await trio.sleep(0.05)
