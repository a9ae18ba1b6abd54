"""What a cluster that is not whole waits for, by tier and pool, as phrases for a person; and the log of a slow start.

Left out: how it is found out what a node lacks (controller.py).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from tierlb.channel.log import Log

LOG_AFTER_S = 2.0
"""An ordinary start takes about this long and needs no explanation."""
LOG_EVERY_S = 1.0
MOST_LACKS = 3
"""In one phrase; the others are counted."""


class Awaited(Protocol):
    """A cluster that starts."""

    def waiting(self) -> tuple[str, ...]:
        """Phrases as below; empty when everything is up."""


def tiers_awaited(tiers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """`web: 1 of 3 nodes serve; web-2 has not joined; web-3 has not joined` for each tier with a node that lacks
    something. `tiers`: for each node of a tier what it lacks, "" for nothing."""
    return tuple(_nodes_awaited(name, lacks) for name, lacks in tiers.items() if not lacks or any(lacks))


def pools_awaited(pools: Mapping[str, Sequence[bool]]) -> tuple[str, ...]:
    """`demo: 2 of 4 endpoints accept connections` for each pool with one that does not."""
    return tuple(
        f"{name}: {sum(accepts)} of {_number_of(len(accepts), 'endpoint')} accept connections"
        for name, accepts in pools.items()
        if not all(accepts)
    )


async def log_slow_start(cluster: Awaited, log: Log) -> None:
    """Log what is waited for until everything is up: after a moment, and then whenever it has changed."""
    await trio.sleep(LOG_AFTER_S)
    logged: tuple[str, ...] = ()
    while waiting := cluster.waiting():
        for phrase in (each for each in waiting if each not in logged):
            log.info("start_delayed", waiting_for=phrase)
        logged = waiting
        await trio.sleep(LOG_EVERY_S)


def _nodes_awaited(name: str, lacks: Sequence[str]) -> str:
    if not lacks:
        return f"{name}: no node has joined"
    lacking = [lack for lack in lacks if lack]
    more = [f"{len(lacking) - MOST_LACKS} more"] if len(lacking) > MOST_LACKS else []
    counted = f"{len(lacks) - len(lacking)} of {_number_of(len(lacks), 'node')} serve"
    return "; ".join((f"{name}: {counted}", *lacking[:MOST_LACKS], *more))


def _number_of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
