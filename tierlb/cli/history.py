"""`tierlb history`: the accepted topologies with author, time and reason, or the text of one."""

import json
from collections.abc import Sequence
from typing import Any

import click

from tierlb.cli.client import Client
from tierlb.cli.printable import printable
from tierlb.controller.history import moment

HEADINGS = ["revision", "when", "who", "lines", "why"]
ACTIVE, OTHER_REVISION = "▸", " "


def show_history(client: Client, number: int | None) -> None:
    """Print the list, newest last; with a number the text of that revision."""
    if number is not None:
        revision = client.get(f"/v1/history/{number}")
        click.echo(json.dumps(revision, indent=2) if client.as_json else _revision_file(revision), nl=client.as_json)
        return
    answer = client.get("/v1/history")
    click.echo(json.dumps(answer, indent=2) if client.as_json else "\n".join(lines(answer["revisions"])))


def _revision_file(revision: dict[str, Any]) -> str:
    """Its text, and below it as comments the admin states of nodes and agents."""
    states = revision.get("admin_states", ())
    wanted = (f"# {printable(each['name'])}: {printable(each['state'])}\n" for each in states)
    ended = not states or revision["text"].endswith("\n")
    return "".join((revision["text"], "" if ended else "\n", *wanted))


def lines(revisions: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each revision, in columns."""
    rows = [HEADINGS, *map(_cells, revisions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    mark = ACTIVE if row["active"] else OTHER_REVISION
    size = "" if row["added"] is None else f"+{row['added']} -{row['removed']}"
    why = printable(row["why"])
    undone = f"undone{': ' if why else ''}" if row["undone"] else ""
    return [f"{mark} {row['number']}", moment(row["when"]), printable(row["who"]), size, undone + why]
