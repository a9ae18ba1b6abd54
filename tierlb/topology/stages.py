"""How a running cluster gets from one topology to another without a gap, in stages.

Make before break: a stage only adds to what takes traffic, or only takes away what takes none any more. A transition is
carried out by making one stage after the other the desired topology. Each lasts until all nodes serve it and the tiers
that are new to a parent have enough ready nodes with a reported capacity.

1. *prepare*: all tiers and pools of both sides exist, with the larger number of replicas and the new settings. New
   tiers send where they should but nothing sends to them: they do not listen yet, and routes are the old ones.
2. *blend*: what moves sends to its old and new targets together. Where a split or other conditions rule that out, it
   stays on the old routes. It connects to the new targets by a share of 0. New entrances open.
3. *release*: the new routes alone, the smaller number of replicas; old entrances close. What is to go is still there
   but gets nothing new.
4. the new topology itself. Nodes that vanish here stop before the others get that topology, because
   what they still have to finish may need a connection downwards.

A stage that is like the one before is left out, so that a plain change of scale, policy or limits takes one.

Two tiers that trade places (a → b becomes b → a) would make a circle in one blend. Such tiers move in several rounds of
blend and release, lowest of the new order first. What a tier is to send to has moved entirely by then and never leads
back to it. So there is always one that can move.

An address that passes from one tier to another is open all the time. The new tier opens it in *blend*, and the old one
closes it in *release*. Meanwhile both listen (SO_REUSEPORT), each with hosts of its own. A tier that moves to another
address opens the new one and closes the old one at once, unless its old address passes to another tier. An agent-check
cannot be shared. One that comes where another tier had something, or to a tier that shrinks to one node, opens at the
end.

A tier that is to forward in the kernel does so from *blend* on. The inner ports of the tiers below take connections of
clients from *prepare* on, and until the end where it no longer does.

Left out: when a stage is ready, deadlines and the way back (a transition from the stage reached to the old topology).
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TypeVar

import attrs

from tierlb.model.address import ListenAddress
from tierlb.model.listener import TierListener
from tierlb.model.places import public_addresses
from tierlb.model.topology import (
    Forward,
    Forwarding,
    Pool,
    Route,
    Run,
    Share,
    Tier,
    Topology,
)
from tierlb.topology.diff import Change, ClusterChanged, Replaced, differences, weights_of
from tierlb.topology.graph import Ports

T = TypeVar("T")


class Phase(enum.IntEnum):
    """The stages of the last (mostly the only) round; rounds before it are part of PREPARE."""

    PREPARE = 1
    BLEND = 2
    RELEASE = 3
    LAST = 4


@attrs.frozen
class Unsupported:
    """A change that a running cluster cannot make: of what (a tier, a pool, the cluster), and why."""

    name: str
    reason: str


def transition(old: Topology | None, new: Topology) -> tuple[Topology, ...]:
    """The desired topologies on the way from `old` to `new`, the last being `new`; none if they are equal.

    Without an `old` the cluster starts with `new`. Raises ValueError if there is a change that a running cluster cannot
    make; `plan.describe` reports such changes.
    """
    if old is None:
        return (new,)
    refusals = [unsupported.reason for unsupported in unsupported_of(differences(old, new))]
    if refusals:
        raise ValueError("; ".join(refusals))
    stages = [after for before, after in pairwise([old, *_stages(old, new), new]) if before != after]
    return (*stages[:-1], new) if stages else ()


def unsupported_of(changes: Iterable[Change]) -> tuple[Unsupported, ...]:
    """Those of the changes that a running cluster cannot make."""
    return tuple(
        Unsupported(change.name if isinstance(change, Replaced) else "cluster", change.reason)
        for change in changes
        if isinstance(change, ClusterChanged | Replaced)
    )


def _stages(old: Topology, new: Topology) -> Iterator[Topology]:
    routes = {name: tier.routes for name, tier in old.tiers.items()}
    yield _stage(old, new, Phase.PREPARE, routes)
    rounds = tuple(_blend_rounds(old, new)) or ((),)
    for number, names in enumerate(rounds, start=1):
        is_last = number == len(rounds)
        routes |= {name: _blended(old.tiers[name], new.tiers[name]) for name in names}
        yield _stage(old, new, Phase.BLEND if is_last else Phase.PREPARE, routes)
        routes |= {name: new.tiers[name].routes for name in names}
        yield _stage(old, new, Phase.RELEASE if is_last else Phase.PREPARE, routes)


def _blend_rounds(old: Topology, new: Topology) -> Iterator[tuple[str, ...]]:
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
    tiers = {name: _tier_in_phase(old, new, name, phase) for name in {**old.tiers, **new.tiers}}
    tiers = {name: attrs.evolve(tier, routes=routes.get(name, tier.routes)) for name, tier in tiers.items()}
    pools = {
        name: _pool_in_phase(old.pools.get(name), new.pools.get(name), phase) for name in {**old.pools, **new.pools}
    }
    stage = attrs.evolve(new, tiers=tiers, pools=pools)
    return attrs.evolve(stage, take_clients=frozenset(_take_clients_anyway(old, new, stage)))


def _tier_in_phase(old: Topology, new: Topology, name: str, phase: Phase) -> Tier:
    """The tier in this phase, but for its routes."""
    before, after = old.tiers.get(name), new.tiers.get(name)
    if after is None:
        assert before is not None
        return before if phase < Phase.RELEASE else attrs.evolve(before, listen=(), agent_check=None)
    replicas = after.replicas
    if before is not None and phase < Phase.RELEASE:
        replicas = max(before.replicas, after.replicas)
    return attrs.evolve(
        after,
        replicas=replicas,
        listen=_listeners_in_phase(old, new, name, phase),
        forward=after.forward if before is None or phase >= Phase.BLEND else _forward_first(before, after),
        agent_check=after.agent_check if phase >= _is_asked_from(old, new, name) else None,
    )


def _forward_first(before: Tier, after: Tier) -> Forwarding:
    """In *prepare* nothing is forwarded in the kernel that was not before: the tiers below open a port for it first."""
    return before.forward if after.forward is Forwarding.NFTABLES else after.forward


def _take_clients_anyway(old: Topology, new: Topology, stage: Topology) -> Iterator[str]:
    """Tiers below one that begins or ends to forward in the kernel, in stages in which it does not."""
    for name in stage.tiers:
        if _is_direct(old, name) is not _is_direct(new, name) and not _is_direct(stage, name):
            yield name


def _is_direct(topology: Topology, name: str) -> bool:
    """Whether a tier above forwards to it in the kernel."""
    return any(parent.forward is Forwarding.NFTABLES for parent in topology.parents(name))


def _listeners_in_phase(old: Topology, new: Topology, name: str, phase: Phase) -> tuple[TierListener, ...]:
    """Where the tier listens in this phase: at what stays, at old addresses until they can be closed, and at new ones
    from when they can be opened. A listener whose settings change has the new ones from *blend* on."""
    before = old.tiers[name].listen if name in old.tiers else ()
    after = {each.address: each for each in new.tiers[name].listen}
    found = []
    for each in before:
        if each.address in after:
            found.append(after[each.address] if phase >= Phase.BLEND else each)
        elif phase < _closes_in(old, new, name, each):
            found.append(each)
    known = {each.address for each in before}
    found += [
        each for each in after.values() if each.address not in known and phase >= _opens_in(old, new.tiers[name], each)
    ]
    return new.tiers[name].listen if set(found) == set(after.values()) else tuple(found)


def _opens_in(old: Topology, tier: Tier, listener: TierListener) -> Phase:
    """When the tier begins to listen there."""
    address = ListenAddress(listener.address, tier.protocol)
    return Phase.LAST if _overlaps((address,), map(_asked_at, _others(old, tier.name))) else Phase.BLEND


def _closes_in(old: Topology, new: Topology, name: str, listener: TierListener) -> Phase:
    """When the tier listens there no more: where it opens another one instead and no other tier is to listen there, at
    once."""
    after = new.tiers[name].listen
    address = ListenAddress(listener.address, old.tiers[name].protocol)
    passes_on = bool(heirs(new, name, (address,)))
    return Phase.RELEASE if passes_on or not after else Phase.BLEND


def _is_asked_from(old: Topology, new: Topology, name: str) -> Phase:
    """When the tier's new agent-check opens; one that goes or changes has been closed since the first phase."""
    before, after = old.tiers.get(name), new.tiers[name]
    if before is not None and before.agent_check == after.agent_check:
        return Phase.PREPARE
    taken = [address for tier in _others(old, name) for address in (*public_addresses(tier), _asked_at(tier))]
    shrinks = before is not None and before.replicas > after.replicas
    return Phase.LAST if shrinks or _overlaps((_asked_at(after),), taken) else Phase.PREPARE


