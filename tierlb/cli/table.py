"""The status as a table, for `tierlb status` and `tierlb top`: the columns, the format of figures, and what is left
out.

Columns have a least width, so that nothing moves while figures change. On a narrow terminal columns are left out, the
least important first, in the order that the command gives. On a low one hosts are left out, those with problems last.
No text from a node can have an effect on the terminal.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group as Lines
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from tierlb.cli.printable import printable
from tierlb.cli.rows import SERVING, STALE_S, StatusGroup, StatusRow, groups_of, internal_errors

MOST_PHRASES = 5
MOST_PROCESSES = 4
"""The most processes that the line about internal errors names."""
RENEW_DAYS = 14
"""A certificate with fewer days left is to be renewed. Those of 90 days are renewed 30 days before, as a rule."""
READ_AT_START = ("admin API",)
"""Uses of certificates whose files are not read again while a process runs."""
INDENT = "  "
HEADLINES = 3
"""The lines above the rows: the cluster, the headings, the rule."""
WARM, HOT_CELL = 0.8, 0.95
OLD_REPORT_S = 10.0
"""The age of a capacity is shown from here on."""
UNKNOWN = "?"
STATE_STYLES = {SERVING: "green", "starting": "yellow", "draining": "yellow", "maintenance": "yellow"}


@attrs.frozen
class Column:
    """`least`: in characters; `style` is for its cells, by what the row says."""

    heading: str
    text: Callable[[StatusRow], str]
    least: int = 0
    justify: JustifyMethod = "right"
    style: Callable[[StatusRow], str] = lambda _: ""


def status_table(status: dict[str, Any], order: Sequence[str], width: int, height: int | None = None) -> Lines:
    """The whole table in so many characters and lines; `order` names the columns, the most important first."""
    groups = groups_of(status)
    phrases = _first(_phrases(status, groups), MOST_PHRASES)
    valid = _first(_valid_certificates(status), MOST_PHRASES) if height is None else []
    if height is not None:
        groups = shortened(groups, height - HEADLINES - len(phrases))
    lines = [*(_line(phrase, "yellow") for phrase in phrases), *(_line(phrase, "") for phrase in valid)]
    return Lines(_headline(status), _table(groups, order, width), *lines)


def natural_width(status: dict[str, Any], order: Sequence[str]) -> int:
    """The width of the table with all columns."""
    groups = groups_of(status)
    rows = _group_rows(groups)
    wide = sum(_width(STATUS_COLUMNS[key], rows) + 2 for key in order)
    phrases = [*_phrases(status, groups), *_valid_certificates(status)]
    return max(wide, *(cell_len(INDENT + phrase) for phrase in phrases), 0)


def shortened(groups: Sequence[StatusGroup], lines: int) -> tuple[StatusGroup, ...]:
    """The same groups in no more lines, with one for each headline at least. Hosts are replaced by `… 7 more`, those
    that simply serve first. Small groups stay whole as long as possible."""
    if sum(1 + len(group.hosts) for group in groups) <= lines:
        return tuple(groups)
    spare, left, result = lines - len(groups), len(groups), {}
    for index, group in sorted(enumerate(groups), key=lambda item: len(item[1].hosts)):
        result[index] = attrs.evolve(group, hosts=_foremost(group.hosts, max(0, spare // left)))
        spare -= len(result[index].hosts)
        left -= 1
    return tuple(result[index] for index in range(len(groups)))


def fitting(columns: Sequence[tuple[str, int]], width: int) -> tuple[list[str], int]:
    """The columns that fit, the most important first, each with its width, and their distance. The first two are always
    included."""
    chosen = list(columns)
    while len(chosen) > 2 and _total_width(chosen, 1) > width:
        chosen.pop()
    return [key for key, _ in chosen], 2 if _total_width(chosen, 2) <= width else 1


def count_text(value: int | None) -> str:
    """`1,234`."""
    return "" if value is None else f"{value:,}"


def rate_text(value: float | None, by_connection: bool = False) -> str:
    """`1,234/s`, `0.4/s`, `12 conn/s`."""
    return "" if value is None else f"{_short_number(value)}{' conn' if by_connection else ''}/s"


def percent_text(value: float | None) -> str:
    """`62 %`, `0.4 %`."""
    return "" if value is None else f"{_short_number(100 * value)} %"


def short_duration(value_s: float | None) -> str:
    """`850 µs`, `1.2 ms`, `12 ms`, `0.25 s`, `12 s`: two or three digits that matter."""
    if value_s is None:
        return ""
    if value_s < 0.001:
        return f"{value_s * 1e6:.0f} µs"
    if value_s < 0.1:
        return f"{value_s * 1e3:.{0 if value_s >= 0.00995 else 1}f} ms"
    return age_text(value_s)


def age_text(value_s: float | None) -> str:
    """`0.25 s`, `12 s`, `5 min`, `3 h`: always in a unit in which it does not jump."""
    if value_s is None:
        return ""
    if value_s < 9.995:
        return f"{value_s:.2f} s"
    if value_s < 120:
        return f"{value_s:.0f} s"
    return f"{value_s / 60:.0f} min" if value_s < 7200 else f"{value_s / 3600:.0f} h"


def capacity_text(
    value: float | None, learnt_s: float | None, *, by_connection: bool = False, guessed: bool = False
) -> str:
    """`1,234/s`; `1,234/s (5 min)` where it was learnt so long ago; `~1,234/s` where it depends on a guess; `?` where
    nothing was learnt."""
    if value is None:
        return UNKNOWN
    old = f" ({age_text(learnt_s)})" if learnt_s is not None and learnt_s >= OLD_REPORT_S else ""
    return ("~" if guessed else "") + rate_text(value, by_connection) + old


def _short_number(value: float) -> str:
    return f"{value:,.1f}" if 0.05 <= value < 9.95 and value != int(value) else f"{value:,.0f}"


def _state_style(row: StatusRow) -> str:
    word = row.state.partition(" ")[0]
    if "/" in word:
        return "yellow" if word.partition("/")[0] != word.partition("/")[2] else ""
    return STATE_STYLES.get(word, "red")


def _use_style(row: StatusRow) -> str:
    if row.utilisation is None or row.utilisation < WARM:
        return ""
    return "red" if row.utilisation >= HOT_CELL else "yellow"


def _age_style(row: StatusRow) -> str:
    return "red" if row.age_s is not None and row.age_s >= STALE_S else ""


def _capacity(row: StatusRow) -> str:
    """Empty where nothing was reported, or none is ever learnt."""
    if row.capacity is None and not row.unlearnt:
        return ""
    return capacity_text(row.capacity, row.capacity_age_s, by_connection=row.by_connection, guessed=row.guessed)


STATUS_COLUMNS = {
    "node": Column("node", lambda row: row.name, justify="left"),
    "state": Column("state", lambda row: row.state, least=8, justify="left", style=_state_style),
    "pid": Column("pid", lambda row: "" if row.pid is None else str(row.pid), justify="left"),
    "address": Column("address", lambda row: row.address, justify="left"),
    "connections": Column("conns", lambda row: count_text(row.connections)),
    "in flight": Column("in flight", lambda row: count_text(row.in_flight)),
    "parked": Column("parked", lambda row: count_text(row.parked)),
    "rate": Column("rate", lambda row: rate_text(row.rate, row.by_connection), least=9),
    "capacity": Column("capacity", _capacity, least=9),
    "use": Column("use", lambda row: percent_text(row.utilisation), least=5, style=_use_style),
    "p50": Column("p50", lambda row: short_duration(row.quantile_s(0.5)), least=7),
    "p99": Column("p99", lambda row: short_duration(row.quantile_s(0.99)), least=7),
    "age": Column("age", lambda row: age_text(row.age_s), least=6, style=_age_style),
    "share": Column("share", lambda row: percent_text(row.share), least=5),
    "errors": Column("errors", lambda row: count_text(row.errors)),
    "way": Column("way", lambda row: row.way, justify="left"),
    "build": Column("build", lambda row: row.build, justify="left"),
}
"""The columns in the order of display."""


def _headline(status: dict[str, Any]) -> Text:
    serving = ("serving", "green") if status["serving"] else ("not serving", "red")
    if status.get("starting"):
        serving = ("starting", "yellow")
    name = (printable(status["cluster"]), "bold")
    return Text.assemble(name, "  ", serving, f"  revision {status['revision']}", no_wrap=True, overflow="ellipsis")


def _line(text: str, style: str) -> Text:
    return Text(INDENT + printable(text), style, no_wrap=True, overflow="ellipsis")


def _phrases(status: dict[str, Any], groups: Sequence[StatusGroup]) -> list[str]:
    """The lines below the table: what is not up, then what health checks found, and where."""
    found = [f"{row.name}: {row.problem}" for group in groups for row in group.hosts if row.problem]
    waiting = (f"waiting for {phrase}" for phrase in status["waiting"])
    return [*_internal_errors(status), *_expiring_certificates(status), *waiting, *found]


def _expiring_certificates(status: dict[str, Any]) -> list[str]:
    """Those to renew, with what to do."""
    soon = [each for each in status.get("certificates", ()) if each["days_left"] < RENEW_DAYS]
    return [
        f"{_certificate_text(each)}: renew it, and "
        + ("restart what shows it" if each["use"] in READ_AT_START else "nodes take the new file within seconds")
        for each in soon
    ]


def _valid_certificates(status: dict[str, Any]) -> list[str]:
    return [_certificate_text(each) for each in status.get("certificates", ()) if each["days_left"] >= RENEW_DAYS]


def _certificate_text(certificate: dict[str, Any]) -> str:
    days = certificate["days_left"]
    names = ", ".join(_first(certificate["names"], MOST_PROCESSES))
    when = (
        "has expired" if days <= 0 else f"expires in {days:,.0f} days" if days >= 2 else f"expires in {days:.1f} days"
    )
    use = "" if certificate["use"] == "clients" else f" ({certificate['use']})"
    return f"certificate {certificate['file']}{use} for {names or 'no name'} {when}"


def _internal_errors(status: dict[str, Any]) -> list[str]:
    counts = [f"{count} in {name}" for name, count in internal_errors(status).items()]
    named = ", ".join(_first(counts, MOST_PROCESSES))
    return [f"internal errors: {named}; see internal_error in the log of each"] if counts else []


def _first(phrases: Sequence[str], most: int) -> list[str]:
    if len(phrases) <= most:
        return list(phrases)
    return [*phrases[: most - 1], f"… {len(phrases) - most + 1} more"]


def _foremost(hosts: Sequence[StatusRow], most: int) -> tuple[StatusRow, ...]:
    """So many lines of them, in their order; none if even `… more` does not fit."""
    if len(hosts) <= most:
        return tuple(hosts)
    if most == 0:
        return ()
    by_need = sorted(range(len(hosts)), key=lambda index: hosts[index].state == SERVING)
    kept = sorted(by_need[: most - 1])
    return (*(hosts[index] for index in kept), StatusRow(f"… {len(hosts) - len(kept)} more"))


def _group_rows(groups: Sequence[StatusGroup]) -> list[StatusRow]:
    """All lines, hosts indented."""
    return [
        row
        for group in groups
        for row in (group.total, *(attrs.evolve(host, name=INDENT + host.name) for host in group.hosts))
    ]


def _width(column: Column, rows: Sequence[StatusRow]) -> int:
    return max(column.least, cell_len(column.heading), *(cell_len(printable(column.text(row))) for row in rows), 0)


def _total_width(columns: Sequence[tuple[str, int]], gap: int) -> int:
    return sum(width for _, width in columns) + gap * (len(columns) - 1)


def _table(groups: Sequence[StatusGroup], order: Sequence[str], width: int) -> Table:
    rows = _group_rows(groups)
    widths = {key: _width(STATUS_COLUMNS[key], rows) for key in order}
    chosen, gap = fitting(list(widths.items()), width)
    shown = [(column, widths[key]) for key, column in STATUS_COLUMNS.items() if key in chosen]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for column, least in shown:
        table.add_column(column.heading, justify=column.justify, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in rows:
        cells = (Text(printable(column.text(row)), column.style(row)) for column, _ in shown)
        table.add_row(*cells, style="" if row.name.startswith(INDENT) else "bold")
    return table
