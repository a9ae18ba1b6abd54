"""The commands that change a running cluster, and those that show what was changed: their options and exit codes.

Parsing only, like main.py, and imported with it: what a command runs is imported when it runs.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tierlb.cli.change import Wish
    from tierlb.cli.client import Client

DEFAULT_ADMIN = "http://127.0.0.1:7900"
CA_HELP = "Signed the API's certificate, with https.  [default: whom the machine trusts]"
TopologyPath = click.Path(exists=True, dir_okay=False, path_type=Path)
Command = Callable[..., None]
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


def reading_a_cluster(command: Command) -> Command:
    """Options that say which cluster is read, given to the command as `admin`."""

    @click.option("--admin", default=DEFAULT_ADMIN, show_default=True, metavar="URL", help="Where `up` said.")
    @click.option(
        "--token-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="What reading from other machines needs.  [default: .tierlb/CLUSTER/admin-token]",
    )
    @click.option("--ca", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=CA_HELP)
    @functools.wraps(command)
    def with_access(admin: str, token_file: Path | None, ca: Path | None, **others: Any) -> None:
        from tierlb.cli.client import AdminAccess

        command(admin=AdminAccess(admin, token_file, ca), **others)

    return with_access


def _of_a_cluster(command: Command) -> Command:
    """Options that say which cluster is meant, given to the command as its client."""

    @click.option("--admin", default=DEFAULT_ADMIN, show_default=True, metavar="URL", help="Where `up` said.")
    @click.option(
        "--token-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="What changes need.  [default: .tierlb/CLUSTER/admin-token]",
    )
    @click.option("--ca", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=CA_HELP)
    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    @functools.wraps(command)
    def with_client(admin: str, token_file: Path | None, ca: Path | None, as_json: bool, **others: Any) -> None:
        from tierlb.cli.client import Client, admin_place

        admin_place(admin)
        command(client=Client(admin, token_file, as_json, ca), **others)

    return with_client


def _of_a_change(command: Command) -> Command:
    """Options of every change of the topology, given to the command as its wish."""

    @click.option("--why", default="", metavar="TEXT", help="For the history.")
    @click.option("--deadline", metavar="TIME", help="Take it back if it is not done by then.  [default: 60s]")
    @click.option("--expected", type=click.IntRange(1), metavar="N", help="Only if this is still the current revision.")
    @click.option("--dry-run", is_flag=True, help="Say what would be done.")
    @_COMPOSE
    @functools.wraps(command)
    def with_wish(
        why: str, deadline: str | None, expected: int | None, dry_run: bool, compose: Path | None, **others: Any
    ) -> None:
        from tierlb.cli.change import Wish

        seconds = None if deadline is None else _seconds("--deadline", deadline)
        command(wish=Wish(why, seconds, expected, dry_run, compose), **others)

    return with_wish


@click.command()
@click.argument("file", type=TopologyPath)
@_of_a_cluster
def plan(client: "Client", file: Path) -> None:
    """Say what applying FILE would do to the running cluster, and to connections."""
    from tierlb.cli.change import run_plan

    run_plan(client, file)


@click.command()
@click.argument("file", type=TopologyPath)
@_of_a_change
@_of_a_cluster
def apply(client: "Client", wish: "Wish", file: Path) -> None:
    """Make the running cluster what FILE says; what does not come off is taken back."""
    from tierlb.cli.change import run_apply

    run_apply(client, file, wish)


@click.group()
def tier() -> None:
    """Add a tier to the running cluster, or remove one."""


@tier.command("add")
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(KINDS))
@click.option("--between", nargs=2, metavar="ABOVE BELOW", help="A tier and what it sends to.")
@click.option("--above", metavar="NAME", help="A tier or pool: whatever sends there sends to the new tier.")
@click.option("--below", metavar="NAME", help="A tier, which sends to the new one then.")
@click.option("--replicas", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--policy", type=click.Choice(POLICIES), help="How it chooses.  [default: load-aware]")
@_of_a_change
@_of_a_cluster
def tier_add(client: "Client", wish: "Wish", **given: Any) -> None:
    """Put a new tier where --between, --above or --below says."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import AddTier

    if sum(bool(given[name]) for name in ("between", "above", "below")) != 1:
        raise click.UsageError("say where it goes: --between ABOVE BELOW, --above NAME or --below NAME, one of them")
    run_verb(client, AddTier(**{name: value for name, value in given.items() if value}), wish)


