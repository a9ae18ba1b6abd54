"""The commands that change a running cluster, and those that show what was changed: their options and exit codes.

Parsing only, like main.py, which imports this when one of them is asked for: what a command runs is imported when it
runs.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierlb.cli.paths import TopologyPath

if TYPE_CHECKING:
    from tierlb.cli.change import ChangeOptions
    from tierlb.cli.client import Client

DEFAULT_ADMIN_URL = "http://127.0.0.1:7900"
CA_HELP = "Certificate of the authority that signed the API's, with https.  [default: those that the machine trusts]"
CommandFunction = Callable[..., None]
KINDS = ("l4", "l7")
POLICIES = (
    *("load-aware", "round-robin", "random", "least-requests", "two-choices", "weighted", "peak-ewma"),
    "maglev",
)


_COMPOSE = click.option(
    "--compose",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Change the containers, too: DIR is what `tierlb compose --output` made.",
)


def _access(token_is_for: str) -> Callable[[CommandFunction], CommandFunction]:
    """The options by which an admin API is reached."""
    file = click.Path(dir_okay=False, path_type=Path)
    token_help = f"The token, which {token_is_for}.  [default: .tierlb/CLUSTER/admin-token]"
    about = "Where its admin API is."
    options = (
        click.option("--ca", type=file, metavar="FILE", help=CA_HELP),
        click.option("--token-file", type=file, metavar="FILE", help=token_help),
        click.option("--admin", default=DEFAULT_ADMIN_URL, show_default=True, metavar="URL", help=about),
    )
    return lambda command: functools.reduce(lambda wrapped, option: option(wrapped), options, command)


def reading_a_cluster(command: CommandFunction) -> CommandFunction:
    """Options for the cluster to read, given to the command as `admin`."""

    @_access("reading from other machines needs")
    @functools.wraps(command)
    def with_access(admin: str, token_file: Path | None, ca: Path | None, **others: Any) -> None:
        from tierlb.cli.client import AdminAccess

        command(admin=AdminAccess(admin, token_file, ca), **others)

    return with_access


def _of_a_cluster(command: CommandFunction) -> CommandFunction:
    """Options for the cluster to change, given to the command as its client."""

    @_access("changes need")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @functools.wraps(command)
    def with_client(admin: str, token_file: Path | None, ca: Path | None, as_json: bool, **others: Any) -> None:
        from tierlb.cli.client import Client, admin_place

        admin_place(admin)
        command(client=Client(admin, token_file, as_json, ca), **others)

    return with_client


def _of_a_change(command: CommandFunction) -> CommandFunction:
    """Options of every change of the topology, given to the command as `options`."""

    @click.option("--why", default="", metavar="TEXT", help="The reason, for the history.")
    @click.option("--deadline", metavar="TIME", help="Roll the change back if it is not done by then.  [default: 60s]")
    @click.option("--expected", type=click.IntRange(1), metavar="N", help="Only if this is still the current revision.")
    @click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
    @_COMPOSE
    @functools.wraps(command)
    def with_options(
        why: str, deadline: str | None, expected: int | None, dry_run: bool, compose: Path | None, **others: Any
    ) -> None:
        from tierlb.cli.change import ChangeOptions

        seconds = None if deadline is None else _seconds("--deadline", deadline)
        command(options=ChangeOptions(why, seconds, expected, dry_run, compose), **others)

    return with_options


@click.command()
@click.argument("file", type=TopologyPath)
@_of_a_cluster
def plan(client: "Client", file: Path) -> None:
    """Print what applying FILE would do to the running cluster, and to connections."""
    from tierlb.cli.change import run_plan

    run_plan(client, file)


@click.command()
@click.argument("file", type=TopologyPath)
@_of_a_change
@_of_a_cluster
def apply(client: "Client", options: "ChangeOptions", file: Path) -> None:
    """Change the running cluster to FILE; a change that fails is rolled back."""
    from tierlb.cli.change import run_apply

    run_apply(client, file, options)


def _node_count(context: click.Context, option: click.Parameter, text: str) -> Any:
    from tierlb.topology.forms import NodeCount
    from tierlb.topology.verbs import read_value

    return _parsed(functools.partial(read_value, NodeCount), text)


@click.group()
def tier() -> None:
    """Add a tier to the running cluster, or remove one."""


@tier.command("add")
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(KINDS))
@click.option("--between", nargs=2, metavar="ABOVE BELOW", help="A tier and what it sends to.")
@click.option("--above", metavar="NAME", help="A tier or pool: whatever sends there sends to the new tier.")
@click.option("--below", metavar="NAME", help="A tier, which sends to the new one then.")
@click.option(
    "--replicas",
    default="1",
    show_default=True,
    metavar="N",
    callback=_node_count,
    help="Number of nodes, or auto: one per core.",
)
@click.option("--policy", type=click.Choice(POLICIES), help="How it chooses.  [default: load-aware]")
@_of_a_change
@_of_a_cluster
def tier_add(client: "Client", options: "ChangeOptions", **given: Any) -> None:
    """Add a tier at the place that --between, --above or --below gives."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import AddTier

    if sum(bool(given[name]) for name in ("between", "above", "below")) != 1:
        raise click.UsageError("choose where it goes: --between ABOVE BELOW, --above NAME or --below NAME, one of them")
    run_verb(client, AddTier(**{name: value for name, value in given.items() if value}), options)


