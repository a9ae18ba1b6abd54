"""Live changes of real clusters under a steady light load: no request fails, nothing is left over, and what does not
come off is taken back, also when everything is killed in the middle of it."""

import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.changing import DEMO, Load, Site, children_of, listening, running_site
from tests.processes import Process, running
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NotPossible
from tierlb.controller.store import FileStore
from tierlb.model.address import parse_address
from tierlb.model.topology import Policy
from tierlb.topology.edit import AddTier, Edit, EditError, RemoveTier, Scale, SetPolicy
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError

DEADLINE_S = 240.0
END_S = 30.0
"""What a killed supervisor leaves is killed by its guard at once."""
TEXT = """\
cluster: changing
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web, forward: {forward}}}
  web: {{kind: l7, replicas: {web}, to: demo}}
pools:
  demo: {{run: {{command: "{demo}"}}}}
"""
MID = AddTier("mid", "l7", between=("edge", "web"))


def topology_and_load(web: int = 1, forward: str = "auto") -> tuple[str, Load]:
    listen = parse_address(free_address())
    return TEXT.format(listen=listen, web=web, demo=DEMO, forward=forward), Load((listen.host, listen.port))


@pytest.mark.parametrize("forward", ["handoff", "relay"])
async def test_no_request_fails_while_tiers_come_and_go_and_processes_are_replaced(
    tmp_path: Path, forward: str
) -> None:
    text, load = topology_and_load(forward=forward)
    with trio.fail_after(DEADLINE_S):
        async with running_site(text, tmp_path) as site, load.flowing():
            changes, request = site.changes, site.request
            await site.done(await changes.edit(MID, request, "tier add mid"))
            await site.done(await changes.edit(Scale({"web": 2}), request, "scale web=2"))
            await site.done(changes.restart("web", request))
            await site.done(changes.restart("edge", request))
            await site.done(await changes.edit(RemoveTier("mid"), request, "tier remove mid"))
            assert load.failures == []
    assert load.failures == []
    assert load.answered > 1000


async def test_a_tier_whose_nodes_keep_ending_is_taken_back_and_nobody_notices(tmp_path: Path) -> None:
    text, load = topology_and_load()
    with trio.fail_after(DEADLINE_S):
        async with running_site(text, tmp_path) as site, load.flowing(), trio.open_nursery() as nursery:
            before = pids(site)
            nursery.start_soon(kill_again_and_again, site, "mid-1")
            progress = await site.over(await site.changes.edit(MID, site.request, "tier add mid"))
            nursery.cancel_scope.cancel()
    assert (progress.outcome, progress.reason) == ("rolled back", "mid-1 ended with SIGKILL")
    assert progress.stage == 1
    assert load.failures == []
    assert site.changes.text == text
    assert {name: pid for name, pid in before.items() if pids(site).get(name) not in (pid, None)} == {}


def pids(site: Site) -> dict[str, int]:
    records = site.controller.registry.records
    return {name: record.hello.pid for name, record in records.items() if record.hello is not None}


async def kill_again_and_again(site: Site, node: str) -> None:
    """As a machine without memory does."""
    while True:
        for pid, name in children_of(os.getpid()).items():
            if name == node:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await trio.sleep(0.02)


# Everything is killed in the middle of a change.


@attrs.define
class Up:
    """`tierlb up` as a person runs it, in a directory of its own."""

    directory: Path
    admin: str
    listen: str

    @property
    def file(self) -> Path:
        return self.directory / "topology.yaml"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @contextlib.contextmanager
    def running(self) -> Iterator["Process[bytes]"]:
        argv = [sys.executable, "-m", "tierlb", "up", str(self.file), "--state", str(self.directory / "state")]
        with running(argv, self.log) as process:
            yield process

    async def serves(self) -> None:
        """Wait until changes can be made, and a request is answered."""
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await http.get(f"http://{self.admin}/healthz")
                    if answer.status_code == 200 and (self.directory / "state" / "admin-token").exists():
                        break
                await trio.sleep(0.02)
            assert (await http.get(f"http://{self.listen}/work")).status_code == 200

    async def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        token = (self.directory / "state" / "admin-token").read_text().strip()
        fields = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.request(method, f"http://{self.admin}{path}", json=body, headers=fields)
        assert answer.status_code < 300, answer.text
        return dict(answer.json())

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(text) for line in lines if line.startswith("{") for text in _apart(line)]


def _apart(line: str) -> list[str]:
    """The objects of a line: processes that write to one file at the same time may end up on the same one."""
    return line.replace('}{"', '}\n{"').splitlines()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


