"""What is lost when the active one of two controllers is killed: time, requests, revisions.

Two controllers share an etcd; below them are an edge, three l7 nodes and two endpoints, all on loopback. Clients keep
their connections and ask by an open-loop schedule. Again and again the active controller is killed with SIGKILL, in the
instant in which it has accepted a change or when that is done. It is measured when the other one is active, accepts the
next change, and has every node; then the dead one is started anew, to be the next that takes over.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import click
import httpx
import trio

from scripts.benchmarks import openloop, table
from scripts.benchmarks.arrivals import Rate, poisson
from scripts.benchmarks.cluster import free_address
from scripts.benchmarks.openloop import Lane, Plan, Result
from scripts.benchmarks.processes import DidNotStartError, Running, running
from scripts.benchmarks.results import finish, machine, need
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import OK, Seen, Window

Json = dict[str, Any]

WHEN = ("a change was accepted", "a change was done")
POLICIES = ("round-robin", "load-aware")
EVERY_S = 15.0
"""From one kill to the next; what it takes to start the dead one again is among it."""
LEAD_S = 1.5
MOST_S = 30.0
POLL_S = 0.02
CLIENTS = 32
PER_SECOND = 200.0
ACTIVE_S = 5.0
NAMES = ("one", "other")
NODES = {"edge-1": "edge", "web-1": "web", "web-2": "web", "web-3": "web"}
ENDPOINTS = 2
TOPOLOGY = """\
cluster: failover
store: etcd://{etcd}/bench
admin: {{listen: 127.0.0.1:7900}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, replicas: 3, to: app}}
pools:
  app: {{endpoints: [{endpoints}]}}
