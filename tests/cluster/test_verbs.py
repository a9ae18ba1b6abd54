"""The commands as a person types them, on real clusters, while clients ask for answers."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.changing import DEMO, Load

DEADLINE_S = 240.0
POLL_S = 0.05
FILE = """\
# a comment that stays
cluster: small
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, listen: "{edge}", to: web}}
  web: {{kind: l7, replicas: 2, to: demo}}   # two are enough
pools:
  demo: {{run: {{command: "{command}", replicas: 2}}}}
"""


@attrs.define
class Site:
    """A directory with a topology file, and commands that are run there."""

    directory: Path
    admin: str
    edge: str

    @property
    def file(self) -> Path:
        return self.directory / "small.yaml"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.edge.rpartition(":")
        return host, int(port)

    async def run(self, *arguments: str, code: int = 0) -> str:
        """What the command says on both outputs."""
        done = await trio.run_process(
            [sys.executable, "-m", "tierlb", *arguments],
            cwd=self.directory,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = done.stdout.decode()
        assert done.returncode == code, said
        return said

    async def ask(self, *arguments: str, code: int = 0) -> str:
        return await self.run(*arguments, "--admin", f"http://{self.admin}", code=code)

    async def status(self) -> dict[str, Any]:
        return dict(json.loads(await self.ask("status", "--json")))

    async def until_asked(self, what: str) -> None:
        """Wait until this change has begun."""
        async with httpx.AsyncClient(trust_env=False) as http:
            begun = None
            while begun is None or begun["what"] != what:
                await trio.sleep(POLL_S)
                begun = (await http.get(f"http://{self.admin}/v1/progress")).json()["change"]

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """In the background, for as long as the block lasts."""
        try:
            assert "small is ready" in await self.run("up", "small.yaml", "--detach")
            yield
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + DEADLINE_S):
                said = await self.run("down", "small.yaml")
                time = said.partition("under way have up to ")[2].partition(";")[0]
                log = (self.directory / ".tierlb" / "small" / "log").read_text()
                assert f"work in progress has up to {time};" in log


def site(directory: Path) -> Site:
    site = Site(directory, free_address(), free_address())
    command = DEMO.replace('"', '\\"')
    site.file.write_text(FILE.format(admin=site.admin, edge=site.edge, command=command))
    return site


def names(status: dict[str, Any], tier: str) -> list[str]:
    return [node["name"] for node in status["tiers"][tier]["nodes"]]


def revisions(status: dict[str, Any]) -> set[int]:
    """Of the cluster and of each node."""
    nodes = (node for tier in status["tiers"].values() for node in tier["nodes"])
    return {status["revision"], *(node["revision"] for node in nodes)}


def wanted(status: dict[str, Any]) -> dict[str, str]:
    return {node["name"]: node["admin"] for node in status["tiers"]["web"]["nodes"]}


def pids(status: dict[str, Any], tier: str) -> set[int]:
    return {node["pid"] for node in status["tiers"][tier]["nodes"]}


async def test_a_cluster_is_changed_by_its_verbs_and_nobody_notices(tmp_path: Path) -> None:
    small = site(tmp_path)
    first = small.file.read_text()
    with trio.fail_after(DEADLINE_S):
        async with small.up(), Load(small.address).flowing(kept=4, fresh=2) as load:
            await add_a_tier(small)
            assert "the current one is 2" in await small.ask("scale", "web=3", "--expected", "1", code=1)
            await go_back_while_others_ask(small)
            await drain_a_node(small)
            assert small.file.read_text() == first, "the file is in step, with its comments"
        async with small.up():
            status = await small.status()
            assert list(status["tiers"]) == ["edge", "web"]
            assert revisions(status) == {5}
            assert wanted(status) == {"web-1": "maintenance", "web-2": "ready"}, "it outlives the cluster"
            await small.ask("rollback", "4")
            assert wanted(await small.status()) == {"web-1": "ready", "web-2": "ready"}
            history = await small.ask("history")
    assert load.failures == []
    assert load.answered > 100
    assert [line.split("  ")[-1].strip() for line in history.splitlines()[1:]] == [
        "the file at the start",
        "tier add cache",
        "fair is fair",
        "back to revision 1",
        "maintenance web-1: old disk",
        "back to revision 4",
    ]
    assert "no cluster runs" in await small.run("down", "small.yaml", code=1)


async def add_a_tier(small: Site) -> None:
    verb = ("tier", "add", "cache", "--kind", "l7", "--between", "edge", "web", "--replicas", "2")
    plan = await small.ask(*verb, "--dry-run")
    assert "tier cache (l7) is added: starts cache-1 and cache-2, sends to web" in plan
    assert "cache" not in small.file.read_text()
    said = await small.ask(*verb)
    assert said.splitlines()[-1] == "done: revision 2"
    assert "stage 3 of 3" in said
    text = small.file.read_text()
    assert "  cache:" in text
    assert text.startswith("# a comment that stays")
    before = await small.status()
    assert names(before, "cache") == ["cache-1", "cache-2"]
    assert revisions(before) == {2}, "the status counts as the history does"
    assert (await small.ask("restart", "web")).splitlines()[-1] == "done"
    assert pids(before, "web").isdisjoint(pids(await small.status(), "web"))


async def refuse_what_cannot_be(small: Site) -> None:
    (small.directory / "bad.yaml").write_text(small.file.read_text().replace("to: demo", "to: demi"))
    assert "bad.yaml:" in await small.ask("apply", "bad.yaml", code=2)
    (small.directory / "guessed").write_text("guessed\n")
    assert "not the token" in await small.ask("restart", "web", "--token-file", "guessed", code=1)


async def go_back_while_others_ask(small: Site) -> None:
    in_turns = small.file.read_text().replace("to: demo", "balance: round-robin, to: demo")
    (small.directory / "turns.yaml").write_text(in_turns)
    said = json.loads(await small.ask("apply", "turns.yaml", "--why", "fair is fair", "--json"))
    assert (said["outcome"], said["revision"]) == ("done", 3)
    assert small.file.read_text() == in_turns
    async with trio.open_nursery() as nursery:
        nursery.start_soon(small.ask, "rollback", "1")
        await small.until_asked("rollback 1")
        refused = json.loads(await small.ask("scale", "web=5", "--json", code=1))
        assert (refused["kind"], refused["change"]["revision"]) == ("busy", 4)
        assert "revision 4 (rollback 1, by " in await small.ask("apply", "small.yaml", code=1)
        await refuse_what_cannot_be(small)
        assert (await small.ask("progress")).splitlines()[-1] == "done: revision 4"


async def drain_a_node(small: Site) -> None:
    assert "web-1: ready → drain: it gets nothing new" in await small.ask("drain", "web-1", "--dry-run")
    said = await small.ask("maintenance", "web-1", "--why", "old disk")
    assert "web-1: ready → maintenance: it gets nothing new" in said
    assert said.splitlines()[-1] == "done: revision 5"
    assert "is the last one of web that serves" in await small.ask("drain", "web-2", code=1)
    assert "nothing would change" in await small.ask("maintenance", "web-1")
    assert (await small.ask("history", "5")).endswith("# web-1: maintenance\n")
    assert "web-1" not in small.file.read_text()


async def test_a_file_that_is_watched_is_applied_as_it_is_edited(tmp_path: Path) -> None:
    small = site(tmp_path)
    first = small.file.read_text()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            arguments = [sys.executable, "-m", "tierlb", "up", "small.yaml", "--watch", "--state", "state"]
            output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            process = await trio.lowlevel.open_process(arguments, cwd=tmp_path, **output)
            assert process.stdout is not None
            said = Said(process.stdout)
            try:
                await said.until("Ctrl-C stops everything")
                async with Load(small.address).flowing(kept=2, fresh=1) as load:
                    small.file.write_text(first.replace("to: demo", "to: demi").replace("two are", "two were"))
                    await said.until("(did you mean 'demo'?)")
                    assert "small.yaml:6:" in said.text
                    small.file.write_text(first.replace("replicas: 2, to", "replicas: 3, to"))
                    await said.until('"outcome": "done"')
                    assert names(await small.status(), "web") == ["web-1", "web-2", "web-3"]
                process.terminate()
                assert await process.wait() == 0
            finally:
                process.kill()
                nursery.cancel_scope.cancel()
    assert "web grows from 2 to 3 nodes" in said.text
    assert load.failures == []


@attrs.define
class Said:
    """What a process has said so far."""

    stream: trio.abc.ReceiveStream
    text: str = ""

    async def until(self, words: str) -> None:
        while words not in self.text:
            chunk = await self.stream.receive_some()
            assert chunk, f"it ended with:\n{self.text}"
            self.text += chunk.decode()
