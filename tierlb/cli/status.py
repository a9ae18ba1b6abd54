"""`tierlb status`: the admin API's answer as a table, or as it is."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import click

TIMEOUT_S = 5.0
WIDTH_IN_A_FILE = 140
STYLES = {"serving": "green", "starting": "yellow", "draining": "yellow", "gone": "red"}


def show_status(admin_url: str, as_json: bool) -> None:
    """Print the live tree."""
    status = fetch_status(admin_url)
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_A_FILE)
    serving = "[green]serving[/]" if status["serving"] else "[red]not serving[/]"
    console.print(f"[bold]{status['cluster']}[/]  {serving}  revision {status['revision']}")
    console.print(_table(status))
    for phrase in status["missing"]:
        console.print(f"  [yellow]{phrase}[/]")


def fetch_status(admin_url: str) -> dict[str, Any]:
    """What GET /v1/status answers; a ClickException says what to do when nothing does."""
    url = urlsplit(admin_url)
    if url.scheme != "http" or not url.hostname:
        raise click.UsageError(f"--admin {admin_url}: write it as http://HOST:PORT")
    connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/v1/status")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(
            f"no cluster answers at {admin_url} ({error}): start one with `tierlb up FILE`, "
            "or give the address it printed with --admin"
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise click.ClickException(f"{admin_url} answered {response.status}: {body[:200].decode(errors='replace')}")
    status: dict[str, Any] = json.loads(body)
    return status


def _table(status: dict[str, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("node", "state", "pid", "address"):
        table.add_column(heading, no_wrap=True)
    for heading in ("conns", "in flight", "/s", "items", "errors"):
        table.add_column(heading, justify="right")
    for name, tier in status["tiers"].items():
        table.add_row(f"[bold]{name}[/] {tier['kind']}", "", "", tier["listen"] or "")
        for node in tier["nodes"]:
            table.add_row(f"  {node['name']}", *_who(node), " ".join(node["addresses"]), *_figures(node))
    for name, pool in status["pools"].items():
        table.add_row(f"[bold]{name}[/] pool")
        for endpoint in pool["endpoints"]:
            table.add_row(f"  {endpoint['address']}", *_who(endpoint))
    return table


def _who(row: dict[str, Any]) -> tuple[str, str]:
    state = row["state"]
    return f"[{STYLES.get(state, 'white')}]{state}[/]", str(row["pid"] or "")


def _figures(node: dict[str, Any]) -> tuple[str, ...]:
    load = node["load"]
    if load is None:
        return ("", "", "", "", "")
    rate = "" if node["items_per_s"] is None else f"{node['items_per_s']:,.0f}"
    counts = tuple(f"{load[key]:,}" for key in ("connections", "in_flight", "items", "errors"))
    return (*counts[:2], rate, *counts[2:])
