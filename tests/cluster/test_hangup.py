"""SIGHUP: the file is read again, and the process goes on whatever the file says."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from scripts.benchmarks.cluster import Cluster, free_address
from tests.processes import running, tierlb

DEADLINE_S = 90.0
FILE = """\
cluster: hung
admin: {{listen: "{admin}"}}
tiers:
  web: {{kind: l7, listen: "{web}", routes: [{{respond: {{body: one}}}}]}}
"""


@contextmanager
def started(command: str, directory: Path, **options: object) -> Iterator[tuple[Cluster, Path]]:
    """`tierlb up` or `tierlb controller` of a file, and the file."""
    admin, file = free_address(), directory / "hung.yaml"
    file.write_text(FILE.format(admin=admin, web=free_address()))
    with running([*tierlb(command, state=directory / "state", **options), str(file)], directory / "up.log") as process:
        cluster = Cluster(admin, directory, process)
        trio.run(cluster.wait_until, "its history can be read", lambda: revisions(cluster) == 1, DEADLINE_S)
        yield cluster, file


def revisions(cluster: Cluster) -> int:
    try:
        answer = httpx.get(f"http://{cluster.admin}/v1/history", timeout=DEADLINE_S, trust_env=False)
        return len(answer.json()["revisions"])
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize(("command", "options"), [("up", {}), ("controller", {"listen": "127.0.0.1:0"})])
def test_a_hangup_has_the_file_read_again(tmp_path: Path, command: str, options: dict[str, object]) -> None:
    with started(command, tmp_path, **options) as (cluster, file):
        good = file.read_text()
        file.write_text(good.replace("kind: l7", "kind: l8"))
        if command == "up":
            trio.run(cluster.wait_until, "it serves", cluster.serves, DEADLINE_S)
        cluster.process.send_signal(signal.SIGHUP)
        log = cluster.log.read_text
        trio.run(cluster.wait_until, "the problem is logged", lambda: "tiers.web.kind" in log(), DEADLINE_S)
        assert revisions(cluster) == 1
        file.write_text(good.replace("body: one", "body: two"))
        cluster.process.send_signal(signal.SIGHUP)
        trio.run(cluster.wait_until, "the file is accepted", lambda: revisions(cluster) == 2, DEADLINE_S)
        assert cluster.process.poll() is None


def test_a_hangup_while_the_cluster_starts_is_not_lost(tmp_path: Path) -> None:
    with started("up", tmp_path) as (cluster, file):
        file.write_text(file.read_text().replace("body: one", "body: two"))
        cluster.process.send_signal(signal.SIGHUP)
        trio.run(cluster.wait_until, "the file is accepted", lambda: revisions(cluster) == 2, DEADLINE_S)


SAYS_WHETHER_IT_IS_GONE = """
import os
from tierlb.local.supervisor import terminal_is_gone
for _ in range(2):
    os.read(3, 1)
    os.write(4, b"gone" if terminal_is_gone() else b"here")
"""


def test_a_terminal_that_was_closed_is_noticed() -> None:
    """Then SIGHUP stops the cluster, for nobody is left who could press Ctrl-C."""
    terminal, end = os.openpty()
    asks, asked = os.pipe()
    answer, answers = os.pipe()
    code = f"import os; os.dup2({asks}, 3); os.dup2({answers}, 4)\n{SAYS_WHETHER_IT_IS_GONE}"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=end, pass_fds=(asks, answers))
    try:
        os.close(end)
        os.write(asked, b"?")
        assert os.read(answer, 4) == b"here"
        os.close(terminal)
        os.write(asked, b"?")
        assert os.read(answer, 4) == b"gone"
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        for descriptor in (asks, asked, answer, answers):
            os.close(descriptor)