@tier.command("remove")
@click.argument("name")
@_of_a_change
@_of_a_cluster
def tier_remove(client: "Client", wish: "Wish", name: str) -> None:
    """Take a tier out: what sent to it sends to what it sent to."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import RemoveTier

    run_verb(client, RemoveTier(name), wish)


@click.command()
@click.argument("replicas", nargs=-1, required=True, metavar="NAME=N...")
@_of_a_change
@_of_a_cluster
def scale(client: "Client", wish: "Wish", replicas: tuple[str, ...]) -> None:
    """Set how many nodes tiers have, or processes pools with `run`: scale web=5 api=2."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import EditError, parse_scale

    try:
        verb = parse_scale(*replicas)
    except EditError as error:
        raise click.UsageError(str(error)) from error
    run_verb(client, verb, wish)


@click.command()
@click.argument("policy", metavar="TIER=POLICY")
@_of_a_change
@_of_a_cluster
def policy(client: "Client", wish: "Wish", policy: str) -> None:
    """Set how the nodes of a tier choose: policy web=round-robin."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import EditError, parse_policy

    try:
        verb = parse_policy(policy)
    except EditError as error:
        raise click.UsageError(str(error)) from error
    run_verb(client, verb, wish)


@click.command()
@click.argument("target", metavar="NODE|POOL/HOST:PORT")
@_of_a_change
@_of_a_cluster
def drain(client: "Client", wish: "Wish", target: str) -> None:
    """Send nothing new to a node, agent or endpoint, until `ready`; what it has may finish."""
    from tierlb.cli.change import run_admin

    run_admin(client, target, "drain", wish)


@click.command()
@click.argument("target", metavar="NODE|POOL/HOST:PORT")
@_of_a_change
@_of_a_cluster
def maintenance(client: "Client", wish: "Wish", target: str) -> None:
    """As `drain`, without health checks; what is left after the drain time is cut."""
    from tierlb.cli.change import run_admin

    run_admin(client, target, "maintenance", wish)


@click.command()
@click.argument("target", metavar="NODE|POOL/HOST:PORT")
@_of_a_change
@_of_a_cluster
def ready(client: "Client", wish: "Wish", target: str) -> None:
    """Give a node, agent or endpoint its share again."""
    from tierlb.cli.change import run_admin

    run_admin(client, target, "ready", wish)


@click.command()
@click.argument("endpoint", metavar="POOL/HOST:PORT")
@click.argument("weight", type=click.FloatRange(0))
@_of_a_change
@_of_a_cluster
def weight(client: "Client", wish: "Wish", endpoint: str, weight: float) -> None:
    """Set an endpoint's share beside the others, 1 if nothing is said; 0: nothing new is sent there."""
    from tierlb.cli.change import run_verb
    from tierlb.topology.verbs import SetEndpoint

    if "/" not in endpoint:
        raise click.UsageError(f"{endpoint} is no endpoint: write POOL/HOST:PORT; nodes share by what they report")
    if not math.isfinite(weight):
        raise click.UsageError(f"{weight} is no weight: write a number, such as 0.5")
    run_verb(client, SetEndpoint(endpoint, weight=weight), wish)


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
    """List what the cluster was asked to be; with NUMBER print the file of that revision."""
    from tierlb.cli.history import show_history

    show_history(client, number)


@click.command()
@click.argument("number", type=click.IntRange(1))
@_of_a_change
@_of_a_cluster
def rollback(client: "Client", wish: "Wish", number: int) -> None:
    """Apply the file of revision NUMBER anew."""
    from tierlb.cli.change import run_change

    run_change(client, "/v1/rollback", {"number": number, **wish.body()}, wish.compose)


@click.command()
@_COMPOSE
@_of_a_cluster
def progress(client: "Client", compose: Path | None) -> None:
    """Follow the change under way, or say what the latest one did."""
    from tierlb.cli.change import follow_latest

    follow_latest(client, compose)


COMMANDS = (plan, apply, tier, scale, policy, drain, maintenance, ready, weight, restart, history, rollback, progress)


def _seconds(option: str, text: str) -> float:
    from tierlb.topology.units import parse_duration_s

    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error
