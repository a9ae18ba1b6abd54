"""What nodes said of their choices for one request, put in order: from the first tier down to who answered.

An explanation comes in response fields, one line of JSON for each choice. A line counts only where it goes on from the
one before: its node is the one chosen there, or the same node once more, where a host did not take the request. The
way is whole when it ends at an endpoint, at a node that answers itself, or at one that finds nobody.

An l4 node explains in the connections that it makes. Below an l7 node, which keeps its connections, one may have been
made when nobody asked: the way then goes on behind that node, or ends there if an endpoint may be next. What comes from
there is an endpoint's word as well as a node's, so the node above passes none of it on.

Pure, and text only in `page`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from tierlb.cli.printable import printable
from tierlb.cli.rows import AVAILABLE
from tierlb.cli.table import age_text, capacity_text, count_text

Json = dict[str, Any]

CHOSEN, OTHER = "▸ ", "  "
COLUMNS: Sequence[tuple[str, JustifyMethod]] = (
    ("", "left"),
    ("score", "right"),
    ("in flight", "right"),
    ("parked", "right"),
    ("capacity", "right"),
    ("report age", "right"),
    ("availability", "left"),
)


@attrs.frozen
class Rival:
    """One host as the node that chose saw it. `score`: what the policy goes by, lower is better. `parked`: of those
    in flight. `capacity_age_s`: how old what the capacity was learnt from is, where that is not of just now."""

    host: str
    in_flight: int | None = None
    score: float | None = None
    capacity: float | None = None
    report_age_s: float | None = None
    availability: str = AVAILABLE
    parked: int = 0
    capacity_age_s: float | None = None


@attrs.frozen
class Choice:
    """What one node did: it `chose` a host (None: there was nobody), or `answered` itself with this status. `more` is
    how many hosts there were besides."""

    node: str
    tier: str
    kind: str
    policy: str
    chose: str | None
    hosts: tuple[Rival, ...] = ()
    more: int = 0
    answered: int | None = None


@attrs.frozen
class Way:
    """The choices from the top down. `endpoint` answered, if it was one; `missing` did not explain itself."""

    choices: tuple[Choice, ...]
    endpoint: str | None = None
    missing: str | None = None

    @property
    def by(self) -> str:
        """Who answered, as far as that is known."""
        if self.missing is not None or not self.choices:
            return ""
        return self.choices[-1].chose or self.choices[-1].node


def follow(status: Json, entry: str, lines: Iterable[str]) -> Way:
    """The way that begins at a node of the tier `entry`, by what the response's lines say."""
    tiers = status["tiers"]
    tier_of = {node["name"]: name for name, tier in tiers.items() for node in tier["nodes"]}
    taken: list[Choice] = []
    awaited = _nodes(tiers, [entry])
    for choice in _read_all(lines, tier_of, tiers):
        again = bool(taken) and choice.node == taken[-1].node
        if not again and choice.node not in awaited:
            break
        taken.append(choice)
        awaited = _awaited(taken, tier_of, tiers)
    return Way(tuple(taken), *_end(taken, entry, tier_of, tiers))


