"""`tierlb node`: one node's process, from its arguments."""

import gc
import os
import random
import secrets
from pathlib import Path

import click
import trio

from tierlb.cli.log import LazyLog
from tierlb.controlplane.invitation import Invitation
from tierlb.controlplane.node import Node, data_key, run_node
from tierlb.controlplane.uplink import Identity
from tierlb.dataplane.plane import Plane, Refused
from tierlb.model.address import Address, parse_address
from tierlb.model.topology import Tls
from tierlb.net.broker import Broker
from tierlb.net.tls import TlsProblem, client_context

COLLECT_AFTER_ALLOCATIONS = 50_000
"""Finished exchanges are freed by their reference counts; the collector is there for cycles after errors."""


def start_node(
    name: str,
    tier: str,
    invitation: Invitation,
    control_listen: str,
    tls_files: tuple[str, str, str],
    state: Path | None = None,
) -> None:
    """Run until SIGTERM. `tls_files` are certificate, key and CA, or three empty texts."""
    gc.set_threshold(COLLECT_AFTER_ALLOCATIONS, 20, 100)
    log = LazyLog({"node": name})
    identity = Identity(name, tier, invitation.url, invitation.token, secrets.token_hex(8), os.getpid())
    plane = Plane(name, log, data_key=data_key(invitation.token), boot_id=identity.boot_id, broker=Broker.inherited())
    node = Node(identity, plane, Refused, log, random.Random(), _tls(tls_files), _listen(control_listen), state=state)
    log.warm()  # a tenth of a second, which must not be missing later, when something happens under load
    gc.freeze()  # what is here now stays: the collector need not walk over it again
    trio.run(run_node, node)


def _listen(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"--control-listen: {error}") from error


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
