"""The commands, their options and exit codes: 2 for wrong usage or a bad file, 1 for a failed operation.

Parsing only. Each command imports its machinery when it runs, so that a node does not load the tables, nor `--help`
either.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import tierlb
from tierlb.cli.verbs import COMMANDS, CommandFunction, TopologyPath, reading_a_cluster
from tierlb.model.build import BUILD

if TYPE_CHECKING:
    from tierlb.cli.client import AdminAccess

StatePath = click.Path(file_okay=False, path_type=Path)
JoinPath = click.Path(file_okay=False, path_type=Path)
TokenPath = click.Path(dir_okay=False, path_type=Path)


_JOINING = (
    click.option(
        "--join", default="", metavar="URL[,URL]", help="URLs of the controllers: ws://HOST:PORT, or wss:// with TLS."
    ),
    click.option(
        "--token-file", type=TokenPath, metavar="FILE", help="File with its token, from `tierlb token`; with --join."
    ),
    click.option(
        "--token-fd", type=click.IntRange(0), metavar="N", help="Descriptor from which the token is read instead."
    ),
    click.option(
        "--join-file",
        type=JoinPath,
        metavar="DIR",
        help="Directory with URL and token instead, such as .tierlb/CLUSTER.",
    ),
)


def _joining_options(command: CommandFunction) -> CommandFunction:
    """The options by which a process joins a cluster, the same for nodes and agents."""
    for option in reversed(_JOINING):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tierlb.__version__, prog_name="tierlb", message=f"%(prog)s, version %(version)s ({BUILD})")
def main() -> None:
    """A load balancer made to be stacked: load flows up, intent flows down."""


for verb in COMMANDS:
    main.add_command(verb)


@main.command()
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


@main.command()
@click.argument("file", required=False, type=TopologyPath)
@click.option("--state", type=StatePath, metavar="DIR", help="The --state of `up`.  [default: .tierlb/CLUSTER]")
def down(file: Path | None, state: Path | None) -> None:
    """End the cluster of FILE, or the only one that was started from this directory, and wait until it has ended."""
    from tierlb.cli.detach import run_down

    run_down(file, state)


@main.command()
@click.argument("file", type=TopologyPath)
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON instead of the tree.")
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(admin: "AdminAccess", as_json: bool) -> None:
    """Show the live tree of a running cluster."""
    from tierlb.cli.status import show_status

    show_status(admin, as_json)


@main.command()
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


@main.command()
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(url: str, admin: "AdminAccess", headers: tuple[str, ...], method: str, as_json: bool) -> None:
    """Send one request and show how each tier chose a host for it: among which hosts, and by which figures.

    URL is http://HOST:PORT/PATH of a tier that listens, or /PATH alone for the first such tier with HTTP. With
    udp://HOST:PORT it is a datagram, for a tier over UDP; endpoints do not get it.
    """
    if url.startswith("udp://"):
        if headers or method != "GET":
            raise click.UsageError("-H and -X are for requests of HTTP; a datagram has neither")
        from tierlb.cli.explain_udp import run_explain_udp

        run_explain_udp(url, admin, as_json)
        return
    from tierlb.cli.explain import run_explain

    run_explain(url, admin, headers, method, as_json)


@main.command()
@click.argument("file", type=TopologyPath)
@click.option(
    "--listen", default="127.0.0.1:7901", show_default=True, metavar="HOST:PORT", help="Address at which nodes join."
)
@click.option(
    "--admin-listen", default="", metavar="HOST:PORT", help="Address of the admin API.  [default: as in FILE]"
)
@click.option(
    "--token-file", type=TokenPath, metavar="FILE", help="File with the secret of the cluster.  [default: generated]"
)
@click.option(
    "--admin-token-file", type=TokenPath, metavar="FILE", help="File with the token for changes.  [default: the same]"
)
@click.option(
    "--state", type=StatePath, metavar="DIR", help="Directory of the history and tokens.  [default: .tierlb/CLUSTER]"
)
@click.option("--name", default="", help="Name of this controller, among several.  [default: the host name]")
@click.option("--run-dns", default="", metavar="PATTERN", help="DNS name of endpoints with `run`, such as {pool}:9000.")
def controller(**options: Any) -> None:
    """Run the controller of FILE alone, for nodes that are started elsewhere: `tierlb node`, in containers or on other
    machines. Any node of a tier in FILE may join, whatever `replicas` says.

    With `store: etcd://...` in FILE several controllers share the store; one is active, another takes over.
    """
    from tierlb.cli.controller import ControllerOptions, run_controller

    run_controller(ControllerOptions(**options))


@main.command()
@click.option("--tier", required=True, help="Tier of the node.")
@click.option(
    "--name", default="", help="Name that stays the same after a restart, such as web-1.  [default: TIER-HOSTNAME]"
)
@_joining_options
@click.option("--host", default="", help="Address of every port: 0.0.0.0 in a container.  [default: as in the file]")
@click.option(
    "--control-listen", default="", metavar="HOST:PORT", help="Address for reports of children.  [default: any port]"
)
@click.option(
    "--data-port", type=click.IntRange(0, 65535), default=0, help="Port for traffic from parents.  [default: any]"
)
@click.option(
    "--advertise", default="", metavar="HOST", help="Host name or address that others use.  [default: detected]"
)
@click.option(
    "--control-name", default="", metavar="NAME:PORT", help="DNS name of all nodes of the tier, for children."
)
@click.option(
    "--state", type=StatePath, metavar="DIR", help="Directory of the last snapshot, for a start without a controller."
)
@click.option(
    "--handoff", type=StatePath, metavar="DIR", help="Directory where l4 nodes of this machine find this one."
)
@click.option(
    "--tls-certificate", default="", metavar="FILE", help="Certificate for the controller, parents and children."
)
@click.option("--tls-key", default="", metavar="FILE", help="Key of the certificate.")
@click.option("--tls-ca", default="", metavar="FILE", help="Authority that signed the certificates of the cluster.")
def node(tls_certificate: str, tls_key: str, tls_ca: str, **options: Any) -> None:
    """Run one node by itself. Without --token-file the token is read from the environment variable TIERLB_TOKEN.

    On several machines give --host, an address at which parents and children reach this one, or 0.0.0.0. Its control
    address also answers GET /readyz, /livez and /metrics.
    """
    from tierlb.cli.node import NodeOptions, start_node

    start_node(NodeOptions(tls=(tls_certificate, tls_key, tls_ca), **options))


@main.command()
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


@main.command()
@click.option("--pool", required=True, help="Pool to join; it has `agents: true`.")
@click.option(
    "--name", default="", help="Name that stays the same after a restart, such as app-1.  [default: POOL-HOSTNAME]"
)
@_joining_options
@click.option("--address", required=True, metavar="HOST:PORT", help="Address at which the application takes traffic.")
@click.option("--url", default="", help="URL of the application's counters: the reporter's JSON, or ORCA as JSON.")
@click.option("--pid", type=click.IntRange(1), help="Process whose CPU time is read.")
@click.option(
    "--cgroup", type=click.Path(path_type=Path), metavar="DIR", help="cgroup (v2) whose CPU time is read instead."
)
@click.option(
    "--cores", type=click.FloatRange(0), default=0.0, help="Number of cores it can use.  [default: its quota]"
)
@click.option(
    "--slots", type=click.IntRange(0), default=0, help="Number of requests that the application works on at a time."
)
@click.option(
    "--drain-time", default="10s", show_default=True, help="Longest wait for requests in progress after SIGTERM."
)
@click.option("--tls-certificate", default="", metavar="FILE", help="Certificate for the controller and parents.")
@click.option("--tls-key", default="", metavar="FILE", help="Key of the certificate.")
@click.option("--tls-ca", default="", metavar="FILE", help="Authority that signed the certificates of the cluster.")
def agent(tls_certificate: str, tls_key: str, tls_ca: str, **options: Any) -> None:
    """Report the load of an application beside this process.

    Where to join: --join-file is a directory with the files control-url and join-token. `tierlb up` writes them to
    .tierlb/CLUSTER in its working directory, readable for its own user only, at each start. With --join the token is
    read from a file, as printed by `tierlb token --role agent --pool POOL`.
    """
    from tierlb.cli.agent import AgentOptions, start_agent

    start_agent(AgentOptions(tls=(tls_certificate, tls_key, tls_ca), **options))


@main.command()
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


@main.command()
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


@main.command("demo-backend")
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
