"""A whole cluster as a user starts it: `tierlb up FILE`, seen through its admin API, ended as by Ctrl-C."""

import contextlib
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from tierlb.local.ports import FreePorts

START_S = 90.0
STOP_S = 30.0
POLL_S = 0.05
ANSWER_S = 5.0
LOG_TAIL_LINES = 25

_ports = FreePorts(random.Random())


class ClusterFailed(Exception):  # noqa: N818 (the text is the whole message)
    """The cluster ended or did not get there in time; says what was waited for and ends with its log."""


def free_address() -> str:
    """A `127.0.0.1:port` nobody listens on, from below the ports that outgoing connections are given."""
    return f"127.0.0.1:{_ports.take()}"


@attrs.frozen
class Cluster:
    """One running `tierlb up`."""

    admin: str
    directory: Path
    process: "subprocess.Popen[bytes]"

    @property
    def log(self) -> Path:
        """Where everything that it prints goes."""
        return self.directory / "up.log"

    @property
    def state(self) -> Path:
        """Where it says how to join it."""
        return self.directory / "state"

    def status(self) -> dict[str, Any]:
        """The live tree, as `GET /v1/status` gives it. Raises httpx.TransportError."""
        answer = httpx.get(f"http://{self.admin}/v1/status", timeout=ANSWER_S, trust_env=False)
        return dict(answer.raise_for_status().json())

    def nodes(self, tier: str) -> dict[str, dict[str, Any]]:
        """A tier's nodes by name."""
        return {node["name"]: node for node in self.status()["tiers"][tier]["nodes"]}

    def serves(self) -> bool:
        """Whether every tier and pool has somebody that serves."""
        try:
            return httpx.get(f"http://{self.admin}/healthz", timeout=ANSWER_S, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def is_whole(self) -> bool:
        """Whether every node serves; pools that others may join can be empty."""
        try:
            return not self.status()["missing"]
        except httpx.TransportError:
            return False

    def is_started(self) -> bool:
        """Whether it was whole once since its start; what it lacks later is another matter."""
        try:
            return not self.status()["starting"]
        except httpx.TransportError:
            return False

    async def wait_until(self, what: str, holds: Callable[[], bool], deadline_s: float) -> None:
        """Ask until it holds. Raises ClusterFailed at the deadline, or as soon as the cluster has ended."""
        with trio.move_on_after(deadline_s):
            while self.process.poll() is None:
                if await trio.to_thread.run_sync(holds):
                    return
                await trio.sleep(POLL_S)
            raise ClusterFailed(f"tierlb up ended with {self.process.returncode}\n{self._tail()}")
        raise ClusterFailed(f"not within {deadline_s:g} s: {what}\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


@contextlib.contextmanager
def running_cluster(
    topology: str,
    admin: str,
    directory: Path,
    ready: Callable[[Cluster], bool] = Cluster.serves,
    descriptors: int | None = None,
) -> Iterator[Cluster]:
    """Start the topology (YAML whose admin address is `admin`), wait until it is `ready`, stop it afterwards.
    `descriptors`: the hard limit for each of its processes."""
    file, state = directory / "topology.yaml", directory / "state"
    file.write_text(topology)
    command = [sys.executable, "-m", "tierlb", "up", str(file), "--state", str(state)]
    with (directory / "up.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if descriptors is None else partial(_limit_descriptors, descriptors),
        )
    cluster = Cluster(admin, directory, process)
    try:
        trio.run(cluster.wait_until, "the tree serves", lambda: ready(cluster), START_S)
        yield cluster
    finally:
        _stop(process)


def _limit_descriptors(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
