"""The commands that start a cluster, show it, or only read or write files: their options and exit codes.

Parsing only, like main.py, which imports this when one of them is asked for.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import tierlb
from tierlb.cli.paths import StatePath, TokenPath, TopologyPath
from tierlb.cli.verbs import COMMANDS, reading_a_cluster

if TYPE_CHECKING:
    from tierlb.cli.client import AdminAccess

TIER_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
"""`explain` takes one in the place of a URL."""


@click.command()
@click.argument("file", type=TopologyPath)
@click.option(
    "--state", type=StatePath, metavar="DIR", help="Directory of the history and tokens.  [default: .tierlb/CLUSTER]"
)
@click.option("--watch", is_flag=True, help="Apply every edit of FILE while it runs.")
@click.option("--detach", is_flag=True, help="Run in the background; return once it serves. `tierlb down` ends it.")
@click.option("--ready-fd", type=int, hidden=True)
def up(file: Path, state: Path | None, watch: bool, detach: bool, ready_fd: int | None) -> None:
    """Run the whole cluster of FILE on this machine until Ctrl-C. SIGHUP makes it read FILE again, once."""
    if detach:
        from tierlb.cli.detach import run_detached

        run_detached(file, state, watch)
        return
    from tierlb.cli.up import UpOptions, run_up

    run_up(file, UpOptions(state, watch, ready_fd))


@click.command()
@click.argument("file", required=False, type=TopologyPath)
@click.option("--state", type=StatePath, metavar="DIR", help="The --state of `up`.  [default: .tierlb/CLUSTER]")
def down(file: Path | None, state: Path | None) -> None:
    """End the cluster of FILE, or the only one that was started from this directory, and wait until it has ended."""
    from tierlb.cli.detach import run_down

    run_down(file, state)


@click.command()
@click.argument("file", type=TopologyPath)
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON instead of the tree.")
def check(file: Path, as_json: bool) -> None:
    """Validate FILE and draw its tree."""
    from tierlb.cli.check import run_check

    run_check(file, as_json)


@click.command()
def schema() -> None:
    """Print the JSON Schema of topology files, for editors."""
    import json

    from tierlb.topology.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
@reading_a_cluster
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(admin: "AdminAccess", as_json: bool) -> None:
    """Show the live tree of a running cluster."""
    from tierlb.cli.status import show_status

    show_status(admin, as_json)


@click.command()
@reading_a_cluster
@click.option("--interval", default="1s", show_default=True, metavar="TIME", help="Time between two updates.")
@click.option("--once", is_flag=True, help="Print it once and exit, as without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print it once as JSON.")
def top(admin: "AdminAccess", interval: str, once: bool, as_json: bool) -> None:
    """Watch the live tree: load, latency and weights, until Ctrl-C or q."""
    from tierlb.cli.top import show_top

    is_given = click.get_current_context().get_parameter_source("interval") is not ParameterSource.DEFAULT
    if is_given and (once or as_json):
        raise click.UsageError("--interval is for the live view: with --once and --json the status is read once")
    show_top(admin, interval, once, as_json)


@click.command()
@click.argument("url", default="/")
@reading_a_cluster
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header field of the request; repeatable.",
)
@click.option("-X", "--method", default="GET", show_default=True, help="Method of the request, which has no body.")
@click.option("--sni", metavar="NAME", help="The server name of a TLS connection, where URL is the name of an l4 tier.")
@click.option("--alpn", multiple=True, metavar="PROTOCOL", help="A protocol that it offers, such as h2; repeatable.")
@click.option("--source", metavar="ADDRESS", help="The client's address.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port that the client connects to.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    url: str,
    admin: "AdminAccess",
    headers: tuple[str, ...],
    method: str,
    sni: str | None,
    alpn: tuple[str, ...],
    source: str | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Send one request and show how each tier chose a host for it: among which hosts, and by which figures.

    URL is http://HOST:PORT/PATH of a tier that listens (https where clients speak TLS; the certificate is not
    verified), or /PATH alone for the first such tier with HTTP. With
    udp://HOST:PORT it is a datagram, for a tier over UDP; endpoints do not get it. With the name of an l4 tier nothing
    is sent, and the routes are shown that a connection with --sni, --alpn, --source and --port takes.
    """
    if TIER_NAME.fullmatch(url):
        if headers or method != "GET":
            raise click.UsageError("-H and -X are for requests of HTTP: write http://HOST:PORT/PATH, or /PATH alone")
        from tierlb.cli.explain_route import ConnectionAsked, run_explain_route

        run_explain_route(url, ConnectionAsked(sni or "", alpn, source, port), admin, as_json)
        return
    if sni or alpn or source or port:
        raise click.UsageError("--sni, --alpn, --source and --port are for connections: write the name of an l4 tier")
    if url.startswith("udp://"):
        if headers or method != "GET":
            raise click.UsageError("-H and -X are for requests of HTTP; a datagram has neither")
        from tierlb.cli.explain_udp import run_explain_udp

        run_explain_udp(url, admin, as_json)
        return
    from tierlb.cli.explain import run_explain

    run_explain(url, admin, headers, method, as_json)


