"""What a change does, in words: what it starts, stops and moves, and what that means for connections.

`stages` says how it is done.
"""

from collections.abc import Iterable, Iterator

import attrs

from tierlb.model.address import ListenAddress, Transport
from tierlb.model.places import listed_addresses, public_addresses
from tierlb.model.topology import (
    Action,
    Admin,
    Forward,
    Kind,
    Match,
    Pool,
    Tier,
    Topology,
)
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
    listener_text,
)
from tierlb.topology.stages import Unsupported, heirs, transition, unsupported_of
from tierlb.topology.units import duration_text

ADMIN_WORDS = {
    Admin.READY: "it takes its share again",
    Admin.DRAIN: "what is under way there finishes",
    Admin.MAINTENANCE: "what is under way there has the drain time, then what is left is cut; it is not checked",
}
"""The effect of each admin state of an endpoint or agent."""
MAX_LISTED = 4


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
class Plan:
    """What a change does, `lines` in words. `stages` is 0 if there is nothing to do, or something `unsupported`."""

    changes: tuple[Change, ...]
    lines: tuple[str, ...]
    started: Processes
    stopped: Processes
    unsupported: tuple[Unsupported, ...]
    stages: int


def describe(old: Topology, new: Topology, *, starts: bool = True, wanted: tuple[AdminChanged, ...] = ()) -> Plan:
    """What the change from `old` to `new` starts, stops, moves and means for connections. Where nodes are not started
    from here (`starts`), their names are unknown: then the plan has their number. `wanted`: changes of admin states of
    nodes and agents."""
    changes = (*differences(old, new), *wanted)
    unsupported = unsupported_of(changes)
    stages = 0 if unsupported else len(transition(old, new))
    started, stopped = _processes(old, new), _processes(new, old)
    lines = [line for change in changes for line in _change_words(change, old, new, starts)]
    if not starts:
        started = stopped = Processes((), 0)
    elif stages:
        lines.append(_summary(started, stopped, stages))
    return Plan(changes, tuple(lines), started, stopped, unsupported, stages)


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


def _change_words(change: Change, old: Topology, new: Topology, starts: bool) -> Iterator[str]:
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
    listens = f", listens on {listed_addresses(tier)}" if tier.listen else ""
    nodes = f"starts {_listed_words(node_names(tier))}" if starts else f"waits for {_many(tier.replicas, 'node')}"
    return f"tier {tier.name} ({tier.kind.value}) is added: {nodes}{listens}, {_sends(tier)}"


def _sends(tier: Tier) -> str:
    if not tier.targets:
        return "answers requests itself"
    return f"sends to {_listed_words(tier.targets)}"


def _scale_words(before: Tier, after: Tier, starts: bool) -> Iterator[str]:
    names = (node_names(before), node_names(after))
    nodes = f"{_many(after.replicas, 'node')}{', one per core' if after.per_core else ''}"
    if names[0] == names[1]:
        yield f"{after.name} stays at {nodes}{'' if after.per_core else ', whatever the number of cores'}"
    elif len(names[0]) < len(names[1]):
        started = names[1][len(names[0]) :]
        news = f"starts {_listed_words(started)}" if starts else f"waits for {len(started)} more"
        yield (
            f"{after.name} grows from {before.replicas} to {nodes}: {news}; "
            f"{_kept(after)} stay where they are, new ones go to the new nodes too"
        )
    else:
        yield f"{after.name} shrinks from {before.replicas} to {nodes}"
        yield _stop_words(after, names[0][len(names[1]) :], starts)


def _stop_words(tier: Tier, nodes: tuple[str, ...], starts: bool) -> str:
    time = duration_text(tier.drain_s)
    if not starts:
        return f"{_many(len(nodes), 'node')} of {tier.name} can be stopped then: each has up to {time} to drain"
    subject = f"{_listed_words(nodes)} {_verb(len(nodes), 'stop')}"
    possessive = "its" if len(nodes) == 1 else "their"
    if tier.kind is Kind.L4:
        return f"{subject}: {possessive} {_kept(tier)} drain for up to {time}, then what is left is cut"
    return (
        f"{subject}: l7 nodes close kept connections politely after their answers; what is under way has up to "
        f"{time}, then what is left is cut"
    )


def _move_words(before: Tier, after: Tier) -> str:
    if after.kind is Kind.L4:
        what = "targets" if len(after.routes) == 1 and after.routes[0].match == Match() else "routes"
        effect = f"{_kept(after)} stay where they are until they end, new ones go by the new {what}"
    else:
        effect = "requests under way finish where they are, the next ones go by the new routes"
    return f"{after.name} {_turn_words(before, after)}: {effect}"


def _kept(tier: Tier) -> str:
    """What clients have with the nodes of an l4 tier."""
    return "sessions" if tier.protocol is Transport.UDP else "connections"


def _turn_words(before: Tier, after: Tier) -> str:
    gained = tuple(name for name in after.targets if name not in before.targets)
    lost = tuple(name for name in before.targets if name not in after.targets)
    if gained and lost:
        return f"sends to {_listed_words(gained)} instead of {_listed_words(lost)}"
    if gained:
        return f"sends to {_listed_words(gained)} too" if before.targets else f"sends to {_listed_words(gained)}"
    if lost:
        return f"no longer sends to {_listed_words(lost)}"
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
    after = new.tiers[name].listen if name in new.tiers else ()
    addresses, others_before = {each.address for each in after}, {each.address for each in before}
    opened = [str(each) for each in _addresses_of(new.tiers.get(name)) if each.address not in others_before]
    if opened:
        yield f"{name} listens on {_listed_words(opened)}"
    for each in after:
        known = next((other for other in before if other.address == each.address), each)
        if known != each:
            yield f"{name}: listen: {listener_text(known)} → {listener_text(each)}, for connections from then on"
    for closed in _addresses_of(old.tiers[name]):
        if closed.address in addresses:
            continue
        others = heirs(new, name, (closed,))
        kept = f"{_kept(old.tiers[name])} made there stay until they end, " if name in new.tiers else ""
        fate = (
            f"{_listed_words(others)} {_verb(len(others), 'listen')} there by then"
            if others
            else "new ones are refused"
        )
        yield f"{name} no longer listens on {closed}: {kept}{fate}"


def _addresses_of(tier: Tier | None) -> tuple[ListenAddress, ...]:
    return () if tier is None else public_addresses(tier)


def _field_words(field: Field) -> str:
    return f"{field.key} {field.before or 'not set'} → {field.after or 'not set'}"


def _is_of_containers(field: Field) -> bool:
    """Whether it is about how containers are started, which changes no process that runs."""
    return field.key == "run.image" or field.key.removeprefix("run.").startswith("resources.")


def _container_words(field: Field) -> str:
    return f"{_field_words(field)}, for containers that start from then on; what runs is left as it is"


def _pool_words(pool: Pool, verb: str) -> str:
    if pool.run is not None:
        return f"{verb} {_many(pool.run.replicas, 'process')}"
    if pool.dns is not None:
        return f"endpoints are the addresses of {pool.dns} in DNS"
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
        yield f"{subject}: {_listed_words(change.added)} {_verb(len(change.added), 'join')}"
    if change.removed:
        leave = f"{_listed_words(change.removed)} {_verb(len(change.removed), 'leave')}"
        yield f"{subject}: {leave}: what is under way there finishes, kept connections are closed"


def _listed_words(items: Iterable[object]) -> str:
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
