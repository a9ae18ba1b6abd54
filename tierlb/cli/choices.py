"""The explanations of nodes for one request, in order: from the first tier down to the process that answered.

An explanation arrives in response fields, one line of JSON for each choice. A line counts only where it continues the
one before: its node is the one chosen there, or the same node again, where a host did not take the request. The trace
is complete when it ends at an endpoint, at a node that answers itself, or at one without a host to choose.

An l4 node explains in the connections that it makes. Below an l7 node, which keeps its connections, such a connection
may be older than the request: the trace then continues behind that node, or ends there if an endpoint may be next. Data
from there may come from an endpoint as well as from a node, so the node above passes none of it on.

Pure, and text only in `trace_table`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from tierlb.cli.client import Json
from tierlb.cli.printable import printable
from tierlb.cli.rows import AVAILABLE
from tierlb.cli.table import age_text, capacity_text, count_text
from tierlb.model.load import JSON_KEY
from tierlb.topology.typed import plain

CHOSEN_MARK, OTHER_MARK = "▸ ", "  "
TRACE_COLUMNS: Sequence[tuple[str, JustifyMethod]] = (
    ("", "left"),
    ("score", "right"),
    ("in flight", "right"),
    ("parked", "right"),
    ("capacity", "right"),
    ("report age", "right"),
    ("availability", "left"),
)


@attrs.frozen
class ConsideredHost:
    """One host as the node that chose saw it. `score`: the figure that the policy compares, lower is better. `parked`:
    of those in flight. `capacity_age_s`: the age of what the capacity was learnt from, where it is not current."""

    host: str = attrs.field(metadata={JSON_KEY: "member"})
    in_flight: int | None = None
    score: float | None = None
    capacity: float | None = None
    report_age_s: float | None = None
    availability: str = AVAILABLE
    parked: int = 0
    capacity_age_s: float | None = None


@attrs.frozen
class TracedChoice:
    """One node's decision: it `chose` a host (None: there was none), or `answered` itself with this status. `more`: the
    number of further hosts. `way`: how an l4 node gets the connection there, `route`: by which of several routes."""

    node: str
    tier: str
    kind: str
    policy: str
    chose: str | None
    hosts: tuple[ConsideredHost, ...] = attrs.field(default=(), metadata={JSON_KEY: "members"})
    more: int = 0
    answered: int | None = None
    way: str = ""
    route: str = ""


@attrs.frozen
class ChoiceTrace:
    """The choices from the top down. `endpoint` answered, if it was one; `missing` did not explain itself."""

    choices: tuple[TracedChoice, ...]
    endpoint: str | None = None
    missing: str | None = None

    @property
    def by(self) -> str:
        """The process that answered, as far as it is known."""
        if self.missing is not None or not self.choices:
            return ""
        return self.choices[-1].chose or self.choices[-1].node


def trace_of(status: Json, entry: str, lines: Iterable[str]) -> ChoiceTrace:
    """The trace that begins at a node of the tier `entry`, from the lines of the response."""
    tiers = status["tiers"]
    tier_of = {node["name"]: name for name, tier in tiers.items() for node in tier["nodes"]}
    taken: list[TracedChoice] = []
    awaited = _nodes(tiers, [entry])
    for choice in _read_all(lines, tier_of, tiers):
        again = bool(taken) and choice.node == taken[-1].node
        if not again and choice.node not in awaited:
            break
        taken.append(choice)
        awaited = _possible_next(taken, tier_of, tiers)
    return ChoiceTrace(tuple(taken), *_end(taken, entry, tier_of, tiers))


def trace_table(way: ChoiceTrace) -> RenderableType:
    """The choices as a table, each indented further than the one before, and what is missing below."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, justify in TRACE_COLUMNS:
        table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis")
    for depth, (before, choice) in enumerate(zip((None, *way.choices), way.choices, strict=False)):
        _add(table, "  " * depth, choice, again=before is not None and before.node == choice.node)
    if way.missing is None:
        return table
    return Group(table, Text(f"{printable(way.missing)} did not explain its choice", "yellow"))


def as_plain(way: ChoiceTrace) -> Json:
    """As JSON for programs."""
    document: Json = plain(way)
    return document


def _nodes(tiers: Json, names: Iterable[str]) -> set[str]:
    return {node["name"] for name in names if name in tiers for node in tiers[name]["nodes"]}


