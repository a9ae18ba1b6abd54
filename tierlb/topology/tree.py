"""The cluster as a tree to look at: from the tiers that listen down to the pools, with what decides on the
way.

A tier or pool that several send to is drawn where it comes first and marked `[1]`; elsewhere only its name
and the mark stand. So the drawing grows with the file, never with the number of ways through it.
"""

from collections import Counter
from collections.abc import Iterator

import attrs

from tierlb.model.places import listed_addresses
from tierlb.model.topology import (
    Action,
    Forward,
    HealthCheck,
    Match,
    Policy,
    Pool,
    PoolProtocol,
    Respond,
    Route,
    Share,
    Tier,
    Topology,
)

MAX_LABEL_CHARS = 100


@attrs.frozen
class Branch:
    """A line of the tree: its text, and the tier or pool whose parts belong below it."""

    label: str
    target: str | None = None
    routes: tuple["Branch", ...] = ()


def draw(topology: Topology) -> str:
    """The tree as text, one line per node, without a line end at its end."""
    lines = [_title(topology)]
    shared = _marks(topology)
    drawn: set[str] = set()
    roots = [Branch("", name) for name, tier in topology.tiers.items() if tier.listen]
    stack = _stacked(roots, "")
    while stack:
        branch, indent, is_last = stack.pop()
        again = branch.target in drawn
        text = branch.label + _target_text(topology, branch.target, shared, again)
        lines.append(f"{indent}{'└─ ' if is_last else '├─ '}{text}")
        below = list(branch.routes)
        if branch.target and not again:
            drawn.add(branch.target)
            below += _below(topology, branch.target)
        stack += _stacked(below, indent + ("   " if is_last else "│  "))
    return "\n".join(lines)


def _title(topology: Topology) -> str:
    tls = " · mutual TLS" if topology.tls else ""
    store = f" · store {topology.store.url}" if topology.store else ""
    return f"{topology.cluster} · admin {topology.admin}{tls}{store}"


def _stacked(branches: list[Branch], indent: str) -> list[tuple[Branch, str, bool]]:
    last = len(branches) - 1
    return [(branch, indent, index == last) for index, branch in enumerate(branches)][::-1]


def _marks(topology: Topology) -> dict[str, int]:
    """A number for each tier and pool that is drawn in more than one place."""
    times = Counter(name for name, tier in topology.tiers.items() if tier.listen)
    for tier in topology.tiers.values():
        for route in tier.routes:
            if isinstance(route.action, Forward):
                times.update(target for share in route.action.shares for target in share.targets)
    several = [name for name in (*topology.tiers, *topology.pools) if times[name] > 1]
    return {name: number for number, name in enumerate(several, start=1)}


def _target_text(topology: Topology, name: str | None, marks: dict[str, int], again: bool) -> str:
    if name is None:
        return ""
    mark = f" [{marks[name]}]" if name in marks else ""
    if again:
        return f"{name}{mark} (above)"
    if name in topology.pools:
        return f"{name}{mark} · {_pool_text(topology.pools[name])}"
    return f"{name}{mark} · {_tier_text(topology.tiers[name])}"


def _tier_text(tier: Tier) -> str:
    replicas = f" ×{tier.replicas}{' (one per core)' if tier.per_core else ''}" if _says_count(tier) else ""
    listen = f" · listens on {listed_addresses(tier)}" if tier.listen else ""
    orca = f" · orca {tier.orca.value}" if tier.orca else ""
    agent_check = f" · agent-check on {tier.agent_check}" if tier.agent_check else ""
    return f"{tier.kind.value}{replicas}{listen} · {_balance_text(tier)}{orca}{agent_check}"


def _says_count(tier: Tier) -> bool:
    return tier.replicas > 1 or tier.per_core


def _balance_text(tier: Tier) -> str:
    if tier.balance is not Policy.MAGLEV:
        return str(tier.balance.value)
    return f"maglev by {tier.hash_header or 'source'}"


def _pool_text(pool: Pool) -> str:
    checks = f" · {_check_text(pool.health)}" if pool.health else ""
    checks += f" · agent-check on port {pool.agent_check_port}" if pool.agent_check_port else ""
    if pool.protocol is not PoolProtocol.HTTP1:
        checks = f" · {pool.protocol.value}{checks}"
    if pool.agents:
        return f"pool of agents{checks}"
    if pool.dns is not None:
        return _short_label(f"pool by DNS{checks} · {pool.dns}")
    if pool.run is not None:
        return _short_label(f"pool ×{pool.run.replicas}{checks} · runs {pool.run.command}")
    return _short_label(f"pool ×{len(pool.endpoints)}{checks} · {', '.join(_endpoint_texts(pool))}")


def _check_text(check: HealthCheck) -> str:
    asked = f"GET {check.path}" if check.path else "connect"
    if check.grpc is not None:
        asked = f"gRPC health of {check.grpc or 'the server'}"
    return f"{asked} every {check.interval_s:g}s"


def _endpoint_texts(pool: Pool) -> list[str]:
    if not pool.weights:
        return list(map(str, pool.endpoints))
    pairs = zip(pool.endpoints, pool.weights, strict=True)
    return [f"{endpoint} weight {weight:g}" for endpoint, weight in pairs]


def _below(topology: Topology, name: str) -> list[Branch]:
    if name in topology.pools:
        return []
    routes = topology.tiers[name].routes
    if len(routes) == 1 and routes[0].match == Match():
        return list(_parts(routes[0].action))
    return [_route(route) for route in routes]


def _route(route: Route) -> Branch:
    condition = match_text(route.match)
    if isinstance(route.action, Forward):
        return Branch(condition, routes=tuple(_parts(route.action)))
    return Branch(_short_label(f"{condition} → {_answer_text(route.action)}"))


def _parts(action: Action) -> Iterator[Branch]:
    if not isinstance(action, Forward):
        yield Branch(_short_label(_answer_text(action)))
        return
    whole = sum(share.weight for share in action.shares)
    for share in action.shares:
        yield from (Branch(_share_text(share, whole), target) for target in share.targets)


def _share_text(share: Share, whole: float) -> str:
    return "" if share.weight == whole else f"{100 * share.weight / whole:.3g} % "


def _answer_text(action: Action) -> str:
    if isinstance(action, Respond):
        return f"respond {action.status}"
    assert not isinstance(action, Forward)
    return f"redirect {action.status} {action.location}"


def match_text(match: Match) -> str:
    """Its conditions in words."""
    words = [f"path {match.path}"] if match.path else []
    words += [f"path {match.path_prefix}/…"] if match.path_prefix else []
    words += [f"host {'|'.join(match.hosts)}"] if match.hosts else []
    words += ["|".join(match.methods)] if match.methods else []
    words += [f"sni {'|'.join(match.sni)}"] if match.sni else []
    words += [f"alpn {'|'.join(match.alpn)}"] if match.alpn else []
    words += [f"source {'|'.join(match.sources)}"] if match.sources else []
    words += [f"port {'|'.join(map(str, match.ports))}"] if match.ports else []
    words += [_condition("header", name, value) for name, value in match.headers]
    words += [_condition("query", name, value) for name, value in match.query]
    return _short_label(", ".join(words) or "otherwise")


def _condition(what: str, name: str, value: str | None) -> str:
    return f"{what} {name}" if value is None else f"{what} {name}={value}"


def _short_label(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_LABEL_CHARS else text[: MAX_LABEL_CHARS - 1] + "…"
