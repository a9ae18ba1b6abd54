"""The admin API's status as rows for display: a group for each tier and pool, with its total and its hosts.

Pure, and no text yet except names and states (table.py). An unknown figure is None, never 0: zero is not a load. The
figures of a parent count in proportion to its traffic: a host's share is its part of all that its parents send
together, to whichever tier or pool.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs

from tierlb.cli.client import Json
from tierlb.telemetry.sketch import Sketch, decode_sketch

Number = TypeVar("Number", int, float)

STALE_S = 2.5
"""Ten report intervals: parents do not trust an older report either."""
AVAILABLE = "available"
CONTROLLER_ROW = "the controller"
SERVING = "serving"
WANTED = {"drain": "draining", "maintenance": "maintenance"}
"""The state of a node that serves and has this admin state."""


@attrs.frozen
class StatusRow:
    """One row. `by_connection`: its items are connections. `counts`: it is part of the capacity of its group, that is,
    it serves and not all of its parents avoid it. `parked`: of those in flight. `capacity_age_s`: the age of what the
    capacity was learnt from. `unlearnt`: the capacity is not known yet. `guessed`: it depends on a guess of the
    endpoints' slots. `way`: how connections of l4 nodes get there. `problem`: what most of the nodes that check an
    endpoint find, or what a node lacks."""

    name: str
    state: str = ""
    counts: bool = False
    pid: int | None = None
    address: str = ""
    connections: int | None = None
    in_flight: int | None = None
    parked: int | None = None
    rate: float | None = None
    by_connection: bool = False
    capacity: float | None = None
    capacity_age_s: float | None = None
    unlearnt: bool = False
    guessed: bool = False
    utilisation: float | None = None
    latency: Sketch | None = None
    age_s: float | None = None
    share: float | None = None
    errors: int | None = None
    build: str = ""
    way: str = ""
    problem: str = ""

    def quantile_s(self, q: float) -> float | None:
        """None while there was no item."""
        return self.latency.quantile_s(q) if self.latency is not None and self.latency.count else None


@attrs.frozen
class StatusGroup:
    """A tier or a pool: `total` is its headline."""

    total: StatusRow
    hosts: tuple[StatusRow, ...]


@attrs.frozen
class ParentView:
    """The figures of one parent on one host. `part` (0..1) is the host's part of what that parent sends, `weight` the
    parent's part of what all parents send; `part` is None where the parent sends nothing."""

    availability: str
    in_flight: int
    parked: int
    failed: int
    capacity: float | None
    capacity_age_s: float | None
    guessed: bool
    part: float | None
    weight: float
    rate: float | None
    by_connection: bool
    age_s: float | None
    problem: str
    way: str


def groups_of(status: Json) -> tuple[StatusGroup, ...]:
    """Tiers, then pools, in the order of the topology file."""
    unit = {name: counts_connections(name, status["tiers"]) for name in status["tiers"]}
    parents = _live_nodes(status, unit)
    tiers = (_tier_group(name, tier, unit[name], parents) for name, tier in status["tiers"].items())
    pools = (_pool_group(name, pool, parents) for name, pool in status["pools"].items())
    return (*tiers, *pools)


def internal_errors(status: Json) -> dict[str, int]:
    """How many internal errors each process has caught since its start, the controller first; only processes that had
    some."""
    nodes = [node for tier in status["tiers"].values() for node in tier["nodes"]]
    nodes += [agent for pool in status["pools"].values() for agent in pool["agents"]]
    counts = {node["name"]: (node["load"] or {}).get("internal_errors", 0) for node in nodes}
    return {
        name: count for name, count in {CONTROLLER_ROW: status.get("internal_errors", 0), **counts}.items() if count
    }


def counts_connections(name: str, tiers: Json) -> bool:
    """Whether no l7 tier is at or below this tier; pools are no tiers."""
    tier = tiers.get(name)
    return tier is None or (tier["kind"] != "l7" and all(counts_connections(target, tiers) for target in tier["to"]))


def state_word(state: str, availabilities: Sequence[str]) -> str:
    """The state to show: its own, or what parents hold against it and how many of them do (`ejected 1/3`)."""
    bad = Counter(word for word in availabilities if word != AVAILABLE)
    if state != SERVING or not bad:
        return state
    word, times = bad.most_common(1)[0]
    return word if times == len(availabilities) else f"{word} {times}/{len(availabilities)}"


def parts(hosts: Sequence[Json]) -> list[float | None]:
    """How a parent splits its traffic among its hosts now: by the items of the last second, or, if there were none, by
    what is in flight. None for each: it sends nothing."""
    for figures in ([host["share"] for host in hosts], [host["in_flight"] for host in hosts]):
        if (whole := sum(figures)) > 0:
            return [figure / whole for figure in figures]
    return [None for _ in hosts]