"""


@attrs.frozen
class Kill:
    """One kill: seconds from the beginning of the load, and from the kill until each thing was so again. `lost`: how
    many of the revisions accepted before are not in the history that the other one tells."""

    when: str
    at_s: float
    active_s: float = 0.0
    changed_s: float = 0.0
    whole_s: float = 0.0
    lost: int = 0
    problem: str = ""

    def __str__(self) -> str:
        figures = f"active after {self.active_s:.1f} s, every node there after {self.whole_s:.1f} s"
        return f"killed when {self.when}: {self.problem or figures}"


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of two kills each.")
@click.option("--seed", default=1, show_default=True)
def main(rounds: int, seed: int) -> None:
    """Measure, print, write JSON; exit code 1 if something did not work or was lost."""
    need("etcd")
    subtitle = f"{rounds} kills each, {PER_SECOND:g} requests/s over {CLIENTS} kept connections, {machine()}"
    samples = trio.run(_measure, random.Random(f"failover {seed}"), rounds)
    verdicts = _verdicts(samples)
    code = finish("failover", subtitle, samples, _table(samples), verdicts, picture=_none)
    sys.exit(code or any(verdict.startswith("missed") for verdict in verdicts))


def _table(samples: Sequence[Sample]) -> str:
    metrics = ("active s", "change accepted s", "every node s", "requests", "failed", "lost revisions")
    by_measure: dict[str, dict[str, str]] = {}
    for row in table.rows(samples):
        by_measure.setdefault(row.measure, {})[row.metric] = str(row.cells[table.SUBJECT] or "–")
    lines = [[measure, *(cells.get(metric, "–") for metric in metrics)] for measure, cells in by_measure.items()]
    return table.aligned([["killed when", *metrics], *lines])


def _verdicts(samples: Sequence[Sample]) -> list[str]:
    good = [each.values for each in samples if each.problem is None]
    bounds = {"failed": 0.0, "lost revisions": 0.0, "active s": ACTIVE_S}
    worst = {metric: max((values[metric] for values in good), default=0.0) for metric in bounds}
    return [
        f"{'met' if good and worst[metric] <= most else 'missed':8}  {metric}: at most {most:g}, "
        f"worst {table.digits(worst[metric])}"
        for metric, most in bounds.items()
    ]


def _none(title: str, path: Path) -> None:
    """The table says it all."""


@attrs.define
class Cluster:
    """All processes, and what can be asked of the two controllers by their names."""

    place: Path
    etcd: str
    listen: str
    control: dict[str, str]
    admin: dict[str, str]
    stack: AsyncExitStack
    http: httpx.AsyncClient
    started: int = 0
    controllers: dict[str, Running] = attrs.field(factory=dict)

    async def start(self) -> None:
        """Everything; returns when the edge answers."""
        peer = free_address()
        urls = ("--listen-client-urls", f"http://{self.etcd}", "--advertise-client-urls", f"http://{self.etcd}")
        peers = ("--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}")
        store = ("--name", "m", "--data-dir", str(self.place / "etcd"), "--initial-cluster", f"m=http://{peer}")
        await (await self._run("etcd", *urls, *peers, *store)).serves(f"http://{self.etcd}/health")
        endpoints = [free_address() for _ in range(ENDPOINTS)]
        for address in endpoints:
            await self._tierlb("demo-backend", "--port", address.rpartition(":")[2], "--service", "10ms")
        quoted = ", ".join(f'"{address}"' for address in endpoints)
        text = TOPOLOGY.format(etcd=self.etcd, listen=self.listen, endpoints=quoted)
        await trio.Path(self.place / "topology.yaml").write_text(text)
        for token in ("join", "admin"):
            await trio.Path(self.place / token).write_text(f"token to {token}\n")
        for name in NAMES:
            await self.start_controller(name)
        join = ",".join(f"ws://{address}" for address in self.control.values())
        for name, tier in NODES.items():
            joins = ("--join", join, "--token-file", str(self.place / "join"))
            edge = await self._tierlb("node", "--tier", tier, "--name", name, *joins)
        await edge.serves(f"http://{self.listen}/")

    async def start_controller(self, name: str) -> None:
        """Alive it waits for its turn."""
        where = ("--listen", self.control[name], "--admin-listen", self.admin[name], "--name", name)
        tokens = ("--token-file", str(self.place / "join"), "--admin-token-file", str(self.place / "admin"))
        file = str(self.place / "topology.yaml")
        self.controllers[name] = await self._tierlb("controller", *where, *tokens, file)

    async def kill(self, name: str) -> float:
        """When it was dead."""
        self.controllers[name].process.kill()
        await self.controllers[name].process.wait()
        return time.monotonic()

    async def active(self) -> str:
        """The controller that says it is; "" if none does."""
        for name, address in self.control.items():
            answer = await self._get(f"http://{address}/readyz")
            if answer is not None and answer.status_code == OK:
                return name
        return ""

    async def read(self, name: str, path: str) -> Json:
        """What it answers; {} if it does not."""
        answer = await self._get(f"http://{self.admin[name]}{path}")
        return dict(answer.json()) if answer is not None and answer.status_code == OK else {}

    async def change(self, name: str, policy: str) -> int:
        """The number of the revision that was accepted; 0 if it was not."""
        edit = {"edit": {"verb": "policy", "tier": "web", "policy": policy}, "who": "bench"}
        token = {"Authorization": "Bearer token to admin"}
        try:
            answer = await self.http.post(f"http://{self.admin[name]}/v1/edit", json=edit, headers=token)
        except httpx.TransportError:
            return 0
        return int(answer.json()["revision"]) if answer.status_code == 202 else 0

    async def is_whole(self, name: str) -> bool:
        """Whether it has every node, and each serves what it should."""
        status = await self.read(name, "/v1/status")
        if not status or status["missing"]:
            return False
        nodes = [node for tier in status["tiers"].values() for node in tier["nodes"]]
        return len(nodes) == len(NODES) and all(node["connected"] for node in nodes)

    async def is_idle(self, name: str) -> bool:
        """Whether no change is under way."""
        answer = await self.read(name, "/v1/progress")
        return bool(answer) and (answer["change"] is None or answer["change"]["outcome"] != "running")

    async def _get(self, url: str) -> httpx.Response | None:
        try:
            return await self.http.get(url)
        except httpx.TransportError:
            return None

    async def _tierlb(self, *arguments: str) -> Running:
        return await self._run(sys.executable, "-m", "tierlb", *arguments)

    async def _run(self, *command: str) -> Running:
        self.started += 1
        return await self.stack.enter_async_context(running(command, self.place / f"{self.started}.log"))


async def _measure(rng: random.Random, rounds: int) -> list[Sample]:
    etcd, listen, *others = (free_address() for _ in range(6))
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-failover-") as directory:
        async with AsyncExitStack() as stack, httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            control, admin = dict(zip(NAMES, others[:2], strict=True)), dict(zip(NAMES, others[2:], strict=True))
            cluster = Cluster(Path(directory), etcd, listen, control, admin, stack, http)
            try:
                with trio.fail_after(MOST_S):
                    await cluster.start()
                return await _under_load(rng, cluster, 2 * rounds)
            except (DidNotStartError, OSError, trio.TooSlowError) as error:
                return [Sample("everything", table.SUBJECT, {}, f"{type(error).__name__}: {error}")]


async def _under_load(rng: random.Random, cluster: Cluster, kills: int) -> list[Sample]:
    begin_s = time.monotonic() + LEAD_S
    requests = tuple(poisson(rng, (Rate(kills * EVERY_S, PER_SECOND),), CLIENTS))
    plan = Plan(begin_s, 2.0, 10.0, (Lane(cluster.listen, 1),) * CLIENTS, requests)
    source, target = cluster.place / "plan.json", cluster.place / "result.json"
    generator = [sys.executable, "-m", openloop.__name__, str(source), str(target)]
    await trio.Path(source).write_text(openloop.dump(plan))
    done: list[Kill] = []
    async with running(generator, cluster.place / "load") as load:
        for number in range(kills):
            await trio.sleep(max(0.0, begin_s + 1.0 + number * EVERY_S - time.monotonic()))
            done.append(await _kill_one(cluster, WHEN[number % 2], begin_s))
            click.echo(f"{number + 1}/{kills}  {done[-1]}", err=True)
        with trio.fail_after(kills * EVERY_S + MOST_S):
            await load.process.wait()
    result = Result(**_json(target))
    seen = Seen([each.at_s for each in requests], result.latency_s, result.status)
    return [_sample(kill, seen) for kill in done]


def _json(path: Path) -> Json:
    return dict(json.loads(path.read_text()))


async def _kill_one(cluster: Cluster, when: str, begin_s: float) -> Kill:
    kill = Kill(when, time.monotonic() - begin_s)
    try:
        with trio.fail_after(MOST_S):
            return await _kill_the_active(cluster, kill, begin_s)
    except trio.TooSlowError:
        return attrs.evolve(kill, problem=f"not over within {MOST_S:g} s")


async def _kill_the_active(cluster: Cluster, kill: Kill, begin_s: float) -> Kill:
    victim = await cluster.active()
    (other,) = {*NAMES} - {victim}
    accepted = await cluster.change(victim, POLICIES[0])
    if not accepted:
        return attrs.evolve(kill, problem=f"{victim or 'nobody'} does not accept a change")
    if kill.when == WHEN[1]:
        await _until(lambda: cluster.is_idle(victim))
    killed_s = await cluster.kill(victim)

    async def is_active() -> bool:
        return await cluster.active() == other

    active_s = await _until(is_active) - killed_s
    history = await cluster.read(other, "/v1/history")
    numbers = {row["number"] for row in history["revisions"]}
    lost = accepted - len(numbers & set(range(1, accepted + 1)))
    changed_s = await _until(lambda: cluster.change(other, POLICIES[1])) - killed_s
    whole_s = await _until(lambda: cluster.is_whole(other)) - killed_s
    await _until(lambda: cluster.is_idle(other))
    await cluster.start_controller(victim)
    return attrs.evolve(
        kill, at_s=killed_s - begin_s, active_s=active_s, changed_s=changed_s, whole_s=whole_s, lost=lost
    )


async def _until(holds: Callable[[], Any]) -> float:
    """When it did."""
    while not await holds():  # noqa: ASYNC110 (other processes)
        await trio.sleep(POLL_S)
    return time.monotonic()


def _sample(kill: Kill, seen: Seen) -> Sample:
    window = Window(kill.at_s - 1.0, kill.at_s + kill.whole_s + 1.0)
    status = [s for at_s, s in zip(seen.at_s, seen.status, strict=True) if window.from_s <= at_s < window.until_s]
    values = {
        "active s": kill.active_s,
        "change accepted s": kill.changed_s,
        "every node s": kill.whole_s,
        "requests": float(len(status)),
        "failed": float(sum(each != OK for each in status)),
        "lost revisions": float(kill.lost),
    }
    return Sample(kill.when, table.SUBJECT, values, kill.problem or None)


if __name__ == "__main__":
    main()
