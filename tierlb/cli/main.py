"""The commands, their options and exit codes: 2 for wrong usage or a bad file, 1 for a failed operation.

Parsing only. Each command imports its machinery when it runs: a node must not pay for the dashboard, nor
`--help` for either.
"""

from pathlib import Path

import click

import tierlb

DEFAULT_ADMIN = "http://127.0.0.1:7900"
TopologyPath = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tierlb.__version__, prog_name="tierlb")
def main() -> None:
    """A load balancer made to be stacked: load flows up, intent flows down."""


@main.command()
@click.argument("file", type=TopologyPath)
def up(file: Path) -> None:
    """Run the whole cluster of FILE on this machine until Ctrl-C."""
    from tierlb.cli.up import run_up

    run_up(file)


@main.command()
@click.argument("file", type=TopologyPath)
def check(file: Path) -> None:
    """Validate FILE and draw its tree."""
    from tierlb.cli.check import load_or_exit
    from tierlb.topology.tree import draw

    click.echo(draw(load_or_exit(file)))


@main.command()
def schema() -> None:
    """Print the JSON Schema of topology files, for editors."""
    import json

    from tierlb.topology.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.option("--admin", default=DEFAULT_ADMIN, show_default=True, metavar="URL", help="Where `up` said.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(admin: str, as_json: bool) -> None:
    """Show the live tree of a running cluster."""
    from tierlb.cli.status import show_status

    show_status(admin, as_json)


@main.command()
@click.option("--name", required=True, help="This node's name, such as web-1; the same after a restart.")
@click.option("--tier", required=True, help="The tier it belongs to.")
@click.option("--join", required=True, metavar="URL", help="The parent, as ws://HOST:PORT.")
def node(name: str, tier: str, join: str) -> None:
    """Run one node by itself; the join token comes in the environment variable TIERLB_TOKEN."""
    from tierlb.cli.node import start_node

    start_node(name, tier, join)


@main.command("demo-backend")
@click.option("--port", required=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--name", default="", help="How answers call it.  [default: HOST:PORT]")
def demo_backend(port: int, host: str, name: str) -> None:
    """Run a small HTTP server that says who answered and what arrived."""
    import trio

    from tierlb.cluster.demo_backend import run_backend

    try:
        trio.run(run_backend, name, host, port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
