"""`tierlb status`: the admin API's answer as a table, or as it is."""

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import click

TIMEOUT_S = 5.0
ORDER = (
    *("node", "state", "address", "pid", "rate", "in flight", "connections", "errors"),
    *("share", "use", "capacity", "p99", "p50", "age"),
)
"""The columns, the most important first: what runs where comes before how it does."""
ALWAYS = frozenset({"cluster", "revision", "serving", "missing", "tiers", "pools"})


def show_status(admin_url: str, as_json: bool, order: Sequence[str] = ORDER) -> None:
    """Print the live tree once; all columns where the output is no terminal."""
    status = fetch_status(admin_url)
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    from rich.console import Console

    from tierlb.cli.table import natural_width, page

    console = Console()
    if not console.is_terminal:
        console = Console(width=natural_width(status, order))
    console.print(page(status, order, console.width))


def fetch_status(admin_url: str) -> dict[str, Any]:
    """What GET /v1/status answers; a ClickException says what to do when nothing does."""
    return ask_admin(admin_url, "GET", "/v1/status", ALWAYS)


def ask_admin(admin_url: str, method: str, path: str, keys: frozenset[str]) -> dict[str, Any]:
    """The mapping with these keys that the admin API answers; a ClickException says what to do when none comes."""
    connection = http.client.HTTPConnection(*admin_place(admin_url), timeout=TIMEOUT_S)
    try:
        connection.request(method, path)
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
    return _read(admin_url, body, keys)


def admin_place(admin_url: str) -> tuple[str, int]:
    """Host and port in the URL; a UsageError says how to write it."""
    try:
        url = urlsplit(admin_url)
        host, port = url.hostname, url.port or 80
    except ValueError:
        host = None
    if not host or url.scheme != "http":
        raise click.UsageError(f"--admin {admin_url}: write it as http://HOST:PORT")
    return host, port


def _read(admin_url: str, body: bytes, keys: frozenset[str]) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not answer.keys() >= keys:
        raise click.ClickException(f"{admin_url} answers, but not as a cluster does: give what `up` printed as admin")
    return answer
