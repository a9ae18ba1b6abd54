"""How a running cluster gets from one topology to another without a gap: the stages, and what they do in words.

Make before break: a stage only adds to what takes traffic, or only takes away what takes none any more. Whoever
carries a transition out makes one stage after the other the desired topology, and waits in each until all nodes serve
it and the tiers that are new to a parent have enough ready nodes with a reported capacity.

1. *prepare*: all tiers and pools of both sides exist, with the larger number of replicas and the new settings. New
   tiers send where they should but nothing sends to them: they do not listen yet, and routes are the old ones.
2. *blend*: what moves sends to its old and new targets together. Where a split or other conditions rule that out, it
   stays on the old routes and gets to know the new targets by a share of nothing. New entrances open.
3. *release*: the new routes alone, the smaller number of replicas; old entrances close. What is to go is still there
   but gets nothing new.
4. the new topology itself. Nodes that vanish here stop before the others hear of it, for what they have left to
   finish may need a connection downwards.

A stage that is like the one before is left out, so that a plain change of scale, policy or limits takes one.

Two tiers that trade places (a → b becomes b → a) would make a circle in one blend. Such tiers move in several rounds of
blend and release, lowest of the new order first: what a tier is to send to has moved entirely by then and never leads
back to it, so there is always one that can move.

An address that passes from one tier to another is open all the time: the new tier opens it in *blend*, the old
one closes it in *release*, and meanwhile both listen (SO_REUSEPORT), each with hosts of its own. A tier that
moves to another address opens the new one and closes the old one at once, and if its old address passes to
another tier, it does so in *release*. What cannot be had: two tiers that swap addresses, since a tier has one
address at a time. An agent-check cannot be shared; one that comes where another tier had something, or to a tier that
shrinks to one node, opens at the end.

Left out: when a stage is ready, deadlines and the way back (a transition from the stage reached to the old topology).
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TypeVar

import attrs

from tierlb.model.address import Address
from tierlb.model.topology import Action, Admin, Forward, Kind, Match, Pool, Route, Run, Share, Tier, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.diff import (
    AdminChanged,
    Change,
    ClusterChanged,
    Field,
    PoolAdded,
    PoolChanged,
    PoolRemoved,
    PoolScaled,
    Replaced,
    TierAdded,
    TierChanged,
    TierMoved,
    TierRemoved,
    TierScaled,
    differences,
    duration_text,
    weights_of,
)
from tierlb.topology.graph import Ports

T = TypeVar("T")

ADMIN_WORDS = {
    Admin.READY: "it takes its share again",
    Admin.DRAIN: "what is under way there finishes",
    Admin.MAINTENANCE: "what is under way there has the drain time, then what is left is cut; it is not checked",
}
"""What comes of each state that an operator may want of an endpoint or agent."""
MAX_LISTED = 4


class Phase(enum.IntEnum):
    """The stages of the last (mostly the only) round; rounds before it are part of PREPARE."""

    PREPARE = 1
    BLEND = 2
    RELEASE = 3
    LAST = 4


@attrs.frozen
class Processes:
    """Nodes by name, and how many endpoints of pools that are run here."""

    nodes: tuple[str, ...]
    endpoints: int

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.nodes) + self.endpoints


@attrs.frozen
class Unsupported:
    """A change that a running cluster cannot make: of what (a tier, a pool, the cluster), and why."""

    name: str
    reason: str


@attrs.frozen
class Plan:
    """What a change does, `lines` in words. `stages` is 0 if there is nothing to do, or something `unsupported`."""

    changes: tuple[Change, ...]
    lines: tuple[str, ...]
    started: Processes
    stopped: Processes
    unsupported: tuple[Unsupported, ...]
    stages: int


def transition(old: Topology | None, new: Topology) -> tuple[Topology, ...]:
    """The desired topologies on the way from `old` to `new`, the last being `new`; none if they are equal.

    Without an `old` the cluster starts with `new`. Raises ValueError if there is a change that a running cluster cannot
    make; `describe` tells them apart.
    """
    if old is None:
        return (new,)
    refusals = [unsupported.reason for unsupported in _unsupported(differences(old, new))]
    if refusals:
        raise ValueError("; ".join(refusals))
    stages = [after for before, after in pairwise([old, *_stages(old, new), new]) if before != after]
    return (*stages[:-1], new) if stages else ()


def describe(old: Topology, new: Topology, *, starts: bool = True, wanted: tuple[AdminChanged, ...] = ()) -> Plan:
    """What the change from `old` to `new` starts, stops, moves and means for connections. Where nodes are not started
    from here (`starts`), their names are unknown: then it says how many there are to be. `wanted`: of which nodes and
    agents something else is wanted then."""
    changes = (*differences(old, new), *wanted)
    unsupported = _unsupported(changes)
    stages = 0 if unsupported else len(transition(old, new))
    started, stopped = _processes(old, new), _processes(new, old)
    lines = [line for change in changes for line in _words(change, old, new, starts)]
    if not starts:
        started = stopped = Processes((), 0)
    elif stages:
        lines.append(_summary(started, stopped, stages))
    return Plan(changes, tuple(lines), started, stopped, unsupported, stages)


def _unsupported(changes: Iterable[Change]) -> tuple[Unsupported, ...]:
    return tuple(
        Unsupported(change.name if isinstance(change, Replaced) else "cluster", change.reason)
        for change in changes
        if isinstance(change, ClusterChanged | Replaced)
    )


def _stages(old: Topology, new: Topology) -> Iterator[Topology]:
    routes = {name: tier.routes for name, tier in old.tiers.items()}
    yield _stage(old, new, Phase.PREPARE, routes)
    rounds = tuple(_rounds(old, new)) or ((),)
    for number, names in enumerate(rounds, start=1):
        is_last = number == len(rounds)
        routes |= {name: _blended(old.tiers[name], new.tiers[name]) for name in names}
        yield _stage(old, new, Phase.BLEND if is_last else Phase.PREPARE, routes)
        routes |= {name: new.tiers[name].routes for name in names}
        yield _stage(old, new, Phase.RELEASE if is_last else Phase.PREPARE, routes)


def _rounds(old: Topology, new: Topology) -> Iterator[tuple[str, ...]]:
    """The tiers whose routes change, in groups that can blend together."""
    lowest_first = TopologicalSorter({name: tier.targets for name, tier in new.tiers.items()}).static_order()
    waiting = [
        name
        for name in lowest_first
        if name in old.tiers and name in new.tiers and old.tiers[name].routes != new.tiers[name].routes
    ]
    edges = {name: tier.targets for name, tier in {**new.tiers, **old.tiers}.items()}
    both = {name: _union(old.tiers[name].targets, new.tiers[name].targets) for name in waiting}
    while waiting:
        names = tuple(waiting) if _is_acyclic({**edges, **both}) else _without_circle(waiting, edges, both)
        yield names
        edges |= {name: new.tiers[name].targets for name in names}
        waiting = [name for name in waiting if name not in names]
        both = {name: both[name] for name in waiting}


def _without_circle(
    waiting: Iterable[str], edges: Mapping[str, tuple[str, ...]], both: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Of the tiers that wait as many as can send to `both` at once, the first of them in any case."""
    chosen: list[str] = []
    blended = dict(edges)
    for name in waiting:
        blended[name] = both[name]
        if _is_acyclic(blended):
            chosen.append(name)
        else:
            blended[name] = edges[name]
    assert chosen, "the lowest tier of the new order can move"
    return tuple(chosen)


