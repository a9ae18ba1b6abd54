"""The commands, their options and exit codes: 2 for wrong usage or a bad file, 1 for a failed operation.

Parsing only. Each command imports its machinery when it runs, so that a node does not load the tables, nor `--help`
either. A cluster has many processes that join it, so their commands are here; the other ones are imported when one of
them is asked for (commands.py, verbs.py), because the options of all take 2 MiB.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import tierlb
from tierlb.cli.paths import JoinPath, StatePath, TokenPath, TopologyPath
from tierlb.model.build import BUILD

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


def _joining_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which a process joins a cluster, the same for nodes and agents."""
    for option in reversed(_JOINING):
        command = option(command)
    return command


class _Commands(click.Group):
    """The commands here, and those of other modules where one of these or a list of all is asked for."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.commands:
            self._add_others()
        return super().get_command(context, name)

    def list_commands(self, context: click.Context) -> list[str]:
        self._add_others()
        return super().list_commands(context)

    def _add_others(self) -> None:
        from tierlb.cli.commands import ALL_COMMANDS

        for command in ALL_COMMANDS:
            self.add_command(command)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tierlb.__version__, prog_name="tierlb", message=f"%(prog)s, version %(version)s ({BUILD})")
def main() -> None:
    """A load balancer made to be stacked: load flows up, intent flows down."""


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