def _possible_next(taken: Sequence[TracedChoice], tier_of: dict[str, str], tiers: Json) -> set[str]:
    """The nodes that may explain next: the one chosen last, and those behind it if that one need not explain."""
    awaited: set[str] = set()
    name = taken[-1].chose
    if name in tier_of:
        awaited.add(name)
        tier = tier_of[name]
        if _may_be_silent(taken, tiers[tier]):
            awaited |= _nodes(tiers, tiers[tier]["to"])
    return awaited


def _may_be_silent(taken: Sequence[TracedChoice], tier: Json) -> bool:
    return bool(tier["kind"] == "l4" and any(choice.kind == "l7" for choice in taken))


def _may_reach_endpoint(name: str, tiers: Json) -> bool:
    """Whether a connection to it may end at an endpoint, with no l7 node between; pools are no tiers."""
    tier = tiers.get(name)
    return tier is None or (tier["kind"] == "l4" and any(_may_reach_endpoint(target, tiers) for target in tier["to"]))


def _end(
    taken: Sequence[TracedChoice], entry: str, tier_of: dict[str, str], tiers: Json
) -> tuple[str | None, str | None]:
    """The endpoint and what is missing."""
    if not taken:
        return None, f"tier {entry}"
    last = taken[-1]
    if last.chose is None:
        return None, None
    if last.chose not in tier_of:
        return last.chose, None
    tier = tier_of[last.chose]
    if _may_be_silent(taken, tiers[tier]) and _may_reach_endpoint(tier, tiers):
        return None, None
    return None, last.chose


def _read_all(lines: Iterable[str], tier_of: dict[str, str], tiers: Json) -> Iterable[TracedChoice]:
    for line in lines:
        try:
            plain = json.loads(line)
            tier = tier_of[plain["node"]]
            yield _choice(plain, tier, tiers[tier]["kind"])
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            continue


def _choice(plain: Json, tier: str, kind: str) -> TracedChoice:
    """Raises ValueError, TypeError or LookupError for what no node sends."""
    node = _required_text(plain["node"])
    if "answered" in plain:
        return TracedChoice(node, tier, kind, "", None, answered=int(plain["answered"]))
    chose = None if plain["chose"] is None else _required_text(plain["chose"])
    hosts = tuple(_considered(each) for each in plain["members"])
    policy, way, more = _required_text(plain["policy"]), _required_text(plain.get("way", "")), int(plain.get("more", 0))
    route = _required_text(plain.get("route", ""))
    return TracedChoice(node, tier, kind, policy, chose, hosts, more, way=way, route=route)


def _considered(plain: Json) -> ConsideredHost:
    score, capacity, age_s, learnt_s = (
        _optional_float(plain, key) for key in ("score", "capacity", "report_age_s", "capacity_age_s")
    )
    in_flight, parked = int(plain["in_flight"]), int(plain.get("parked", 0))
    availability = _required_text(plain.get("availability", AVAILABLE))
    return ConsideredHost(
        _required_text(plain["member"]), in_flight, score, capacity, age_s, availability, parked, learnt_s
    )


def _required_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _optional_float(plain: Json, key: str) -> float | None:
    return float(plain[key]) if key in plain else None


def _add(table: Table, indent: str, choice: TracedChoice, *, again: bool) -> None:
    words = [choice.node, f"{choice.tier} {choice.kind}", choice.policy, choice.way, choice.route]
    if choice.answered is not None:
        words.append(f"answered itself with {choice.answered}")
    elif choice.chose is None:
        words.append("found no host")
    elif again:
        words.append("once more")
    table.add_row(Text(indent + printable(" · ".join(word for word in words if word)), "bold"))
    for considered in choice.hosts:
        learns = choice.kind == "l7" or considered.report_age_s is not None
        _add_host(table, indent, considered, chosen=considered.host == choice.chose, learns=learns)
    if choice.more:
        table.add_row(Text(f"{indent}{OTHER_MARK}… {choice.more} more", "dim"))


def _add_host(table: Table, indent: str, considered: ConsideredHost, *, chosen: bool, learns: bool) -> None:
    """`learns`: the node that chose can learn its capacity; that of an endpoint which gets connections is unknown."""
    score = "" if considered.score is None else f"{considered.score:.3g}"
    trouble = considered.availability != AVAILABLE
    table.add_row(
        Text(indent + (CHOSEN_MARK if chosen else OTHER_MARK) + printable(considered.host), "green" if chosen else ""),
        score,
        count_text(considered.in_flight),
        count_text(considered.parked or None),
        capacity_text(considered.capacity, considered.capacity_age_s)
        if learns or considered.capacity is not None
        else "",
        age_text(considered.report_age_s),
        Text(printable(considered.availability), "yellow" if trouble else ""),
    )
