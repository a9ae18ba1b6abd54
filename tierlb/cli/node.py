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

from tierlb.cli.join import invitation_or_exit, own_name
from tierlb.cli.log import LazyLog
from tierlb.controlplane.node import LOOPBACK, Node, Placement, data_key, run_node
from tierlb.controlplane.uplink import Identity
from tierlb.dataplane.plane import Plane, Refused
from tierlb.model.address import Address, parse_address
from tierlb.model.topology import Tls
from tierlb.net.broker import Broker
from tierlb.net.descriptors import raise_limit
from tierlb.net.tls import TlsProblem, client_context
from tierlb.wire.frames import is_calling_place

COLLECT_AFTER_ALLOCATIONS = 50_000
"""Finished exchanges are freed by their reference counts; the collector is there for cycles after errors."""


@attrs.frozen
class NodeOptions:
    """The command's options as they were given; `tls` are certificate, key and CA, or three empty texts."""

    tier: str
    name: str = ""
    join: str = ""
    join_file: Path | None = None
    token_file: Path | None = None
    host: str = ""
    control_listen: str = ""
    data_port: int = 0
    advertise: str = ""
    control_name: str = ""
    state: Path | None = None
    tls: tuple[str, str, str] = ("", "", "")


def start_node(options: NodeOptions) -> None:
    """Run until SIGTERM."""
    raise_limit()
    invitation = invitation_or_exit(options.join, options.join_file, options.token_file)
    placement = _placement(options)
    name, tier = options.name or own_name(options.tier, socket.gethostname()), options.tier
    gc.set_threshold(COLLECT_AFTER_ALLOCATIONS, 20, 100)
    log = LazyLog({"node": name})
    identity = Identity(name, tier, invitation.url, invitation.token, secrets.token_hex(8), os.getpid())
    plane = Plane(name, log, data_key=data_key(invitation.token), boot_id=identity.boot_id, broker=Broker.inherited())
    node = Node(identity, plane, Refused, log, random.Random(), _tls(options.tls), placement, state=options.state)
    node.errors, node.losses = plane.errors, log.losses
    log.warm()  # a tenth of a second, which must not be missing later, when something happens under load
    gc.freeze()  # what is here now stays: the collector need not walk over it again
    trio.run(run_node, node)


def _placement(options: NodeOptions) -> Placement:
    host = _host("--host", options.host)
    control = _listen("--control-listen", options.control_listen) if options.control_listen else None
    if options.control_name and not is_calling_place(options.control_name):
        raise click.UsageError(
            f"--control-name: {options.control_name!r} is no name and port: write one such as web:7946"
        )
    return Placement(
        host=host,
        control=control or Address(host or LOOPBACK, 0),
        data_port=options.data_port,
        advertised=_host("--advertise", options.advertise),
        control_name=options.control_name,
    )


def _host(option: str, text: str) -> str:
    return _listen(option, f"[{text}]:0" if ":" in text else f"{text}:0").host if text else ""


def _listen(option: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def _tls(files: tuple[str, str, str]) -> Tls | None:
    if not any(files):
        return None
    if not all(files):
        raise click.UsageError("give --tls-certificate, --tls-key and --tls-ca together")
    tls = Tls(*files)
    try:
        client_context(tls)
    except TlsProblem as problem:
        raise click.UsageError(str(problem)) from problem
    return tls