def page(way: Way) -> RenderableType:
    """The choices as a table, each deeper than the one before; what is missing below it."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, justify in COLUMNS:
        table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis")
    for depth, (before, choice) in enumerate(zip((None, *way.choices), way.choices, strict=False)):
        _add(table, "  " * depth, choice, again=before is not None and before.node == choice.node)
    if way.missing is None:
        return table
    return Group(table, Text(f"{printable(way.missing)} did not say how it chose", "yellow"))


def as_plain(way: Way) -> Json:
    """As JSON for programs, where the key of `hosts` is `members`."""
    plain = attrs.asdict(way)
    for choice in plain["choices"]:
        choice["members"] = choice.pop("hosts")
    return plain


def _nodes(tiers: Json, names: Iterable[str]) -> set[str]:
    return {node["name"] for name in names if name in tiers for node in tiers[name]["nodes"]}


def _awaited(taken: Sequence[Choice], tier_of: dict[str, str], tiers: Json) -> set[str]:
    """Who may speak next: whom the last one chose, and those behind, where that one need not speak."""
    awaited: set[str] = set()
    name = taken[-1].chose
    if name in tier_of:
        awaited.add(name)
        tier = tier_of[name]
        if _may_be_silent(taken, tiers[tier]):
            awaited |= _nodes(tiers, tiers[tier]["to"])
    return awaited


def _may_be_silent(taken: Sequence[Choice], tier: Json) -> bool:
    return bool(tier["kind"] == "l4" and any(choice.kind == "l7" for choice in taken))


def _leads_out(name: str, tiers: Json) -> bool:
    """Whether a connection to it may end at an endpoint, with no l7 node between; pools are no tiers."""
    tier = tiers.get(name)
    return tier is None or (tier["kind"] == "l4" and any(_leads_out(target, tiers) for target in tier["to"]))


def _end(taken: Sequence[Choice], entry: str, tier_of: dict[str, str], tiers: Json) -> tuple[str | None, str | None]:
    """The endpoint and what is missing."""
    if not taken:
        return None, f"tier {entry}"
    last = taken[-1]
    if last.chose is None:
        return None, None
    if last.chose not in tier_of:
        return last.chose, None
    tier = tier_of[last.chose]
    if _may_be_silent(taken, tiers[tier]) and _leads_out(tier, tiers):
        return None, None
    return None, last.chose


def _read_all(lines: Iterable[str], tier_of: dict[str, str], tiers: Json) -> Iterable[Choice]:
    for line in lines:
        try:
            told = json.loads(line)
            tier = tier_of[told["node"]]
            yield _choice(told, tier, tiers[tier]["kind"])
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            continue


def _choice(told: Json, tier: str, kind: str) -> Choice:
    """Raises ValueError, TypeError or LookupError for what no node says."""
    node = _text(told["node"])
    if "answered" in told:
        return Choice(node, tier, kind, "", None, answered=int(told["answered"]))
    chose = None if told["chose"] is None else _text(told["chose"])
    hosts = tuple(_rival(each) for each in told["members"])
    return Choice(node, tier, kind, _text(told["policy"]), chose, hosts, int(told.get("more", 0)))


def _rival(told: Json) -> Rival:
    score, capacity, age_s, learnt_s = (
        _number(told, key) for key in ("score", "capacity", "report_age_s", "capacity_age_s")
    )
    in_flight, parked = int(told["in_flight"]), int(told.get("parked", 0))
    availability = _text(told.get("availability", AVAILABLE))
    return Rival(_text(told["member"]), in_flight, score, capacity, age_s, availability, parked, learnt_s)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(told: Json, key: str) -> float | None:
    return float(told[key]) if key in told else None


def _add(table: Table, indent: str, choice: Choice, *, again: bool) -> None:
    words = [choice.node, f"{choice.tier} {choice.kind}", choice.policy]
    if choice.answered is not None:
        words.append(f"answered itself with {choice.answered}")
    elif choice.chose is None:
        words.append("found nobody")
    elif again:
        words.append("once more")
    table.add_row(Text(indent + printable(" · ".join(word for word in words if word)), "bold"))
    for rival in choice.hosts:
        learns = choice.kind == "l7" or rival.report_age_s is not None
        _add_rival(table, indent, rival, chosen=rival.host == choice.chose, learns=learns)
    if choice.more:
        table.add_row(Text(f"{indent}{OTHER}… {choice.more} more", "dim"))


def _add_rival(table: Table, indent: str, rival: Rival, *, chosen: bool, learns: bool) -> None:
    """`learns`: the node that chose can know its capacity; that of an endpoint that is given connections is unknown."""
    score = "" if rival.score is None else f"{rival.score:.3g}"
    trouble = rival.availability != AVAILABLE
    table.add_row(
        Text(indent + (CHOSEN if chosen else OTHER) + printable(rival.host), "green" if chosen else ""),
        score,
        count_text(rival.in_flight),
        count_text(rival.parked or None),
        capacity_text(rival.capacity, rival.capacity_age_s) if learns or rival.capacity is not None else "",
        age_text(rival.report_age_s),
        Text(printable(rival.availability), "yellow" if trouble else ""),
    )
