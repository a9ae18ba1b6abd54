"""`tierlb agent`: the agent's process, from its arguments."""

import os
import random
import secrets
import socket
from pathlib import Path

import attrs
import click
import trio

from tierlb.agent.cpu import CgroupMeter, Gone, ProcessMeter
from tierlb.agent.fetch import Url, parse_url
from tierlb.agent.leaf import Leaf
from tierlb.agent.sidecar import Sidecar, make_meter, run_agent
from tierlb.channel.controller_link import Identity
from tierlb.channel.uplink import Uplink
from tierlb.cli.join import cluster_tls, join_credentials_or_exit, own_name
from tierlb.cli.log import LazyLog
from tierlb.cli.tokens import credential_or_exit, warn_of_root
from tierlb.model.address import parse_address
from tierlb.topology.units import parse_duration_s
from tierlb.wire.credentials import Principal, Role


@attrs.frozen
class AgentOptions:
    """The command's options as they were given."""

    pool: str
    address: str
    name: str = ""
    join: str = ""
    join_file: Path | None = None
    token_file: Path | None = None
    token_fd: int | None = None
    url: str = ""
    pid: int | None = None
    cgroup: Path | None = None
    slots: int = 0
    cores: float = 0.0
    drain_time: str = "10s"
    tls: tuple[str, str, str] = ("", "", "")


def start_agent(options: AgentOptions) -> None:
    """Run until SIGTERM."""
    join_credentials = join_credentials_or_exit(options.join, options.join_file, options.token_file, options.token_fd)
    options = attrs.evolve(options, name=options.name or own_name(options.pool, socket.gethostname()))
    if options.slots and not options.url:
        raise click.UsageError("--slots goes with --url: without counts from the app nothing follows from it")
    principal = Principal(Role.AGENT, options.pool, options.name)
    credential, is_root = credential_or_exit(join_credentials.token, principal)
    url, meter, drain_time_s, identity = (
        _counters_url(options),
        _meter(options),
        _drain_time_s(options),
        _agent_identity(options, join_credentials.url, credential.text),
    )
    log = LazyLog({"agent": options.name})
    if join_credentials.exposed:
        log.warning("token_exposed", reason=join_credentials.exposed)
    if is_root:
        warn_of_root(log, principal)
    leaf = Leaf(asked=url is not None, metered=meter is not None, slots=options.slots)
    sidecar = Sidecar(options.name, options.pool, log, leaf, url, meter)
    tls = cluster_tls(options.tls, log)
    if tls is not None:
        identity = attrs.evolve(identity, tls=tls.control_client)
    uplink = Uplink(identity, sidecar, log, random.Random())
    log.warm()
    trio.run(run_agent, sidecar, uplink, drain_time_s, tls)


def _agent_identity(options: AgentOptions, controllers: str, token: str) -> Identity:
    try:
        data = str(parse_address(options.address))
    except ValueError as error:
        raise click.UsageError(f"--address: {error}") from error
    joins = (options.name, options.pool, controllers, token)
    return Identity(*joins, secrets.token_hex(8), os.getpid(), data=data)


def _counters_url(options: AgentOptions) -> Url | None:
    try:
        return parse_url(options.url) if options.url else None
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from error


def _meter(options: AgentOptions) -> ProcessMeter | CgroupMeter | None:
    if options.pid is not None and options.cgroup is not None:
        raise click.UsageError("give --pid or --cgroup, not both")
    if options.cores and options.pid is None and options.cgroup is None:
        raise click.UsageError("--cores goes with --pid or --cgroup: without a meter no use of cores is reported")
    try:
        return make_meter(options.pid, options.cgroup, options.cores)
    except Gone as problem:
        raise click.ClickException(str(problem)) from problem


def _drain_time_s(options: AgentOptions) -> float:
    try:
        return parse_duration_s(options.drain_time)
    except ValueError as error:
        raise click.UsageError(f"--drain-time: {error}") from error
