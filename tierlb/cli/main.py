"""The commands, their options and exit codes: 2 for wrong usage or a bad file, 1 for a failed operation.

Parsing only. Each command imports its machinery when it runs: a node must not pay for the admin API, nor
`--help` for either.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import tierlb
from tierlb.cli.verbs import COMMANDS, TopologyPath, reading_a_cluster

if TYPE_CHECKING:
    from tierlb.cli.client import AdminAccess

StatePath = click.Path(file_okay=False, path_type=Path)
JoinPath = click.Path(file_okay=False, path_type=Path)
TokenPath = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tierlb.__version__, prog_name="tierlb")
def main() -> None:
    """A load balancer made to be stacked: load flows up, intent flows down."""


for verb in COMMANDS:
    main.add_command(verb)


@main.command()
@click.argument("file", type=TopologyPath)
@click.option(
    "--state", type=StatePath, metavar="DIR", help="Where history and tokens are kept.  [default: .tierlb/CLUSTER]"
)
@click.option("--watch", is_flag=True, help="Apply every edit of FILE while it runs.")
@click.option("--detach", is_flag=True, help="In the background; returns once it serves. `tierlb down` ends it.")
@click.option("--ready-fd", type=int, hidden=True)
def up(file: Path, state: Path | None, watch: bool, detach: bool, ready_fd: int | None) -> None:
    """Run the whole cluster of FILE on this machine until Ctrl-C. SIGHUP has FILE read again, once."""
    if detach:
        from tierlb.cli.detach import run_detached

        run_detached(file, state, watch)
        return
    from tierlb.cli.up import UpOptions, run_up

    run_up(file, UpOptions(state, watch, ready_fd))


@main.command()
@click.argument("file", required=False, type=TopologyPath)
@click.option("--state", type=StatePath, metavar="DIR", help="As given to `up`.  [default: .tierlb/CLUSTER]")
def down(file: Path | None, state: Path | None) -> None:
    """End the cluster of FILE, or the only one that was started from here, and wait until it has ended."""
    from tierlb.cli.detach import run_down

    run_down(file, state)


@main.command()
@click.argument("file", type=TopologyPath)
@click.option("--json", "as_json", is_flag=True, help="Problems and warnings for programs, instead of the tree.")
def check(file: Path, as_json: bool) -> None:
    """Validate FILE and draw its tree."""
    from tierlb.cli.check import run_check

    run_check(file, as_json)


@main.command()
def schema() -> None:
    """Print the JSON Schema of topology files, for editors."""
    import json

    from tierlb.topology.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@reading_a_cluster
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(admin: "AdminAccess", as_json: bool) -> None:
    """Show the live tree of a running cluster."""
    from tierlb.cli.status import show_status

    show_status(admin, as_json)


@main.command()
@reading_a_cluster
@click.option("--interval", default="1s", show_default=True, metavar="TIME", help="How often to ask.")
@click.option("--once", is_flag=True, help="Print it and leave, as if the output were no terminal.")
@click.option("--json", "as_json", is_flag=True, help="For programs; once.")
def top(admin: "AdminAccess", interval: str, once: bool, as_json: bool) -> None:
    """Watch the live tree: load, latency and weights, until Ctrl-C or q."""
    from tierlb.cli.top import show_top

    is_given = click.get_current_context().get_parameter_source("interval") is not ParameterSource.DEFAULT
    if is_given and (once or as_json):
        raise click.UsageError("--interval is for the live view: with --once and --json it is asked once")
    show_top(admin, interval, once, as_json)


@main.command()
@click.argument("url", default="/")
@reading_a_cluster
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Of the request; repeatable.")
@click.option("-X", "--method", default="GET", show_default=True, help="Of the request, which has no body.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def explain(url: str, admin: "AdminAccess", headers: tuple[str, ...], method: str, as_json: bool) -> None:
    """Send one request and show how each tier chose for it: whom, against which others, by which figures.

    URL is http://HOST:PORT/PATH of a tier that listens, or /PATH alone for the first of them that has HTTP.
    """
    from tierlb.cli.explain import run_explain

    run_explain(url, admin, headers, method, as_json)


@main.command()
@click.argument("file", type=TopologyPath)
@click.option("--listen", default="127.0.0.1:7901", show_default=True, metavar="HOST:PORT", help="Where nodes join.")
@click.option("--admin-listen", default="", metavar="HOST:PORT", help="Of the admin API.  [default: as FILE says]")
@click.option("--token-file", type=TokenPath, metavar="FILE", help="The secret of the cluster.  [default: made]")
@click.option("--admin-token-file", type=TokenPath, metavar="FILE", help="What changes need.  [default: the same]")
@click.option(
    "--state", type=StatePath, metavar="DIR", help="Where history and tokens are kept.  [default: .tierlb/CLUSTER]"
)
@click.option("--name", default="", help="Of this controller, among several.  [default: the host's name]")
@click.option("--run-dns", default="", metavar="PATTERN", help="Where endpoints with `run` are, such as {pool}:9000.")
def controller(**options: Any) -> None:
    """Run the controller of FILE alone, for nodes that are started elsewhere: `tierlb node`, in containers or on other
    machines. Any node of a tier in FILE may join, however many `replicas` there are to be.

    With `store: etcd://...` in FILE several controllers share the store; one is active, another takes over.
    """
    from tierlb.cli.controller import ControllerOptions, run_controller

    run_controller(ControllerOptions(**options))


@main.command()
@click.option("--tier", required=True, help="The tier it belongs to.")
@click.option(
    "--name", default="", help="Such as web-1; the same after a restart.  [default: TIER- and the host's name]"
)
@click.option("--join", default="", metavar="URL[,URL]", help="The controllers, as ws://HOST:PORT, or wss:// with TLS.")
@click.option(
    "--token-file", type=TokenPath, metavar="FILE", help="Its token, with --join: what `tierlb token` prints."
)
@click.option("--token-fd", type=click.IntRange(0), metavar="N", help="Instead, a descriptor to read it from.")
@click.option("--join-file", type=JoinPath, metavar="DIR", help="Instead, where `up` left it: .tierlb/CLUSTER")
@click.option("--host", default="", help="Open every port here: 0.0.0.0 in a container.  [default: as the file says]")
@click.option("--control-listen", default="", metavar="HOST:PORT", help="Where children report.  [default: any port]")
@click.option("--data-port", type=click.IntRange(0, 65535), default=0, help="Where parents send to.  [default: any]")
@click.option(
    "--advertise", default="", metavar="HOST", help="The host that others are told.  [default: it is found out]"
)
@click.option("--control-name", default="", metavar="NAME:PORT", help="Stands for all nodes of the tier, for children.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep there what this node serves, and start with that if the controller cannot be reached.",
)
@click.option("--tls-certificate", default="", metavar="FILE", help="Shown to the controller, parents and children.")
@click.option("--tls-key", default="", metavar="FILE", help="The certificate's key.")
@click.option("--tls-ca", default="", metavar="FILE", help="Signed the certificates of the whole cluster.")
def node(tls_certificate: str, tls_key: str, tls_ca: str, **options: Any) -> None:
    """Run one node by itself. Without --token-file the token comes in the environment variable TIERLB_TOKEN.

    On several machines give --host, an address at which parents and children reach this one, or 0.0.0.0. Its control
    address also answers GET /readyz, /livez and /metrics.
    """
    from tierlb.cli.node import NodeOptions, start_node

    start_node(NodeOptions(tls=(tls_certificate, tls_key, tls_ca), **options))


@main.command()
@click.option("--role", required=True, type=click.Choice(["node", "agent"]), help="What may join with it.")
@click.option("--tier", default="", help="Nodes of this tier alone.")
@click.option("--pool", default="", help="Agents of this pool alone.")
@click.option("--name", default="", help="The node or agent of this name alone.")
@click.option(
    "--token-file", required=True, type=TokenPath, metavar="FILE", help="The controller's secret, or a token."
)
@click.option(
    "--output", type=TokenPath, metavar="FILE", help="Write it there, for this user alone.  [default: print it]"
)
def token(role: str, tier: str, pool: str, name: str, token_file: Path, output: Path | None) -> None:
    """Derive a token that lets its holder join as a node or an agent, and as nothing else.

    FILE is what `tierlb controller --token-file` reads, or a token that this command made, of which the new one may
    allow a part. No cluster has to run. Who knows a token cannot find out what it was derived from.
    """
    from tierlb.cli.tokens import print_token

    print_token(role, tier, pool, name, token_file, output)


@main.command()
@click.option("--pool", required=True, help="The pool it joins, one with `agents: true`.")
@click.option("--name", default="", help="Such as app-1; the same after a restart.  [default: POOL-HOSTNAME]")
@click.option("--join", default="", metavar="URL[,URL]", help="The controllers, as ws://HOST:PORT, or wss:// with TLS.")
@click.option(
    "--token-file", type=TokenPath, metavar="FILE", help="Its token, with --join: what `tierlb token` prints."
)
@click.option("--token-fd", type=click.IntRange(0), metavar="N", help="Instead, a descriptor to read it from.")
@click.option("--join-file", type=JoinPath, metavar="DIR", help="Instead, where `up` left it: .tierlb/CLUSTER")
@click.option("--address", required=True, metavar="HOST:PORT", help="Where the app takes its traffic.")
@click.option(
    "--url", default="", help="Where the app answers with its counters: the reporter's JSON, or ORCA as JSON."
)
@click.option("--pid", type=click.IntRange(1), help="Read this process's processor time.")
@click.option("--cgroup", type=click.Path(path_type=Path), metavar="DIR", help="Read this cgroup's (v2) instead.")
@click.option("--cores", type=click.FloatRange(0), default=0.0, help="How many it can use.  [default: its quota]")
@click.option("--slots", type=click.IntRange(0), default=0, help="How many requests the app works on at a time.")
@click.option("--drain-time", default="10s", show_default=True, help="On SIGTERM, wait at most so long for idleness.")
@click.option("--tls-certificate", default="", metavar="FILE", help="Shown to the controller and parents.")
@click.option("--tls-key", default="", metavar="FILE", help="The certificate's key.")
@click.option("--tls-ca", default="", metavar="FILE", help="Signed the certificates of the whole cluster.")
def agent(tls_certificate: str, tls_key: str, tls_ca: str, **options: Any) -> None:
    """Report for an app beside this process.

    Where to join: --join-file is a directory with the files control-url and join-token. `tierlb up` writes them to
    .tierlb/CLUSTER in its working directory, for its own user alone, anew at each start. With --join the token comes in
    a file, as `tierlb token --role agent --pool POOL` prints it.
    """
    from tierlb.cli.agent import AgentOptions, start_agent

    start_agent(AgentOptions(tls=(tls_certificate, tls_key, tls_ca), **options))


@main.command()
@click.argument("file", type=TopologyPath)
@click.option("--output", type=StatePath, metavar="DIR", help="Write it there, with all it needs.  [default: print it]")
@click.option(
    "--image", default=f"tierlb:{tierlb.__version__}", show_default=True, metavar="NAME", help="That has tierlb."
)
def compose(file: Path, output: Path | None, image: str) -> None:
    """Render FILE for docker compose: a service per tier, per pool with `run`, and the controller.

    With --output, DIR gets compose.yaml, a copy of FILE as topology.yaml, and tokens in secrets/, made once.
    """
    from tierlb.cli.compose import run_compose

    run_compose(file, output, image)


@main.command()
@click.argument("file", type=TopologyPath)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of printing.")
@click.option(
    "--image", default=f"tierlb:{tierlb.__version__}", show_default=True, metavar="NAME", help="That has tierlb."
)
@click.option("--namespace", default="", metavar="NAME", help="Of all objects.  [default: where they are applied]")
@click.option("--prefix", default="", metavar="TEXT", help="Of all names.  [default: the cluster's name]")
@click.option(
    "--edge",
    type=click.Choice(["load-balancer", "daemonset"]),
    default="load-balancer",
    show_default=True,
    help="Tiers that listen: behind a Service, or at a port of each machine.",
)
@click.option(
    "--max-replicas",
    multiple=True,
    metavar="TIER=N",
    help="How far an l7 tier may grow; repeatable.  [default: 4 times its replicas]",
)
@click.option(
    "--metrics-from",
    default="monitoring",
    show_default=True,
    metavar="NAMESPACE",
    help="Whose pods may read the nodes' metrics.",
)
def kubernetes(file: Path, **given: Any) -> None:
    """Render FILE as Kubernetes objects: a Deployment per tier and per pool with `run`, the controller, and who may
    speak to whom.

    What is to be done before they are applied stands at the top.
    """
    from tierlb.cli.kubernetes import KubernetesOptions, run_kubernetes

    run_kubernetes(file, KubernetesOptions(**given))


@main.command("demo-backend")
@click.option("--port", required=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--name", default="", help="How answers call it.  [default: HOST:PORT]")
@click.option("--slots", default=0, type=click.IntRange(0), help="Work on so many requests at a time; others wait.")
@click.option("--service", default="", metavar="TIME", help="How long each takes in the mean, such as 10ms.")
@click.option("--fixed", is_flag=True, help="Each takes just that long.  [default: exponentially distributed]")
@click.option("--seed", type=int, help="Draw the same times again.")
@click.option("--orca", type=click.Choice(["text", "json", "bin"]), help="Say the load in each response.")
def demo_backend(
    port: int, host: str, name: str, slots: int, service: str, fixed: bool, seed: int | None, orca: str | None
) -> None:
    """Run a small HTTP server that says who answered and what arrived."""
    import random

    import trio

    from tierlb.demo.endpoint import BadQuery, Station, read_seconds, run_backend
    from tierlb.model.topology import Orca

    try:
        service_s = read_seconds("service", service) if service else 0.0
    except BadQuery as problem:
        raise click.UsageError(f"--{str(problem).strip()}") from problem
    if not service and (fixed or seed is not None):
        raise click.UsageError("--fixed and --seed say how the times of --service are drawn: give --service too")
    station = Station(slots, service_s, fixed, random.Random(seed))
    try:
        trio.run(run_backend, name, host, port, station, Orca(orca) if orca else None)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