@click.command()
@click.option(
    "--role", required=True, type=click.Choice(["node", "agent"]), help="Role of the process that joins with it."
)
@click.option("--tier", default="", help="Only nodes of this tier.")
@click.option("--pool", default="", help="Only agents of this pool.")
@click.option("--name", default="", help="Only the node or agent of this name.")
@click.option(
    "--token-file", required=True, type=TokenPath, metavar="FILE", help="File with the controller's secret or a token."
)
@click.option(
    "--output",
    type=TokenPath,
    metavar="FILE",
    help="File for the token, readable for this user only.  [default: print it]",
)
def token(role: str, tier: str, pool: str, name: str, token_file: Path, output: Path | None) -> None:
    """Derive a token with which a process can join as a node or an agent, and as nothing else.

    FILE is the file of `tierlb controller --token-file`, or a token that this command made, of which the new one may
    allow a part. No cluster has to run. A token does not reveal what it was derived from.
    """
    from tierlb.cli.tokens import print_token

    print_token(role, tier, pool, name, token_file, output)


@click.command()
@click.argument("file", type=TopologyPath)
@click.option(
    "--output", type=StatePath, metavar="DIR", help="Directory for it and all files it needs.  [default: print it]"
)
@click.option(
    "--image", default=f"tierlb:{tierlb.__version__}", show_default=True, metavar="NAME", help="Image with tierlb."
)
def compose(file: Path, output: Path | None, image: str) -> None:
    """Render FILE for docker compose: a service per tier, per pool with `run`, and the controller.

    With --output, DIR gets compose.yaml, a copy of FILE as topology.yaml, and tokens in secrets/, which are kept from
    then on.
    """
    from tierlb.cli.compose import run_compose

    run_compose(file, output, image)


@click.command()
@click.argument("file", type=TopologyPath)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File for the objects.  [default: print them]",
)
@click.option(
    "--image", default=f"tierlb:{tierlb.__version__}", show_default=True, metavar="NAME", help="Image with tierlb."
)
@click.option(
    "--namespace", default="", metavar="NAME", help="Namespace of all objects.  [default: where they are applied]"
)
@click.option("--prefix", default="", metavar="TEXT", help="Prefix of all names.  [default: the cluster's name]")
@click.option(
    "--edge",
    type=click.Choice(["load-balancer", "daemonset"]),
    default="load-balancer",
    show_default=True,
    help="How tiers that listen are reached: through a Service, or at a port of each machine.",
)
@click.option(
    "--max-replicas",
    multiple=True,
    metavar="TIER=N",
    help="Most nodes of an l7 tier; repeatable.  [default: 4 times its replicas]",
)
@click.option(
    "--metrics-from",
    default="monitoring",
    show_default=True,
    metavar="NAMESPACE",
    help="Namespace whose pods may read the nodes' metrics.",
)
def kubernetes(file: Path, **given: Any) -> None:
    """Render FILE as Kubernetes objects: a Deployment per tier and per pool with `run`, the controller, and network
    policies.

    The steps before they are applied are at the top of the output.
    """
    from tierlb.cli.kubernetes import KubernetesOptions, run_kubernetes

    run_kubernetes(file, KubernetesOptions(**given))


@click.command("demo-backend")
@click.option("--port", required=True, type=click.IntRange(0, 65535), help="Port to listen at; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--name", default="", help="Name of the server in its answers.  [default: HOST:PORT]")
@click.option(
    "--slots", default=0, type=click.IntRange(0), help="Number of requests it works on at a time; others wait."
)
@click.option("--service", default="", metavar="TIME", help="Mean time of a request, such as 10ms.")
@click.option("--fixed", is_flag=True, help="Give every request that time.  [default: exponentially distributed]")
@click.option("--seed", type=int, help="Seed of the random times.")
@click.option(
    "--orca", type=click.Choice(["text", "json", "bin"]), help="Add the load to each response in this format."
)
def demo_backend(
    port: int, host: str, name: str, slots: int, service: str, fixed: bool, seed: int | None, orca: str | None
) -> None:
    """Run a small HTTP server whose answers name the server and the request."""
    import random

    import trio

    from tierlb.demo.endpoint import BadQuery, Workers, read_seconds, run_backend
    from tierlb.model.topology import Orca

    try:
        service_s = read_seconds("service", service) if service else 0.0
    except BadQuery as problem:
        raise click.UsageError(f"--{str(problem).strip()}") from problem
    if not service and (fixed or seed is not None):
        raise click.UsageError("--fixed and --seed apply to the times of --service: give --service too")
    workers = Workers(slots, service_s, fixed, random.Random(seed))
    try:
        trio.run(run_backend, name, host, port, workers, Orca(orca) if orca else None)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


@click.command("dev-certificate")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--output",
    default="tls",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where ca.pem, ca.key, certificate.pem and certificate.key are written.",
)
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 3650), help="How long it is valid.")
def dev_certificate(names: tuple[str, ...], output: Path, days: int) -> None:
    """Make a certificate for trying TLS out, signed by an authority that is made with it.

    NAME is a host name, *.example.com, or an address (default: localhost, 127.0.0.1 and ::1). A later run signs a new
    certificate with the same authority. It is for tests: keep ca.key to yourself.
    """
    from tierlb.cli.certificate import run_dev_certificate

    run_dev_certificate(names, output, days)


ALL_COMMANDS = (
    *(up, down, check, schema, status, top, explain, token, compose, kubernetes, demo_backend, dev_certificate),
    *COMMANDS,
)
"""But for those in main.py."""
