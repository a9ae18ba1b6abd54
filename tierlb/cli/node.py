"""`tierlb node`: one node's process, from its arguments."""

import gc
import os
import random
import secrets
import socket
from pathlib import Path

import attrs
import click
import trio

from tierlb.channel.controller_link import Identity
from tierlb.channel.log import Log
from tierlb.cli.join import cluster_tls, join_credentials_or_exit, own_name
from tierlb.cli.log import LazyLog
from tierlb.cli.tokens import credential_or_exit, warn_of_root
from tierlb.dataplane.plane import Plane, Refused
from tierlb.model.address import Address, parse_address
from tierlb.net.broker import Broker
from tierlb.net.descriptors import raise_limit
from tierlb.net.meeting_place import NOT_GIVEN, MeetingPlace
from tierlb.node.configuration import Configuration
from tierlb.node.pinning import Pinning
from tierlb.node.placement import LOOPBACK, Placement
from tierlb.node.process import Node, run_node
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.allot import number_of
from tierlb.wire.credentials import Principal, Role, parse_credential
from tierlb.wire.frame_fields import is_calling_place

COLLECT_AFTER_ALLOCATIONS = 50_000
"""Finished exchanges are freed by their reference counts; the collector is only needed for cycles after errors."""


@attrs.frozen
class NodeOptions:
    """The command's options as they were given; `tls` are certificate, key and CA, or three empty texts."""

    tier: str
    name: str = ""
    join: str = ""
    join_file: Path | None = None
    token_file: Path | None = None
    token_fd: int | None = None
    host: str = ""
    control_listen: str = ""
    data_port: int = 0
    advertise: str = ""
    control_name: str = ""
    state: Path | None = None
    handoff: Path | None = None
    tls: tuple[str, str, str] = ("", "", "")


def start_node(options: NodeOptions) -> None:
    """Run until SIGTERM."""
    raise_limit()
    name, tier = options.name or own_name(options.tier, socket.gethostname()), options.tier
    log = LazyLog({"node": name})
    broker = Broker.inherited()
    if broker is not None:
        identity = _started_here(broker, Principal(Role.NODE, tier, name), options.join)
    else:
        identity = _joining(options, Principal(Role.NODE, tier, name), log)
    placement = _placement(options)
    gc.set_threshold(COLLECT_AFTER_ALLOCATIONS, 20, 100)
    errors = InternalErrors(log)
    tls = cluster_tls(options.tls, log)
    place, why_none = meeting_place(options.handoff, log)
    plane = Plane(
        name,
        log,
        boot_id=identity.boot_id,
        broker=broker,
        errors=errors,
        meeting_place=place,
        why_none=why_none,
        cluster_tls=tls,
    )
    rng = random.Random()
    pinning = Pinning(number_of(name) if broker is not None else None, log)
    configuration = Configuration(plane, Refused, log, errors, placement, pin=pinning.apply)
    node = Node(identity, plane, configuration, log, rng, tls, options.state)
    log.warm()  # on a terminal it takes a tenth of a second, which would delay traffic later
    gc.freeze()  # these objects stay: the collector need not visit them again
    trio.run(run_node, node)


def _started_here(broker: Broker, principal: Principal, url: str) -> Identity:
    """The options of a process of `tierlb up`, whose name and tier come from its supervisor."""
    credential, reception = broker.introduction()
    given = parse_credential(credential)
    if given is None or not principal.covers(given.principal):
        raise click.ClickException("the supervisor sent no credential of this node: it is another version of tierlb")
    process = given.principal.process
    return Identity(principal.name, principal.group, url, credential, process, os.getpid(), receptions=(reception,))


def _joining(options: NodeOptions, principal: Principal, log: Log) -> Identity:
    """The options of a node that `tierlb up` does not start."""
    join_credentials = join_credentials_or_exit(
        options.join, options.join_file, options.token_file, options.token_fd, principal.role
    )
    credential, is_root = credential_or_exit(join_credentials.token, principal)
    receptions = (credential.reception, *_of_the_tier(join_credentials.token, principal, options.control_name))
    if join_credentials.exposed:
        log.warning("token_exposed", reason=join_credentials.exposed)
    if is_root:
        warn_of_root(log, principal)
    joins = (principal.name, principal.group, join_credentials.url, credential.text)
    return Identity(*joins, secrets.token_hex(8), os.getpid(), receptions=receptions)


def _of_the_tier(token: str, principal: Principal, control_name: str) -> tuple[bytes, ...]:
    """The reception key of all nodes of the tier, for children that find this one by a name of all."""
    try:
        return (credential_or_exit(token, Principal(principal.role, principal.group))[0].reception,)
    except click.UsageError:
        if not control_name:
            return ()
        raise click.UsageError(
            f"--control-name stands for all nodes of the tier, so the token has to be for the tier: have `tierlb token "
            f"--role node --tier {principal.group}` print one, without --name"
        ) from None


def _placement(options: NodeOptions) -> Placement:
    host = _announced_host("--host", options.host)
    control = _listen("--control-listen", options.control_listen) if options.control_listen else None
    if options.control_name and not is_calling_place(options.control_name):
        raise click.UsageError(
            f"--control-name: {options.control_name!r} is no name and port: write one such as web:7946"
        )
    return Placement(
        host=host,
        control=control or Address(host or LOOPBACK, 0),
        data_port=options.data_port,
        advertised=_announced_host("--advertise", options.advertise),
        control_name=options.control_name,
    )


def meeting_place(directory: Path | None, log: Log) -> tuple[MeetingPlace | None, str]:
    """Where to meet the other nodes of this machine, or why there is none. Then no connection is handed over."""
    if directory is None:
        return None, NOT_GIVEN
    try:
        return MeetingPlace(directory), ""
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        reason = f"there is no {directory}: make it with mkdir -m 700" if is_missing else str(error)
        log.warning(
            "handoff_unavailable",
            reason=reason,
            action="connections are relayed; under 'forward: handoff' they are refused",
        )
        return None, f"the directory that --handoff names cannot be used ({reason})"


def _announced_host(option: str, text: str) -> str:
    return _listen(option, f"[{text}]:0" if ":" in text else f"{text}:0").host if text else ""


def _listen(option: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error