def _is_acyclic(edges: Mapping[str, tuple[str, ...]]) -> bool:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError:
        return False
    return True


def _stage(old: Topology, new: Topology, phase: Phase, routes: Mapping[str, tuple[Route, ...]]) -> Topology:
    tiers = {name: _tier(old, new, name, phase) for name in {**old.tiers, **new.tiers}}
    tiers = {name: attrs.evolve(tier, routes=routes.get(name, tier.routes)) for name, tier in tiers.items()}
    pools = {name: _pool(old.pools.get(name), new.pools.get(name), phase) for name in {**old.pools, **new.pools}}
    return attrs.evolve(new, tiers=tiers, pools=pools)


def _tier(old: Topology, new: Topology, name: str, phase: Phase) -> Tier:
    """The tier in this phase, but for its routes."""
    before, after = old.tiers.get(name), new.tiers.get(name)
    if after is None:
        assert before is not None
        return before if phase < Phase.RELEASE else attrs.evolve(before, listen=None, agent_check=None)
    listen_before = before.listen if before is not None else None
    replicas = after.replicas
    if before is not None and phase < Phase.RELEASE:
        replicas = max(before.replicas, after.replicas)
    return attrs.evolve(
        after,
        replicas=replicas,
        listen=after.listen if phase >= _listens_from(old, new, name) else listen_before,
        agent_check=after.agent_check if phase >= _is_asked_from(old, new, name) else None,
    )


