"""A stack whose L7 nodes are limited, under load: all it can do, then the tail at a part of that, and what was used.

A node's throughput is what it used of its quota by what a request cost it, so both are among the figures. All
processes share a few cores: what was measured while the generator, the endpoints or the machine were at their limits
shows those, and is void. Requests are counted at the endpoints, within a load that runs on: connections stay as they
were placed while capacities were learnt.
"""

import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import trio

from scripts.benchmarks import openloop, visitors
from scripts.benchmarks.arrivals import Rate, Request, poisson
from scripts.benchmarks.cgroup import Group, Limit, Throttling
from scripts.benchmarks.cpu import cpu_ns
from scripts.benchmarks.load import parse_wrk
from scripts.benchmarks.openloop import Lane, Plan, Result
from scripts.benchmarks.play import BUSY_LIMIT, CORE_LIMIT, PROC_STAT, busy_share
from scripts.benchmarks.processes import Running, running
from scripts.benchmarks.stacks import Backends, Stack, connections_by_node
from scripts.benchmarks.waiting import LATE_S
from scripts.benchmarks.windows import Seen, Window

PER_NODE = 32
"""Connections. An edge places connections, not requests: with few of them chance alone makes nodes unequal."""
WARM_UP_S = 5.0
"""Nodes are limited before anything is asked of them, so what is learnt in this time is what they can do now."""
SPARE_S = 2.0
"""For the readings, while the load goes on."""
LEAD_S = 6.0
"""Until the generator has read a plan of a hundred thousand requests."""
DRAIN_S = 5.0
PATIENCE_S = 5.0
GRACE_S = 20.0
TCP = Path("/proc/net/tcp")
PER_SECOND, P50, P99 = "per second", "p50 ms", "p99 ms"
EDGE_CPU, NODE_CPU = "edge CPU µs", "node CPU µs"
FEWEST, MOST = "fewest connections", "most connections"
LEAST_QUOTA, MOST_QUOTA = "least quota %", "most quota %"
STALLED = "stalled %"
LATE = "late ms"
BUSY = "edge", "endpoints", "generator", "machine"
"""Each is a figure with ` %` behind it: of a core, the machine of all."""
LIMITS = {"endpoints": CORE_LIMIT, "generator": CORE_LIMIT, "machine": BUSY_LIMIT}


@attrs.frozen
class Reading:
    """All that counts up, at one moment. Nanoseconds are of processor time."""

    at_s: float
    requests: int
    edge_ns: int
    nodes_ns: tuple[int, ...]
    endpoints_ns: tuple[int, ...]
    generator_ns: int
    throttling: tuple[Throttling, ...]
    stat: str


@attrs.frozen
class Measured:
    """Figures by name. `failed`: what the stack did wrong. `void`: why they show something else than the stack."""

    values: dict[str, float]
    failed: str | None = None
    void: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the figures must not be used."""
        return self.failed or self.void


@attrs.frozen
class Bench:
    """A started stack. `groups`: what limits its nodes, in their order."""

    stack: Stack
    groups: tuple[Group, ...]
    limit: Limit
    endpoints: Backends

    @property
    def clients(self) -> int:
        """Connections in all."""
        return PER_NODE * len(self.stack.nodes)

    async def watch(self, seconds: float, generator: int) -> dict[str, float]:
        """What happens from now on. Raises OSError if a process has ended."""
        before = await self._read(generator)
        await trio.sleep(seconds / 2)
        connections = connections_by_node(self.stack.nodes, _text(TCP))
        await trio.sleep(seconds / 2)
        return {**used(before, await self._read(generator), self.limit), **evenness(connections)}

    async def _read(self, generator: int) -> Reading:
        return Reading(
            time.monotonic(),
            await self.endpoints.answered(),
            cpu_ns([self.stack.edge]),
            tuple(cpu_ns([node.pid]) for node in self.stack.nodes),
            tuple(cpu_ns([pid]) for pid in self.endpoints.pids),
            cpu_ns([generator]),
            tuple(group.throttling() for group in self.groups),
            _text(PROC_STAT),
        )


async def saturate(bench: Bench, seconds: float, place: Path) -> Measured:
    """All that it can do. Raises OSError if a process has ended, trio.TooSlowError if wrk does not end."""
    whole_s = WARM_UP_S + seconds + SPARE_S
    with trio.fail_after(whole_s + GRACE_S):
        async with running(wrk_command(bench.stack.listen, whole_s, bench.clients, place), place / "wrk.log") as wrk:
            await trio.sleep(WARM_UP_S)
            values = await bench.watch(seconds, wrk.pid)
            output = await _ended(wrk)
    return judged(values, parse_wrk(output).problem)


def wrk_command(listen: str, seconds: float, connections: int, place: Path) -> list[str]:
    """As many connections as that, each with a request outstanding. Its script is written to `place`."""
    script = place / "visitors.lua"
    script.write_text(visitors.wrk_script())
    options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", "-s", str(script)]
    return ["wrk", *options, f"http://{listen}/"]


async def pace(bench: Bench, per_second: float, seconds: float, rng: random.Random, place: Path) -> Measured:
    """The tail when so much is asked for, of as many connections in turn. Raises OSError or trio.TooSlowError."""
    window = Window(WARM_UP_S, WARM_UP_S + seconds)
    requests = tuple(poisson(rng, [Rate(window.until_s, per_second)], bench.clients))
    lanes = (Lane(bench.stack.listen, 1),) * bench.clients
    source, target = place / "plan.json", place / "result.json"
    plan = Plan(time.monotonic() + LEAD_S, DRAIN_S, PATIENCE_S, lanes, requests, visitors.FIELDS)
    source.write_text(openloop.dump(plan))
    command = [sys.executable, "-m", openloop.__name__, str(source), str(target)]
    with trio.fail_after(LEAD_S + window.until_s + DRAIN_S + GRACE_S):
        async with running(command, place / "generator.log") as generator:
            await trio.sleep(plan.begin_s + window.from_s - time.monotonic())
            values = await bench.watch(seconds, generator.pid)
            await _ended(generator)
    return told(requests, Result(**json.loads(target.read_text())), window, values)


def told(requests: Sequence[Request], result: Result, window: Window, values: Mapping[str, float]) -> Measured:
    """What the generator saw, with what was used."""
    seen = Seen([each.at_s for each in requests], result.latency_s, result.status)
    tail = {P50: seen.percentile_ms(window, 50), P99: seen.percentile_ms(window, 99)}
    errors = seen.errors_percent(Window(0.0, window.until_s))
    failed = f"{errors:.3g} % were not answered with 200" if errors else None
    return judged({**tail, **values, LATE: 1000 * result.late_s}, failed)


def used(before: Reading, after: Reading, limit: Limit) -> dict[str, float]:
    """What was done between two readings, and what for."""
    passed_s, requests = after.at_s - before.at_s, max(1, after.requests - before.requests)
    edge_us = (after.edge_ns - before.edge_ns) / 1000
    nodes_us = _grown_us(before.nodes_ns, after.nodes_ns)
    quota_us = 1e6 * passed_s * limit.cores
    stalled = [b.since(a) for a, b in zip(before.throttling, after.throttling, strict=True)]
    return {
        PER_SECOND: requests / passed_s,
        EDGE_CPU: edge_us / requests,
        NODE_CPU: sum(nodes_us) / requests,
        LEAST_QUOTA: 100 * min(nodes_us) / quota_us,
        MOST_QUOTA: 100 * max(nodes_us) / quota_us,
        STALLED: 100 * max(stalled),
        "edge %": edge_us / 1e4 / passed_s,
        "endpoints %": max(_grown_us(before.endpoints_ns, after.endpoints_ns)) / 1e4 / passed_s,
        "generator %": (after.generator_ns - before.generator_ns) / 1e7 / passed_s,
        "machine %": 100 * busy_share(before.stat, after.stat),
    }


def evenness(connections: Mapping[str, int]) -> dict[str, float]:
    """Of the connections that each node has."""
    return {FEWEST: float(min(connections.values())), MOST: float(max(connections.values()))}


def judged(values: dict[str, float], failed: str | None) -> Measured:
    """With the reasons why figures show something else than the stack."""
    busy = {name: values[f"{name} %"] for name in LIMITS}
    found = [f"{name}: {busy[name]:.0f} % busy" for name, most in LIMITS.items() if busy[name] > 100 * most]
    if values.get(LATE, 0.0) > 1000 * LATE_S:
        found.append(f"generator: {values[LATE]:.1f} ms late at the 99th percentile")
    return Measured(values, failed, "; ".join(found) or None)


async def _ended(generator: Running) -> str:
    """What it printed. Raises OSError if it ended with an error."""
    code, output = await generator.process.wait(), _text(generator.log)
    if code:
        raise OSError(f"the generator ended with {code}: {output[-500:]}")
    return output


def _grown_us(before: Sequence[int], after: Sequence[int]) -> list[float]:
    return [(b - a) / 1000 for a, b in zip(before, after, strict=True)]


def _text(file: Path) -> str:
    return file.read_text()