def weights(parents: Sequence[Json]) -> list[float]:
    """Each parent's part of their traffic together (sums to 1): by rate, or else by items in flight."""
    rates = [parent["items_per_s"] or 0.0 for parent in parents]
    held = [parent["load"]["in_flight"] for parent in parents]
    figures = next((some for some in (rates, held) if sum(some) > 0), [1.0] * len(parents))
    return [figure / sum(figures) for figure in figures]


def _live_nodes(status: Json, unit: dict[str, bool]) -> list[Json]:
    """Nodes with current figures, with the unit of their items."""
    nodes = [{**node, "by_connection": unit[name]} for name, tier in status["tiers"].items() for node in tier["nodes"]]
    return [node for node in nodes if node["load"] is not None and _is_live(node)]


def _is_live(node: Json) -> bool:
    return node["report_age_s"] is None or node["report_age_s"] < STALE_S


def _tier_group(name: str, tier: Json, by_connection: bool, parents: Sequence[Json]) -> StatusGroup:
    seen = _parent_views({node["name"] for node in tier["nodes"]}, parents)
    timed = by_connection or tier["kind"] == "l7"
    rows = tuple(_node_row(node, by_connection, timed, seen.get(node["name"], [])) for node in tier["nodes"])
    to = f" → {', '.join(tier['to'])}" if tier["to"] else ""
    protocol = " udp" if tier.get("protocol") == "udp" else ""
    listen = ", ".join(f"{each} TLS" if each in tier.get("tls", ()) else each for each in tier["listen"])
    return StatusGroup(_total_row(f"{name} {tier['kind']}{protocol}{to}", listen, rows), rows)


def _pool_group(name: str, pool: Json, parents: Sequence[Json]) -> StatusGroup:
    agents = {agent["name"]: agent for agent in pool["agents"]}
    keys = [endpoint["name"] or f"{name}/{endpoint['address']}" for endpoint in pool["endpoints"]]
    seen = _parent_views(set(keys), parents)
    rows = tuple(
        _endpoint_row(endpoint, agents.get(endpoint["name"]), seen.get(key, []))
        for key, endpoint in zip(keys, pool["endpoints"], strict=True)
    )
    return StatusGroup(_total_row(f"{name} pool", "", rows), rows)


def _parent_views(names: set[str], parents: Sequence[Json]) -> dict[str, list[ParentView]]:
    """By host, the figures of each parent; parents are those that have any of these hosts."""
    involved = [parent for parent in parents if any(m["name"] in names for m in parent["load"]["members"])]
    splits = [parts(parent["load"]["members"]) for parent in involved]
    sending = [parent for parent, split in zip(involved, splits, strict=True) if any(split)]
    weight_of = {parent["name"]: weight for parent, weight in zip(sending, weights(sending), strict=True)}
    seen: dict[str, list[ParentView]] = {}
    for parent, split in zip(involved, splits, strict=True):
        for host, part in zip(parent["load"]["members"], split, strict=True):
            if host["name"] in names:
                view = _parent_view(parent, host, part, weight_of.get(parent["name"], 0.0))
                seen.setdefault(host["name"], []).append(view)
    return seen


def _parent_view(parent: Json, host: Json, part: float | None, weight: float) -> ParentView:
    rate = None if parent["items_per_s"] is None else parent["items_per_s"] * host["share"]
    return ParentView(
        availability=host["availability"],
        in_flight=host["in_flight"],
        parked=host.get("parked", 0),
        failed=host["failed"],
        capacity=host["capacity"] or None,
        capacity_age_s=host.get("capacity_age_s"),
        guessed=bool(host["capacity"] and parent["subtree"]) and not parent["subtree"].get("slots"),
        part=part,
        weight=weight,
        rate=rate,
        by_connection=parent["by_connection"],
        age_s=host["report_age_s"],
        problem=host.get("problem", ""),
        way=host.get("way", ""),
    )


def _node_row(node: Json, by_connection: bool, timed: bool, views: Sequence[ParentView]) -> StatusRow:
    """Its own figures, and its share by those of its parents. `timed`: it times the items that it counts."""
    load, live = node["load"] or {}, _is_live(node)
    subtree = node["subtree"] or {}
    state: str = node["state"]
    if state == SERVING:
        state = WANTED.get(node["admin"], state)
    return StatusRow(
        name=node["name"],
        state=state_word(state, [view.availability for view in views]),
        counts=_in_capacity(state, views),
        pid=node["pid"],
        address=" ".join(node["addresses"]),
        connections=load.get("connections") if live else None,
        in_flight=subtree.get("in_flight", load.get("in_flight")) if live else None,
        parked=subtree.get("parked", load.get("parked")) if live else None,
        rate=node["items_per_s"] if live else None,
        by_connection=by_connection,
        capacity=subtree.get("capacity") or None,
        capacity_age_s=subtree.get("capacity_age_s"),
        unlearnt=live and subtree.get("capacity") == 0,
        guessed=_is_guess(subtree),
        utilisation=subtree.get("utilisation") if live else None,
        latency=_latency_sketch(node["latency"]) if live and timed else None,
        age_s=node["report_age_s"],
        share=_share(views),
        errors=load.get("errors"),
        build=node.get("build", ""),
        way=_ways(views),
        problem="; ".join(load.get("shortages", ())) if live else "",
    )


