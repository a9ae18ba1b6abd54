"""What a change waits for while nodes drain, in words: `3 requests and 1 tunnel on web-2`.

From the rows that nodes send while a client of the admin API watches. A node that has no row to send, or ends at once,
is not named.
"""

from collections.abc import Iterable, Sequence

import trio

from tierlb.controller.controller import Controller
from tierlb.controller.progress import Progress
from tierlb.model.load import NodeLoad
from tierlb.model.topology import Kind

TELL_EVERY_S = 3.0
"""How often what is waited for is noted again, if it has changed."""


async def note_what_drains(controller: Controller, progress: Progress, names: Sequence[str]) -> None:
    """Note in the progress what these nodes still have to finish, until cancelled."""
    tiers = {name: controller.topology.tiers.get(controller.registry.tier_of(name)) for name in names}
    until = trio.current_time() + max((tier.drain_s for tier in tiers.values() if tier is not None), default=0.0)
    noted = ""
    with controller.errors.barrier("words about what drains"):
        while True:
            controller.observer.watch(2 * TELL_EVERY_S)
            await trio.sleep(TELL_EVERY_S)
            records = ((controller.registry.records.get(name), tier) for name, tier in tiers.items())
            what = waiting_for(
                (record.name, tier.kind, record.reports.row.own)
                for record, tier in records
                if tier is not None and record is not None and record.reports.row is not None
            )
            if what and what != noted:
                progress.add(f"waiting for {what}, {max(0.0, until - trio.current_time()):.0f} s left")
            noted = what


def under_way(kind: Kind, load: NodeLoad) -> str:
    """What a node has still to finish; "" for nothing."""
    if kind is Kind.L4:
        return _counts_in_words([(load.connections, "connection")])
    requests = max(0, load.in_flight - load.tunnels)
    return _counts_in_words([(requests, "request"), (load.tunnels, "tunnel")])


def waiting_for(nodes: Iterable[tuple[str, Kind, NodeLoad]]) -> str:
    """The same for several nodes; "" while nothing is known to be waited for."""
    return ", ".join(f"{what} on {name}" for name, kind, load in nodes if (what := under_way(kind, load)))


def _counts_in_words(counts: Iterable[tuple[int, str]]) -> str:
    return " and ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count)
