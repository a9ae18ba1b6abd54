"""What an app reports at the URL that a sidecar reads: the reporter's JSON, or an ORCA report as JSON.

Of the reporter's form only `in_flight` is demanded, so that an app in any language can answer with a line of its own;
what is missing counts as not known. Bad numbers make the whole answer bad: half an answer could look like an idle app.
"""

import json
import math
from typing import Any

import attrs

from tierlb.wire.orca import parse_json
from tierlb.wire.orca_report import BadOrca, OrcaReport

MAX_FIGURES_BYTES = 64 * 1024
LARGEST_FIGURE = 1e15


class BadFigures(ValueError):  # noqa: N818 (a verdict on the input)
    """The answer cannot be used, and why."""


@attrs.frozen
class AppFigures:
    """One reading of an app's counters (agent/reporter.py). All but `in_flight`, `response_s` and `slots` are
    cumulative since the start that `boot` names; 0 or "" where the app did not report it."""

    in_flight: int
    arrivals: int = 0
    done: int = 0
    errors: int = 0
    response_s: float = 0.0
    slots: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0
    uptime_s: float = 0.0
    boot: str = ""


def read_figures(body: bytes) -> AppFigures | OrcaReport:
    """The figures in an answer's body. Raises BadFigures."""
    if len(body) > MAX_FIGURES_BYTES:
        raise BadFigures(f"longer than {MAX_FIGURES_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadFigures("not JSON") from None
    if isinstance(document, dict) and "in_flight" in document:
        return _read_own(document)
    try:
        return parse_json(body)
    except BadOrca as error:
        raise BadFigures(f"neither has it in_flight nor is it an ORCA report: {error}") from None


def _read_own(document: dict[str, Any]) -> AppFigures:
    in_flight, done = (int(_figure(document, name)) for name in ("in_flight", "done"))
    return AppFigures(
        in_flight,
        max(int(_figure(document, "arrivals")), done + in_flight),
        done,
        int(_figure(document, "errors")),
        _figure(document, "response_s"),
        int(_figure(document, "slots")),
        _figure(document, "busy_s"),
        _figure(document, "cpu_s"),
        _figure(document, "uptime_s"),
        str(document.get("boot", ""))[:64],
    )


def _figure(document: dict[str, Any], name: str) -> float:
    value = document.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadFigures(f"{name} is not a number")
    if not 0 <= value <= LARGEST_FIGURE:
        raise BadFigures(f"{name} is negative or huge")
    return value
