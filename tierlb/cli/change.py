"""Changing a running cluster: send the change, then print its progress line by line until it is over.

The controller carries a change out; this command only follows it, so Ctrl-C leaves the change running. Exit code 0 when
it is done, or nothing had to be; 1 when it was refused, taken back or failed; 2 for wrong usage or a bad file.
"""

import getpass
import json
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from tierlb.cli.check import load_or_exit
from tierlb.cli.client import Client, Json
from tierlb.cli.printable import printable
from tierlb.model.topology import Admin
from tierlb.topology.verbs import SetEndpoint, SetNode, Verb, verb_json

if TYPE_CHECKING:
    from tierlb.cli.deploy import Containers


PROGRESS_POLL_S = 0.25
MOST_NAME_CHARS = 64
INTERRUPTED = 130
"""As a shell has it for a command that SIGINT ended."""
OVER = frozenset({"done", "rolled back", "failed"})


@attrs.frozen
class ChangeOptions:
    """The options of every change of the topology. `compose`: the directory of the containers to change with it."""

    why: str = ""
    deadline_s: float | None = None
    expected: int | None = None
    dry_run: bool = False
    compose: Path | None = None

    def body(self) -> Json:
        """For the API, without what was not given."""
        fields = attrs.asdict(self, filter=lambda field, _: field.name != "compose")
        given = {name: value for name, value in fields.items() if value not in ("", None, False)}
        return {"who": whoami(), **given}


def run_plan(client: Client, file: Path) -> None:
    """Print what applying the file would do; exits with 1 if it cannot be done."""
    load_or_exit(file, "nothing was compared")
    _, plan = client.post("/v1/plan", {"text": read_text(file)})
    _show_plan(client, plan)


def run_apply(client: Client, file: Path, options: ChangeOptions) -> None:
    """Make the cluster what the file says."""
    load_or_exit(file, "nothing was changed")
    run_change(client, "/v1/apply", {"text": read_text(file), **options.body()}, options.compose)


def run_verb(client: Client, verb: Verb, options: ChangeOptions) -> None:
    """Have a verb carried out."""
    run_change(client, "/v1/edit", {"edit": verb_json(verb), **options.body()}, options.compose)


def run_change(client: Client, path: str, body: Json, compose: Path | None = None) -> None:
    """Ask for it and follow it to its end; a plan, where nothing was begun, is shown."""
    containers = _containers(client, compose)
    if containers is not None:
        client, body = containers.client, containers.checked(path, body)
    status, answer = client.post(path, body)
    if status == 202:
        if containers is not None:
            containers.begin(answer["revision"])
        follow_change(client, answer, containers)
    else:
        _show_plan(client, answer)


def run_admin(client: Client, target: str, state: str, options: ChangeOptions) -> None:
    """Set the admin state of an endpoint, which is in the file, or of a node or agent, which belongs to a revision."""
    admin = Admin(state)
    run_verb(client, SetEndpoint(target, admin) if "/" in target else SetNode(target, admin), options)


def follow_latest(client: Client, compose: Path | None = None) -> None:
    """The change under way, or what the latest one did."""
    containers = _containers(client, compose)
    change = client.get("/v1/progress")["change"]
    if change is not None:
        if containers is not None and change["outcome"] not in OVER:
            containers.begin(change["revision"])
        follow_change(client, change, containers)
        return
    if containers is not None:
        containers.end()
    if client.as_json:
        click.echo("null")
    else:
        click.echo("nothing was changed since the start")


def follow_change(client: Client, change: Json, containers: "Containers | None" = None) -> None:
    """Print the progress until the change is over; exits with 1 if it does not end well."""
    printed = 0
    try:
        while True:
            printed = _print_lines(client, change, printed)
            if change["outcome"] in OVER:
                break
            select.select((), (), (), PROGRESS_POLL_S)
            change = client.get(f"/v1/progress/{change['number']}")
    except KeyboardInterrupt:
        click.echo("\nThe change goes on without this command: `tierlb progress` follows it", err=True)
        if containers is not None:
            click.echo("The containers do not: give it --compose, too", err=True)
        sys.exit(INTERRUPTED)
    if containers is not None:
        containers.end()
    _conclude(client, change)


def _containers(client: Client, compose: Path | None) -> "Containers | None":
    if compose is None:
        return None
    from tierlb.cli.deploy import containers_of

    return containers_of(client, compose)


def read_text(file: Path) -> str:
    """The file, which has been loaded before."""
    return file.read_text(encoding="utf-8-sig")


def whoami() -> str:
    """This user's name, for the history."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    return printable(name)[:MOST_NAME_CHARS] or "somebody"


def _print_lines(client: Client, change: Json, printed: int) -> int:
    lines = change["lines"]
    if not client.as_json:
        for line in lines[printed:]:
            click.echo(f"{line['at_s']:7.2f} s  {printable(line['text'])}")
    return len(lines)


def _conclude(client: Client, change: Json) -> None:
    outcome, revision = change["outcome"], change["revision"]
    if client.as_json:
        click.echo(json.dumps(change, indent=2))
    elif outcome == "done":
        click.echo(f"done: revision {revision}" if revision else "done")
    else:
        kept = f"; what was wanted is kept: `tierlb history {revision}` prints it" if revision else ""
        click.echo(f"{outcome}: {printable(change['reason'])}{kept}", err=True)
    if outcome != "done":
        sys.exit(1)


def _show_plan(client: Client, plan: Json) -> None:
    if client.as_json:
        click.echo(json.dumps(plan, indent=2))
    else:
        for line in plan["lines"] or ["nothing would change"]:
            click.echo(printable(line))
    if plan["unsupported"]:
        sys.exit(1)