def _listens_from(old: Topology, new: Topology, name: str) -> Phase:
    """When the tier goes over to its new listen address, be it to none."""
    before = old.tiers[name].listen if name in old.tiers else None
    after = new.tiers[name].listen
    if after is None or before == after:
        return Phase.RELEASE
    if _overlaps(after, (tier.agent_check for tier in _others(old, name))):
        return Phase.LAST
    return Phase.RELEASE if _heirs(new, name, before) else Phase.BLEND


def _is_asked_from(old: Topology, new: Topology, name: str) -> Phase:
    """When the tier's new agent-check opens; one that goes or changes has been closed since the first phase."""
    before, after = old.tiers.get(name), new.tiers[name]
    if before is not None and before.agent_check == after.agent_check:
        return Phase.PREPARE
    taken = [address for tier in _others(old, name) for address in (tier.listen, tier.agent_check)]
    shrinks = before is not None and before.replicas > after.replicas
    return Phase.LAST if shrinks or _overlaps(after.agent_check, taken) else Phase.PREPARE


def _heirs(new: Topology, name: str, address: Address | None) -> list[str]:
    """Other tiers that listen where the tier did."""
    return [tier.name for tier in _others(new, name) if _overlaps(address, (tier.listen,))]


def _others(topology: Topology, name: str) -> Iterator[Tier]:
    return (tier for tier in topology.tiers.values() if tier.name != name)


def _overlaps(address: Address | None, others: Iterable[Address | None]) -> bool:
    ports = Ports()
    for other in others:
        if other is not None and other.port:
            ports.claim(other, ("other",))
    return address is not None and address.port != 0 and ports.claim(address, ("this",)) is not None


def _pool(before: Pool | None, after: Pool | None, phase: Phase) -> Pool:
    if before is None or after is None or phase >= Phase.RELEASE:
        pool = after or before
        assert pool is not None
        return pool
    weights = weights_of(before) | weights_of(after)
    endpoints = _union(before.endpoints, after.endpoints)
    given = tuple(weights[address] for address in endpoints) if before.weights or after.weights else ()
    known = {each.address: each for each in before.overrides if each.address not in after.endpoints}
    known |= {each.address: each for each in after.overrides}
    overrides = tuple(sorted(known.values(), key=lambda each: str(each.address)))
    run = _run(before.run, after.run)
    return attrs.evolve(after, endpoints=endpoints, weights=given, overrides=overrides, run=run)


def _run(before: Run | None, after: Run | None) -> Run | None:
    if before is None or after is None:
        return after
    return attrs.evolve(after, replicas=max(before.replicas, after.replicas))


def _blended(before: Tier, after: Tier) -> tuple[Route, ...]:
    """Routes that lose nothing of the old ones and know all targets of the new ones."""
    routes = before.routes
    if [route.match for route in routes] == [route.match for route in after.routes]:
        routes = tuple(map(_blended_route, before.routes, after.routes))
    known = attrs.evolve(before, routes=routes).targets
    missing = tuple(target for target in after.targets if target not in known)
    return _acquainted(routes, missing) if missing else routes


def _blended_route(before: Route, after: Route) -> Route:
    """Old and new targets together, where neither is a split; else the old route."""
    match before.action, after.action:
        case Forward((one,)), Forward((other,)) if before.action != after.action:
            targets = _union(one.targets, other.targets)
            return before if targets == one.targets else Route(before.match, Forward((Share(other.weight, targets),)))
        case _:
            return before


def _acquainted(routes: tuple[Route, ...], targets: tuple[str, ...]) -> tuple[Route, ...]:
    """The same routes, but the nodes know the targets too: they connect, check and hear reports, and send nothing.

    That is a share of nothing beside those of the first route that forwards. If none does, it is a route that is never
    reached, since the first one has the same conditions.
    """
    for index, route in enumerate(routes):
        if isinstance(route.action, Forward):
            action = Forward((*route.action.shares, Share(0.0, targets)))
            return (*routes[:index], Route(route.match, action), *routes[index + 1 :])
    return (*routes, Route(routes[0].match, Forward((Share(1.0, targets),))))


def _union(before: tuple[T, ...], after: tuple[T, ...]) -> tuple[T, ...]:
    """All of both; the very tuple that holds them all already, if one does."""
    if set(after) <= set(before):
        return before
    return (*after, *(item for item in before if item not in after))


def _processes(without: Topology, having: Topology) -> Processes:
    """The processes of one topology that the other has not."""
    known = {node for tier in without.tiers.values() for node in node_names(tier)}
    nodes = (node for tier in having.tiers.values() for node in node_names(tier) if node not in known)
    more = (_more_endpoints(without.pools.get(pool.name), pool) for pool in having.pools.values())
    return Processes(tuple(nodes), sum(more))