ADD_MID = {"edit": {"verb": "tier-add", "name": "mid", "kind": "l7", "between": ["edge", "web"]}}


@pytest.mark.parametrize("stage", [0, 2, 3])
async def test_a_killed_cluster_starts_again_as_before_the_change_or_as_after_it_where_that_was_over(
    stage: int, tmp_path: Path
) -> None:
    """Stage 0: as soon as a process of the change runs; 2: while traffic moves; 3: with the last stage, which may be
    over before the kill comes. Which of the two it was is what the dead controller has stored."""
    up = Up(tmp_path, free_address(), free_address())
    text = TEXT.format(listen=up.listen, web=1, demo=DEMO, forward="auto") + f'admin: {{listen: "{up.admin}"}}\n'
    up.file.write_text(text)
    with trio.fail_after(DEADLINE_S):
        with up.running() as process:
            await up.serves()
            begun = await up.ask("POST", "/v1/edit", ADD_MID)
            assert up.file.read_text() != text
            while begun["stage"] < stage:
                begun = await up.ask("GET", f"/v1/progress/{begun['number']}")
            while "mid-1" not in children_of(process.pid).values():  # noqa: ASYNC110 (nothing tells)
                await trio.sleep(0.01)
            process.send_signal(signal.SIGSTOP)  # the change goes no further while the processes are counted
            left = children_of(process.pid)
            assert {"edge-1", "web-1", "mid-1"} <= set(left.values())
            process.kill()
            process.wait()
        with trio.fail_after(END_S):
            while any(map(is_alive, left)):  # noqa: ASYNC110 (processes of a dead parent)
                await trio.sleep(0.02)
        store = FileStore(tmp_path / "state")
        rollout = (await store.load()).stored.rollout
        (await store.close())
        over = rollout is None or rollout.over
        assert stage == 3 or not over
        with up.running() as process:
            await up.serves()
            status, history = await up.ask("GET", "/v1/status"), await up.ask("GET", "/v1/history")
            assert set(children_of(process.pid).values()) == {"", "edge-1", "web-1"} | ({"mid-1"} if over else set())
            assert up.listen in listening(process.pid)
    assert (up.file.read_text() == text) is not over
    assert set(status["tiers"]) == {"edge", "web"} | ({"mid"} if over else set())
    rows = [(row["number"], row["active"], row["undone"]) for row in history["revisions"]]
    assert rows == ([(1, False, False), (2, True, False)] if over else [(1, True, False), (2, False, True)])
    cut_short = [event for event in up.events() if event["event"] == "change_interrupted"]
    assert [(told["revision"], told["back_to"]) for told in cut_short] == ([] if over else [(2, 1)])


# Whatever comes.

CHANGES = 12
SEED = 3


def random_edit(site: Site, rng: random.Random, number: int) -> Edit:
    """The tier web stays: where no l7 node is, nobody can end a connection politely."""
    topology = load_text(site.changes.text, "FILE")
    tier = rng.choice(list(topology.tiers.values()))
    edits: list[Edit] = [
        Scale({tier.name: rng.randint(1, 2)}),
        Scale({"demo": rng.randint(1, 2)}),
        SetPolicy(tier.name, rng.choice(list(Policy))),
        AddTier(f"n{number}", rng.choice(["l4", "l7"]), between=(tier.name, rng.choice(tier.targets))),
        AddTier(f"n{number}", "l4", above="edge"),
        RemoveTier(rng.choice([name for name in topology.tiers if name != "web"] or ["web-1"])),
    ]
    return rng.choice(edits)


async def begin(site: Site, rng: random.Random, number: int) -> Progress | None:
    """Some change, or None if the one that was drawn is not possible or too much."""
    try:
        match rng.randrange(6):
            case 0:
                return site.changes.restart(rng.choice(list(site.controller.topology.tiers)), site.request)
            case 1:
                return await site.changes.rollback(rng.choice(site.changes.history.revisions).number, site.request)
            case _:
                return await site.changes.edit(random_edit(site, rng, number), site.request, "edit")
    except (EditError, TopologyError, NotPossible):
        return None


async def test_a_dozen_changes_in_a_row_whatever_they_are(tmp_path: Path) -> None:
    text, load = topology_and_load()
    rng, made = random.Random(SEED), 0
    with trio.fail_after(8 * DEADLINE_S):
        async with running_site(text, tmp_path) as site, load.flowing(kept=6):
            for number in range(1, 100):
                progress = await begin(site, rng, number)
                if progress is not None:
                    await site.done(progress)
                    assert load.failures == [], (progress.what, progress.lines, site.changes.text)
                    made += 1
                if made == CHANGES:
                    break
    assert load.failures == []
    assert made == CHANGES
