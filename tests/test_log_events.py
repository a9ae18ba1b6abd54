"""LOG_EVENTS.md lists every event that the code logs, with its levels and fields."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from tierlb.dataplane.upstream.condition import HostEvent

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "LOG_EVENTS.md"
LEVELS = frozenset({"debug", "info", "warning", "error"})
EVENT = re.compile(r"[a-z]+(_[a-z0-9]+)*")
ROW = re.compile(
    r"^\| `(?P<event>\w+)` \| (?P<levels>[\w, ]+) \| (?P<fields>[^|]*) \| (?P<meaning>[^|]+) \|$", re.MULTILINE
)
OTHER_FIELDS = "…"
"""Stands for fields that a call takes from a mapping."""


@attrs.define
class Logged:
    """What all calls that log an event have together."""

    levels: set[str] = attrs.field(factory=set)
    fields: set[str] = attrs.field(factory=set)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls of a logger's methods: the logger is a name or an attribute that ends with `log`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            logger = node.func.value
            name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")
            if name.endswith("log"):
                yield node


def events_of(argument: ast.expr) -> list[str]:
    """The literal events of a call, of which an expression `a if b else c` has two; none if they are made up there."""
    if isinstance(argument, ast.IfExp):
        return events_of(argument.body) + events_of(argument.orelse)
    return [argument.value] if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else []


def logged() -> dict[str, Logged]:
    found: dict[str, Logged] = {}
    for file in sorted((ROOT / "tierlb").rglob("*.py")):
        for call in calls(ast.parse(file.read_text(encoding="utf-8"))):
            events = events_of(call.args[0])
            assert events, f"{file}:{call.lineno}: the event is no literal, so that nobody can search for it"
            for event in events:
                entry = found.setdefault(event, Logged())
                entry.levels.add(call.func.attr)  # type: ignore[attr-defined]
                entry.fields.update(keyword.arg or OTHER_FIELDS for keyword in call.keywords)
                entry.fields.discard("exc_info")
    return found | {
        f"host_{event}": Logged({"warning" if event.is_trouble else "info"}, {"host", "address", "reason"})
        for event in HostEvent
    }


def listed() -> dict[str, Logged]:
    return {
        row["event"]: Logged(set(row["levels"].split(", ")), set(re.findall(r"\w+|…", row["fields"])))
        for row in ROW.finditer(REFERENCE.read_text(encoding="utf-8"))
    }


def test_every_event_is_in_one_style():
    assert [event for event in logged() if not EVENT.fullmatch(event)] == []


def test_the_reference_lists_every_event_with_its_levels_and_fields():
    assert listed() == logged()
