"""`tierlb node`: one node's process, from its arguments and the token in its environment."""

import gc
import os
import random
import secrets

import click
import trio

from tierlb.cli.log import LazyLog
from tierlb.controlplane.node import TOKEN_VARIABLE, Identity, Uplink, run_node
from tierlb.dataplane.plane import Plane, Refused

COLLECT_AFTER_ALLOCATIONS = 50_000
"""Finished exchanges are freed by their reference counts; the collector is there for cycles after errors."""


def start_node(name: str, tier: str, parent_url: str) -> None:
    """Run until SIGTERM."""
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token:
        raise click.UsageError(f"set {TOKEN_VARIABLE} to the join token of the parent")
    gc.set_threshold(COLLECT_AFTER_ALLOCATIONS, 20, 100)
    log = LazyLog({"node": name})
    rng = random.Random()
    identity = Identity(name, tier, parent_url, token, secrets.token_hex(8), os.getpid())
    uplink = Uplink(identity, Plane(name, log), Refused, log, rng)
    log.warm()  # a tenth of a second, which must not be missing later, when something happens under load
    gc.freeze()  # what is here now stays: the collector need not walk over it again
    trio.run(run_node, uplink)