def _more_endpoints(before: Pool | None, after: Pool) -> int:
    if after.run is None:
        return 0
    kept = before.run.replicas if before and before.run and before.run.command == after.run.command else 0
    return max(0, after.run.replicas - kept)


def _summary(started: Processes, stopped: Processes, stages: int) -> str:
    one = "1 process starts" if started.count == 1 else f"{started.count or 'no'} processes start"
    return f"in all {one}, {stopped.count or 'none'} {_verb(stopped.count, 'stop')}, in {_many(stages, 'stage')}"


def _words(change: Change, old: Topology, new: Topology, starts: bool) -> Iterator[str]:
    match change:
        case TierAdded(name):
            yield _tier_added(new.tiers[name], starts)
        case TierRemoved(name):
            yield f"tier {name} is removed once nothing sends there"
            yield from _listen_words(old, new, name)
            yield _stop_words(old.tiers[name], node_names(old.tiers[name]), starts)
        case TierScaled(name):
            yield from _scale_words(old.tiers[name], new.tiers[name], starts)
        case TierMoved(name):
            yield _move_words(old.tiers[name], new.tiers[name])
        case TierChanged(name, fields):
            for field in fields:
                if field.key == "listen":
                    yield from _listen_words(old, new, name)
                elif _is_of_containers(field):
                    yield f"{name}: {_container_words(field)}"
                else:
                    yield f"{name}: {_field_words(field)}, from then on; what is under way goes on as it began"
        case PoolAdded(name):
            yield f"pool {name} is added: {_pool_words(new.pools[name], 'starts')}"
        case PoolRemoved(name):
            words = _pool_words(old.pools[name], "stops")
            yield f"pool {name} is removed once nothing sends there: {words}"
        case PoolScaled(name, before, after) if before < after:
            yield f"pool {name} grows from {before} to {_many(after, 'process')}: starts {after - before}"
        case PoolScaled(name, before, after):
            stops = f"stops {before - after} once nothing new is sent there"
            yield f"pool {name} shrinks from {before} to {_many(after, 'process')}: {stops}"
        case PoolChanged():
            yield from _pool_change_words(change, new.pools[change.name])
        case AdminChanged(group, name, before, after):
            tier = new.tiers.get(group)
            effect = ADMIN_WORDS[Admin(after)] if tier is None else _node_words(Admin(after), tier)
            yield f"{name}: {before} → {after}: {effect}"
        case ClusterChanged() | Replaced():
            yield f"not possible: {change.reason}"


def _node_words(wanted: Admin, tier: Tier) -> str:
    if wanted is Admin.READY:
        return ADMIN_WORDS[wanted]
    return f"it gets nothing new; what is under way has up to {duration_text(tier.drain_s)}, then what is left is cut"


def _tier_added(tier: Tier, starts: bool) -> str:
    listens = f", listens on {tier.listen}" if tier.listen else ""
    nodes = f"starts {_listed(node_names(tier))}" if starts else f"waits for {_many(tier.replicas, 'node')}"
    return f"tier {tier.name} ({tier.kind.value}) is added: {nodes}{listens}, {_sends(tier)}"


def _sends(tier: Tier) -> str:
    if not tier.targets:
        return "answers requests itself"
    return f"sends to {_listed(tier.targets)}"


def _scale_words(before: Tier, after: Tier, starts: bool) -> Iterator[str]:
    names = (node_names(before), node_names(after))
    if len(names[0]) < len(names[1]):
        started = names[1][len(names[0]) :]
        news = f"starts {_listed(started)}" if starts else f"waits for {len(started)} more"
        yield (
            f"{after.name} grows from {before.replicas} to {_many(after.replicas, 'node')}: {news}; "
            "connections stay where they are, new ones go to the new nodes too"
        )
    else:
        yield f"{after.name} shrinks from {before.replicas} to {_many(after.replicas, 'node')}"
        yield _stop_words(after, names[0][len(names[1]) :], starts)


def _stop_words(tier: Tier, nodes: tuple[str, ...], starts: bool) -> str:
    time = duration_text(tier.drain_s)
    if not starts:
        return f"{_many(len(nodes), 'node')} of {tier.name} can be stopped then: each has up to {time} to drain"
    subject = f"{_listed(nodes)} {_verb(len(nodes), 'stop')}"
    possessive = "its" if len(nodes) == 1 else "their"
    if tier.kind is Kind.L4:
        return f"{subject}: {possessive} connections drain for up to {time}, then what is left is cut"
    return (
        f"{subject}: l7 nodes close kept connections politely after their answers; what is under way has up to "
        f"{time}, then what is left is cut"
    )


