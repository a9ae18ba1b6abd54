"""How a change spreads over ten thousand nodes: time and bytes by level, with real controller, snapshots and sessions.

Four levels: edges over l4 nodes over many tiers of l7 nodes, each over an l7 tier and a pool of its own, as one stacks
when a single tier has become too wide. No process and no socket: each node is a pair of sessions joined in memory, so
what is measured is the work of the controller and of the nodes, one after the other, on one core.
"""

import json
import sys
import time
from collections.abc import Iterator

import attrs
import click
import trio

from scripts.benchmarks.results import finish, machine
from scripts.benchmarks.table import SUBJECT, Sample, aligned, rows
from tierlb.cli.log import LazyLog
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link
from tierlb.model.address import Address
from tierlb.model.topology import Policy, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.load import load_text
from tierlb.wire.control import ChildSession, Close, Effect, ParentSession, Transmit
from tierlb.wire.frames import PROTOCOL_VERSION, Ack, Configure, Hello

EDGES, SPREADS, GROUPS, FRONTS, WEBS = 10, 90, 90, 10, 100
LEVELS = ("edge", "spread", "front", "web")
SETTLE_S = 0.05
MOST_ROUNDS = 8


def topology(edges: int, spreads: int, groups: int, fronts: int, webs: int) -> Topology:
    """So many nodes of each level; fronts and webs are per group."""
    numbers = range(1, groups + 1)
    tiers: dict[str, object] = {
        "edge": {"kind": "l4", "listen": "127.0.0.1:8080", "replicas": edges, "to": "spread"},
        "spread": {"kind": "l4", "replicas": spreads, "to": [f"front-{number}" for number in numbers]},
    }
    for number in numbers:
        tiers[f"front-{number}"] = {"kind": "l7", "replicas": fronts, "to": f"web-{number}"}
        tiers[f"web-{number}"] = {"kind": "l7", "replicas": webs, "to": f"app-{number}"}
    pools = {
        f"app-{number}": {"endpoints": [f"10.0.{number}.{host}:9000" for host in range(1, 5)]} for number in numbers
    }
    return load_text(json.dumps({"cluster": "wide", "tiers": tiers, "pools": pools}), "FILE")


@attrs.define
class Pair:
    """One node: both ends of its control channel."""

    level: str
    link: Link
    parent: ParentSession
    child: ChildSession
    address: Address
    seconds: float = 0.0
    frames: int = 0
    sent_bytes: int = 0


@attrs.define
class Cluster:
    """All of them, on one controller."""

    controller: Controller
    pairs: dict[str, Pair] = attrs.field(factory=dict)

    def join_all(self) -> None:
        """Everybody says hello."""
        for tier in self.controller.topology.tiers.values():
            for name in node_names(tier):
                hello = Hello(PROTOCOL_VERSION, name, tier.name, name, 1 + len(self.pairs))
                port = 1024 + len(self.pairs)
                link = Link()
                pair = Pair(
                    tier.name.partition("-")[0],
                    link,
                    ParentSession(0.25),
                    ChildSession(hello),
                    Address("127.0.0.1", port),
                )
                self.pairs[name] = pair
                _deliver(pair.child.start(), lambda data, pair=pair: pair.parent.receive(data, 0.0))
                self.controller.join(hello, link)
                _deliver(pair.parent.accept(), pair.child.receive)

    def exchange(self) -> int:
        """Hand every node the snapshot that is wanted of it and has not been sent, and take its answer; how many."""
        count = 0
        for name, pair in self.pairs.items():
            record = self.controller.registry.records[name]
            if record.assignment.wanted is None or record.assignment.served == record.assignment.wanted.revision:
                continue
            count += 1
            began = time.perf_counter()
            for effect in pair.parent.send(Configure(record.assignment.wanted)):
                assert isinstance(effect, Transmit)
                pair.sent_bytes += len(effect.data)
                pair.frames += 1
                for received in pair.child.receive(effect.data):
                    assert isinstance(received, Configure), received
                    bound = tuple(pair.address for _ in received.snapshot.listeners)
                    for answer in pair.child.send(Ack(received.snapshot.revision, bound)):
                        self._answer(name, pair, answer)
            pair.seconds += time.perf_counter() - began
        return count

    async def settle(self) -> None:
        """Exchange until no node lacks a snapshot: addresses that nodes announce make new ones for those above."""
        for _ in range(MOST_ROUNDS):
            await trio.sleep(SETTLE_S)
            if not self.exchange():
                return
        raise click.ClickException("the cluster does not settle")

    def _answer(self, name: str, pair: Pair, answer: Effect) -> None:
        assert isinstance(answer, Transmit)
        for frame in pair.parent.receive(answer.data, time.monotonic()):
            assert isinstance(frame, Ack), frame
            self.controller.receive(self.controller.registry.records[name], frame)


def _deliver(effects: Iterator[Effect] | list[Effect], to: object) -> None:
    for effect in effects:
        assert not isinstance(effect, Close), effect
        if isinstance(effect, Transmit):
            to(effect.data)  # type: ignore[operator]


@click.command(help="Time and bytes until a change has reached ten thousand nodes in four tiers.")
@click.option("--scale", type=click.FloatRange(0.01, 1.0), default=1.0, show_default=True, help="Of the node counts.")
def main(scale: float) -> None:
    """Measure, print, write JSON."""
    samples, note = trio.run(_measure, scale)
    lines = [[row.measure, row.metric, str(row.cells[SUBJECT])] for row in rows(samples)]
    printed = aligned([["level", "figure", "value"], *lines])
    sys.exit(finish("spread", f"{note}, {machine()}", samples, printed, picture=lambda title, path: None))


async def _measure(scale: float) -> tuple[list[Sample], str]:
    counts = [max(1, round(count * scale)) for count in (EDGES, SPREADS, GROUPS)]
    before = topology(*counts, FRONTS, WEBS)
    cluster = Cluster(Controller(before, LazyLog()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cluster.controller.run)
        cluster.join_all()
        await cluster.settle()
        for pair in cluster.pairs.values():
            pair.seconds, pair.sent_bytes, pair.frames = 0.0, 0, 0
        tiers = {name: attrs.evolve(tier, balance=Policy.TWO_CHOICES) for name, tier in before.tiers.items()}
        began = time.perf_counter()
        cluster.controller.registry.adopt(attrs.evolve(before, tiers=tiers))
        await cluster.settle()
        whole = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    samples = [_level(cluster, level) for level in LEVELS]
    spent = sum(pair.seconds for pair in cluster.pairs.values())
    samples.append(Sample("controller", SUBJECT, {"ms to work out all snapshots": 1000 * (whole - spent)}))
    samples.append(Sample("in all", SUBJECT, {"s on one core": whole}))
    return samples, f"{len(cluster.pairs)} nodes, a new policy for every tier"


def _level(cluster: Cluster, level: str) -> Sample:
    pairs = [pair for pair in cluster.pairs.values() if pair.level == level]
    return Sample(
        level,
        SUBJECT,
        {
            "nodes": float(len(pairs)),
            "KiB a node": sum(pair.sent_bytes for pair in pairs) / len(pairs) / 1024,
            "MiB in all": sum(pair.sent_bytes for pair in pairs) / 1024**2,
            "ms a node": 1000 * sum(pair.seconds for pair in pairs) / len(pairs),
            "s in all": sum(pair.seconds for pair in pairs),
        },
    )


if __name__ == "__main__":
    main()
