"""A hundred changes in a row, drawn at random, of a cluster in virtual time: whatever is changed into whatever, who
asks finds somebody there, and what does not come off leaves no trace."""

import random
import re
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from tests.cluster.simulated import World, make_world
from tierlb.controller.changes import Request
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NothingToDo, NotPossible
from tierlb.local.ports import FreePorts
from tierlb.model.address import Address
from tierlb.model.topology import Policy, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.edit import AddTier, Edit, EditError, RemoveTier, Scale, SetPolicy
from tierlb.topology.problems import TopologyError
from tierlb.topology.stages import transition

CHANGES = 100
SEEDS = (1,)
MOST_TIERS = 5
TEXT = """\
cluster: many
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:{one}", to: web}}
  web: {{kind: l7, replicas: 2, to: app}}
  api: {{kind: l7, listen: "127.0.0.1:{two}", to: {{app: 9, more: 1}}}}
pools:
  app: {{run: {{command: "app-1 --port {{port}}", replicas: 2}}}}
  more: {{run: {{command: "more-1 --port {{port}}"}}}}
"""
CURSES = ("", "", "", "", "crash", "mute", "refuse")
DEADLINE_S = 60.0
PATIENCE_S = 600.0
"""In virtual time: a change, its way back, and all that ends."""


def random_edit(topology: Topology, rng: random.Random, number: int) -> Edit:
    tier = rng.choice(list(topology.tiers.values()))
    target = rng.choice(tier.targets)
    kind, replicas, name = rng.choice(["l4", "l7"]), rng.randint(1, 3), f"n{number}"
    added = [
        AddTier(name, kind, between=(tier.name, target), replicas=replicas),
        AddTier(name, kind, above=rng.choice([tier.name, target]), replicas=replicas),
        AddTier(name, kind, below=tier.name, replicas=replicas),
    ]
    edits: list[Edit] = [
        RemoveTier(tier.name),
        Scale({tier.name: rng.randint(1, 4)}),
        Scale({tier.name: rng.randint(1, 4), "app": rng.randint(1, 3)}),
        SetPolicy(tier.name, rng.choice(list(Policy))),
    ]
    return rng.choice(edits if len(topology.tiers) >= MOST_TIERS else [*edits, rng.choice(added), rng.choice(added)])


def rewritten(text: str, rng: random.Random, spare: int) -> str:
    """A hand's edit: another command, or another place to listen; sometimes along with a scale."""
    if rng.random() < 0.5:
        found = rng.choice(re.findall(r"(?:app|more)-\d+", text))
        return text.replace(found, f"{found.split('-')[0]}-{rng.randint(1, 99)}")
    ports = re.findall(r"listen: \"127\.0\.0\.1:(\d+)\"", text)
    return text.replace(rng.choice(ports), str(spare))


async def begin(world: World, rng: random.Random, number: int, ports: list[int]) -> Progress | None:
    """Some change that is legal, or None if the one that was drawn is not."""
    changes, request = world.changes, Request("tester", deadline_s=DEADLINE_S)
    topology = world.topology()
    try:
        match rng.randrange(8):
            case 0:
                return await changes.rollback(rng.choice(changes.history.revisions).number, request)
            case 1:
                return changes.restart(rng.choice(list(topology.tiers)), request)
            case 2:
                spare = next(port for port in ports if str(port) not in changes.text)
                text = rewritten(changes.text, rng, spare)
                return await changes.apply(text, request)
            case _:
                return await changes.edit(random_edit(topology, rng, number), request, "edit")
    except (EditError, TopologyError, NothingToDo, NotPossible):
        return None


def listens(topology: Topology) -> frozenset[Address]:
    return frozenset(listener.address for tier in topology.tiers.values() for listener in tier.listen)


def names_and_commands(topology: Topology) -> Iterator[str]:
    for tier in topology.tiers.values():
        yield from node_names(tier)
    for pool in topology.pools.values():
        if pool.run is not None:
            yield pool.run.command.split()[0]


async def disturb(world: World, rng: random.Random) -> None:
    """Now and then somebody who was there before crashes, and is started again."""
    while True:
        await trio.sleep(rng.uniform(0.5, 5.0))
        there = [p for p in world.processes.values() if p.name in world.innocent and not p.closing and p.applied]
        if there:
            rng.choice(there).end.set()


def check_stages(world: World, before: Topology, after: Topology) -> None:
    """Forwards stage by stage; and if not to the end, from there back by another transition."""
    adopted, stages = world.adopted, list(transition(before, after))
    reached = next((n for n, (one, other) in enumerate(zip(adopted, stages, strict=False)) if one != other), None)
    reached = min(len(adopted), len(stages)) if reached is None else reached
    assert adopted[:reached] == stages[:reached]
    rest = adopted[reached:]
    if world.controller.topology != after:
        at = stages[reached - 1] if reached else before
        assert rest == list(transition(at, before) or (before,))
    else:
        assert rest == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_is_changed_into_whatever_nothing_is_lost_and_nothing_left_over(
    seed: int, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    rng, free = random.Random(seed), FreePorts(random.Random())
    ports = [free.take() for _ in range(3)]
    world = await make_world(TEXT.format(one=ports[0], two=ports[1]), rng, nursery, monkeypatch)
    try:
        outcomes = await change_again_and_again(world, rng, ports)
    finally:
        world.manager.sockets.close()
    nursery.cancel_scope.cancel()
    assert outcomes["done"] > CHANGES / 2
    assert outcomes["rolled back"] > CHANGES / 20


async def change_again_and_again(world: World, rng: random.Random, ports: list[int]) -> Counter[str]:
    """How the changes ended; after each of them everything is looked at."""
    outcomes: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.watch_over)
        for number in range(1, 100 * CHANGES):
            if outcomes.total() == CHANGES:
                break
            before, text = world.topology(), world.changes.text
            world.adopted.clear()
            world.innocent = frozenset(names_and_commands(before))
            world.curse, disturbed = rng.choice(CURSES), rng.random() < 0.2
            progress = await begin(world, rng, number, ports)
            if progress is None:
                continue
            after = world.topology()
            world.lasting = listens(before) & listens(after)
            world.disturbed, world.excusing = disturbed, world.curse == "crash"
            await over(world, rng, progress)
            context = (number, progress, text, world.changes.text)
            check_outcome(world, progress, before, after, context)
            world.lift_curse()
            with trio.move_on_after(PATIENCE_S):
                while await world.leftovers():  # noqa: ASYNC110 (virtual time)
                    await trio.sleep(0.1)
            missing = world.controller.readiness.missing()
            assert await world.leftovers() == [], (await world.leftovers(), missing, context)
            assert world.faults == [], (world.faults[:5], context)
            world.disturbed = world.excusing = False
            world.lasting = listens(world.topology())
            await trio.sleep(1.0)
            outcomes[progress.outcome] += 1
        nursery.cancel_scope.cancel()
    return outcomes


async def over(world: World, rng: random.Random, progress: Progress) -> None:
    """Wait for the end of the change; meanwhile processes may crash."""
    async with trio.open_nursery() as beside:
        if world.disturbed and progress.revision:
            beside.start_soon(disturb, world, rng)
        with trio.fail_after(PATIENCE_S):
            while not progress.over:  # noqa: ASYNC110 (virtual time)
                await trio.sleep(0.1)
        beside.cancel_scope.cancel()
    await trio.sleep(0.1)  # who was to crash has done so


def check_outcome(world: World, progress: Progress, before: Topology, after: Topology, context: object) -> None:
    """Done, or exactly as before; a restart may also end half way."""
    assert progress.outcome in (("done", "rolled back") if progress.revision else ("done", "failed")), context
    assert world.curse or progress.outcome == "done", context
    if progress.revision:
        expected = after if progress.outcome == "done" else before
        assert world.controller.topology == world.topology() == expected, context
        check_stages(world, before, after)