def heirs(new: Topology, name: str, addresses: Iterable[ListenAddress]) -> list[str]:
    """Other tiers than `name` that listen at one of the addresses, where it did."""
    given = tuple(addresses)
    return [tier.name for tier in _others(new, name) if _overlaps(given, public_addresses(tier))]


def _asked_at(tier: Tier) -> ListenAddress | None:
    """Where it answers HAProxy's agent-check, which is over TCP."""
    return None if tier.agent_check is None else ListenAddress(tier.agent_check)


def _others(topology: Topology, name: str) -> Iterator[Tier]:
    return (tier for tier in topology.tiers.values() if tier.name != name)


def _overlaps(addresses: Iterable[ListenAddress | None], others: Iterable[ListenAddress | None]) -> bool:
    ports = Ports()
    for other in others:
        if other is not None and other.address.is_fixed:
            ports.claim(other, ("other",))
    fixed = (each for each in addresses if each is not None and each.address.is_fixed)
    return any(ports.claim(each, ("this",)) == ("other",) for each in fixed)


def _pool_in_phase(before: Pool | None, after: Pool | None, phase: Phase) -> Pool:
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
    run = _run_in_both(before.run, after.run)
    return attrs.evolve(after, endpoints=endpoints, weights=given, overrides=overrides, run=run)


def _run_in_both(before: Run | None, after: Run | None) -> Run | None:
    if before is None or after is None:
        return after
    return attrs.evolve(after, replicas=max(before.replicas, after.replicas))


def _blended(before: Tier, after: Tier) -> tuple[Route, ...]:
    """Routes that lose nothing of the old ones and have all targets of the new ones."""
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
    """The same routes with the targets besides: nodes connect to them, check them and read their reports, and send
    nothing.

    That is a share of 0 beside those of the first route that forwards. If none does, it is a route that is never
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