def _move_words(before: Tier, after: Tier) -> str:
    if after.kind is Kind.L4:
        effect = "connections stay where they are until they end, new ones go by the new targets"
    else:
        effect = "requests under way finish where they are, the next ones go by the new routes"
    return f"{after.name} {_turn_words(before, after)}: {effect}"


def _turn_words(before: Tier, after: Tier) -> str:
    gained = tuple(name for name in after.targets if name not in before.targets)
    lost = tuple(name for name in before.targets if name not in after.targets)
    if gained and lost:
        return f"sends to {_listed(gained)} instead of {_listed(lost)}"
    if gained:
        return f"sends to {_listed(gained)} too" if before.targets else f"sends to {_listed(gained)}"
    if lost:
        return f"no longer sends to {_listed(lost)}"
    one, other = _split_text(before), _split_text(after)
    return f"divides anew, {one} → {other}" if one and other else "has other routes to the same targets"


def _split_text(tier: Tier) -> str:
    """`{a: 90, b: 10}`, if that is all that the tier does."""
    if len(tier.routes) > 1 or tier.routes[0].match != Match():
        return ""
    return _action_text(tier.routes[0].action)


def _action_text(action: Action) -> str:
    if not isinstance(action, Forward):
        return ""
    if len(action.shares) == 1:
        return f"[{', '.join(action.shares[0].targets)}]"
    return "{" + ", ".join(f"{' + '.join(share.targets)}: {share.weight:g}" for share in action.shares) + "}"


def _listen_words(old: Topology, new: Topology, name: str) -> Iterator[str]:
    """What becomes of the tier's old listen address and where it listens instead."""
    before = old.tiers[name].listen
    after = new.tiers[name].listen if name in new.tiers else None
    if after is not None:
        yield f"{name} listens on {after}"
    if before is not None:
        heirs = _heirs(new, name, before)
        kept = "connections made there stay until they end, " if name in new.tiers else ""
        fate = f"{_listed(heirs)} {_verb(len(heirs), 'listen')} there by then" if heirs else "new ones are refused"
        yield f"{name} no longer listens on {before}: {kept}{fate}"


def _field_words(field: Field) -> str:
    return f"{field.key} {field.before or 'not set'} → {field.after or 'not set'}"


def _is_of_containers(field: Field) -> bool:
    """Whether it says how containers are started, which concerns no process that runs."""
    return field.key == "run.image" or field.key.removeprefix("run.").startswith("resources.")


def _container_words(field: Field) -> str:
    return f"{_field_words(field)}, for containers that start from then on; what runs is left as it is"


def _pool_words(pool: Pool, verb: str) -> str:
    if pool.run is not None:
        return f"{verb} {_many(pool.run.replicas, 'process')}"
    if pool.dns is not None:
        return f"endpoints are what DNS says of {pool.dns}"
    return "agents join by themselves" if pool.agents else _many(len(pool.endpoints), "endpoint")


def _pool_change_words(change: PoolChanged, pool: Pool) -> Iterator[str]:
    subject = f"pool {change.name}"
    for field in change.fields:
        if field.key == "run.command":
            assert pool.run is not None
            yield f"{subject}: {_field_words(field)}: its processes are replaced, the new ones start first"
        elif field.key.endswith(".admin"):
            yield f"{subject}: {_field_words(field)}: {ADMIN_WORDS[Admin(field.after)]}"
        elif field.key == "dns":
            yield f"{subject}: {_field_words(field)}: what was found stays until the new name is found"
        elif _is_of_containers(field):
            yield f"{subject}: {_container_words(field)}"
        else:
            yield f"{subject}: {_field_words(field)}, from then on"
    if change.added:
        yield f"{subject}: {_listed(change.added)} {_verb(len(change.added), 'join')}"
    if change.removed:
        leave = f"{_listed(change.removed)} {_verb(len(change.removed), 'leave')}"
        yield f"{subject}: {leave}: what is under way there finishes, kept connections are closed"


def _listed(items: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`; of many the first and the last."""
    texts = [str(item) for item in items]
    if len(texts) > MAX_LISTED:
        return f"{texts[0]} … {texts[-1]} ({len(texts)})"
    return " and ".join(part for part in (", ".join(texts[:-1]), texts[-1]) if part)


def _many(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb
