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

QUIET_AFTER_S = 2.0
"""By then the cluster that started this node serves, so an import delays nobody's start."""

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
    trio.run(_run, uplink, log)


async def _run(uplink: Uplink, log: LazyLog) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_warm, log)
        await run_node(uplink)
        nursery.cancel_scope.cancel()


async def _warm(log: LazyLog) -> None:
    await trio.sleep(QUIET_AFTER_S)
    await trio.to_thread.run_sync(log.warm)
    gc.freeze()  # what is here now stays: the collector need not walk over it again