def _is_guess(subtree: Json) -> bool:
    """Whether a node's capacity comes from endpoints whose slots it has not learnt yet."""
    capacity = subtree.get("capacity")
    return bool(capacity and not subtree.get("slots") and capacity != subtree.get("own_capacity"))


def _endpoint_row(endpoint: Json, agent: Json | None, views: Sequence[ParentView]) -> StatusRow:
    """The figures of its parents, and its own reports if it has an agent."""
    reported = (agent and agent["subtree"]) or {}
    ages = [view.age_s for view in views if view.age_s is not None]
    capacity = reported.get("capacity") or _known_mean([view.capacity for view in views])
    return StatusRow(
        name=endpoint["name"] or endpoint["address"],
        state=state_word(endpoint["state"], [view.availability for view in views]),
        counts=_in_capacity(endpoint["state"], views),
        pid=endpoint["pid"],
        address=endpoint["address"] if endpoint["name"] else "",
        in_flight=sum(view.in_flight for view in views) if views else None,
        parked=sum(view.parked for view in views) if views else None,
        rate=_known_sum(view.rate for view in views),
        by_connection=bool(views) and all(view.by_connection for view in views),
        capacity=capacity,
        capacity_age_s=min((view.capacity_age_s for view in views if view.capacity_age_s is not None), default=None),
        unlearnt=not capacity and any(not view.by_connection for view in views),
        guessed=not reported.get("capacity") and any(view.guessed for view in views),
        utilisation=reported.get("utilisation") if agent and _is_live(agent) else None,
        latency=_latency_sketch(agent["latency"]) if agent and _is_live(agent) else None,
        age_s=agent["report_age_s"] if agent else min(ages, default=None),
        share=_share(views),
        errors=sum(view.failed for view in views) if views else None,
        way=_ways(views),
        problem=_most_common(view.problem for view in views),
    )


def _most_common(problems: Iterable[str]) -> str:
    """The problem that most nodes find; several may find different ones."""
    found = Counter(filter(None, problems)).most_common(1)
    return found[0][0] if found else ""


def _ways(views: Iterable[ParentView]) -> str:
    """How connections of its parents get there; parents on other machines may do that in another way."""
    return ", ".join(sorted({view.way for view in views} - {""}))


def _in_capacity(state: str, views: Sequence[ParentView]) -> bool:
    kept_away = bool(views) and all(view.availability != AVAILABLE for view in views)
    return state == SERVING and not kept_away


def _share(views: Sequence[ParentView]) -> float | None:
    """Its part of all that the parents send; None while none of them sends anything."""
    return _known_sum(None if view.part is None else view.part * view.weight for view in views)


def _total_row(name: str, address: str, rows: Sequence[StatusRow]) -> StatusRow:
    able = [row for row in rows if row.counts]
    return StatusRow(
        name=name,
        state=f"{len(able)}/{len(rows)}",
        counts=bool(able),
        address=address,
        connections=_known_sum(row.connections for row in rows),
        in_flight=_known_sum(row.in_flight for row in rows),
        parked=_known_sum(row.parked for row in rows),
        rate=_known_sum(row.rate for row in rows),
        by_connection=any(row.by_connection for row in rows),
        capacity=_known_sum(row.capacity for row in able),
        capacity_age_s=min((row.capacity_age_s for row in able if row.capacity_age_s is not None), default=None),
        unlearnt=any(row.unlearnt for row in able),
        guessed=any(row.guessed for row in able),
        utilisation=_utilisation(able),
        latency=_merged(row.latency for row in rows),
        share=_known_sum(row.share for row in rows),
        errors=_known_sum(row.errors for row in rows),
    )


def _utilisation(rows: Iterable[StatusRow]) -> float | None:
    """The mean weighted by capacity: how much of all capacity is used."""
    known = [(row.utilisation, row.capacity) for row in rows if row.utilisation is not None]
    whole = sum(capacity or 0.0 for _, capacity in known)
    if whole:
        return sum(utilisation * (capacity or 0.0) for utilisation, capacity in known) / whole
    return _known_mean([utilisation for utilisation, _ in known])


def _latency_sketch(latency: Json | None) -> Sketch | None:
    if latency is None:
        return None
    try:
        return decode_sketch(b64decode(latency["sketch"]))
    except ValueError:
        return None


def _merged(sketches: Iterable[Sketch | None]) -> Sketch | None:
    merged = Sketch()
    for sketch in sketches:
        if sketch is not None:
            merged.merge(sketch)
    return merged if merged.count else None


def _known_sum(values: Iterable[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