@tier.command("remove")
@click.argument("name")
@_of_a_change
@_of_a_cluster
def tier_remove(client: "Client", options: "ChangeOptions", name: str) -> None:
    """Take a tier out: what sent to it sends to what it sent to."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import RemoveTier

    run_verb(client, RemoveTier(name), options)


@click.command()
@click.argument("replicas", nargs=-1, required=True, metavar="NAME=N|auto...")
@_of_a_change
@_of_a_cluster
def scale(client: "Client", options: "ChangeOptions", replicas: tuple[str, ...]) -> None:
    """Set how many nodes tiers have, or processes pools with `run`: scale web=5 api=2. A tier's auto: one per core."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import parse_scale

    run_verb(client, _parsed(parse_scale, *replicas), options)


@click.command()
@click.argument("policy", metavar="TIER=POLICY")
@_of_a_change
@_of_a_cluster
def policy(client: "Client", options: "ChangeOptions", policy: str) -> None:
    """Set how the nodes of a tier choose: policy web=round-robin."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import parse_policy

    run_verb(client, _parsed(parse_policy, policy), options)


def _admin_command(state: str, about: str) -> click.Command:
    """The command that sets this admin state."""

    @click.command(state, help=about)
    @click.argument("target", metavar="NODE|POOL/HOST:PORT")
    @_of_a_change
    @_of_a_cluster
    def set_admin(client: "Client", options: "ChangeOptions", target: str) -> None:
        from tierlb.cli.change import run_admin

        run_admin(client, target, state, options)

    return set_admin


drain = _admin_command("drain", "Send nothing new to a node, agent or endpoint, until `ready`; what it has may finish.")
maintenance = _admin_command(
    "maintenance", "As `drain`, without health checks; what is left after the drain time is cut."
)
ready = _admin_command("ready", "Give a node, agent or endpoint its share again.")


@click.command()
@click.argument("endpoint", metavar="POOL/HOST:PORT")
@click.argument("weight", type=click.FloatRange(0))
@_of_a_change
@_of_a_cluster
def weight(client: "Client", options: "ChangeOptions", endpoint: str, weight: float) -> None:
    """Set an endpoint's weight beside the others (1 by default); 0: nothing new is sent there."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import SetEndpoint

    if "/" not in endpoint:
        raise click.UsageError(f"{endpoint} is not an endpoint: write POOL/HOST:PORT; nodes share by what they report")
    if not math.isfinite(weight):
        raise click.UsageError(f"{weight} is not a weight: write a number, such as 0.5")
    run_verb(client, SetEndpoint(endpoint, weight=weight), options)


@click.command()
@click.argument("tier")
@_of_a_cluster
def restart(client: "Client", tier: str) -> None:
    """Put a new process in the place of each node of TIER, one after the other."""
    from tierlb.cli.change import run_change, whoami

    run_change(client, "/v1/restart", {"tier": tier, "who": whoami()})


@click.command()
@click.argument("number", required=False, type=click.IntRange(1))
@_of_a_cluster
def history(client: "Client", number: int | None) -> None:
    """List the revisions of the topology; with NUMBER print the file of that revision."""
    from tierlb.cli.history import show_history

    show_history(client, number)


@click.command()
@click.argument("number", type=click.IntRange(1))
@_of_a_change
@_of_a_cluster
def rollback(client: "Client", options: "ChangeOptions", number: int) -> None:
    """Apply the file of revision NUMBER anew."""
    from tierlb.cli.change import run_change

    run_change(client, "/v1/rollback", {"number": number, **options.body()}, options.compose)


@click.command()
@_COMPOSE
@_of_a_cluster
def progress(client: "Client", compose: Path | None) -> None:
    """Follow the change under way, or print what the latest one did."""
    from tierlb.cli.change import follow_latest

    follow_latest(client, compose)


COMMANDS = (plan, apply, tier, scale, policy, drain, maintenance, ready, weight, restart, history, rollback, progress)


def _parsed(read: Callable[..., Any], *words: str) -> Any:
    from tierlb.topology.verbs import EditError

    try:
        return read(*words)
    except EditError as error:
        raise click.UsageError(str(error)) from error


def _seconds(option: str, text: str) -> float:
    from tierlb.topology.units import parse_duration_s

    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error
