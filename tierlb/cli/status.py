"""`tierlb status`: the admin API's answer as a table, or as it is."""

import json
from collections.abc import Sequence
from typing import Any

import click

from tierlb.cli.client import Where, exchange, no_cluster, parsed

STATUS_ORDER = (
    *("node", "state", "address", "pid", "rate", "in flight", "parked", "connections", "errors"),
    *("share", "use", "capacity", "p99", "p50", "age", "way", "build"),
)
"""The columns, the most important first: what runs where comes before its figures."""
ALWAYS = frozenset({"cluster", "revision", "serving", "waiting", "tiers", "pools"})


def show_status(admin_url: Where, as_json: bool, order: Sequence[str] = STATUS_ORDER) -> None:
    """Print the live tree once; all columns where the output is no terminal."""
    status = fetch_status(admin_url)
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    from rich.console import Console

    from tierlb.cli.table import natural_width, status_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=natural_width(status, order))
    console.print(status_table(status, order, console.width))


def fetch_status(admin_url: Where) -> dict[str, Any]:
    """The answer to GET /v1/status; a ClickException says what to do when there is none."""
    return ask_admin(admin_url, "GET", "/v1/status", ALWAYS)


def ask_admin(admin_url: Where, method: str, path: str, keys: frozenset[str]) -> dict[str, Any]:
    """The admin API's answer, a mapping with these keys; a ClickException says what to do when there is none."""
    status, body = exchange(admin_url, method, path)
    if status != 200:
        raise click.ClickException(f"{admin_url} answered {status}: {body[:200].decode(errors='replace')}")
    answer = parsed(body)
    if answer is None or not answer.keys() >= keys:
        raise no_cluster(str(admin_url))
    return answer
