"""After a restart of the controller: how long nodes that serve are left as they are, until others are back.

The new controller has the topology and nothing else. A node that joins and served before goes on with its snapshot. It
gets no snapshot until the nodes next to it are back, or have had the time for it. Otherwise the first edge that
connects would be configured without any node below it.

Where membership is open, the number of nodes that will come back is unknown, so the time is extended while nodes
return. There a tier none of whose nodes has reconnected yet is unknown, not empty.
"""

from collections.abc import Callable, Collection, Iterable

import attrs
import trio

from tierlb.controller.join_rules import takes_agents
from tierlb.controller.node_record import NodeRecord
from tierlb.model.topology import Topology
from tierlb.topology.allot import reports_to

RETURN_S = 5.0
"""Nodes that are still there have reconnected within it: their longest back-off is 2 s (controller_link.py)."""
RETURN_MORE_S = 3.0
"""After each node that returns: nodes find out at different times that a machine is gone."""
RETURN_AT_MOST_S = 20.0


@attrs.define
class ReturnWindow:
    """The time in which nodes may return. It begins once, and each returning node may extend it."""

    _began_s: float = attrs.field(default=0.0, init=False)
    ends_s: float = attrs.field(default=0.0, init=False)
    _extended: trio.Event = attrs.field(factory=trio.Event, init=False)

    def begin(self, now: float) -> None:
        """The controller starts."""
        self._began_s, self.ends_s = now, now + RETURN_S

    def extend(self, now: float) -> None:
        """A node has returned; others may yet."""
        self.ends_s = max(self.ends_s, min(now + RETURN_MORE_S, self._began_s + RETURN_AT_MOST_S))
        self._extended.set()

    def is_over(self, now: float) -> bool:
        return now >= self.ends_s

    async def run(self, on_end: Callable[[], None]) -> None:
        """Call `on_end` whenever the time is over, for ever."""
        while True:
            await trio.sleep_until(self.ends_s)
            if self.is_over(trio.current_time()):  # it may have been extended meanwhile
                on_end()
                self._extended = trio.Event()
                await self._extended.wait()


def waits_for_neighbours(
    record: NodeRecord,
    topology: Topology,
    nodes: Iterable[NodeRecord],
    announced: Collection[str],
    *,
    is_open: bool,
    is_over: bool,
) -> bool:
    """Whether the node serves on as it is, because the nodes above and below it are not all back.

    `announced`: the tiers of which a node is back. `is_open`: membership is open. `is_over`: the window has ended.
    """
    if not record.served_before or record.assignment.parents is not None:
        return False
    above, below = reports_to(topology, record.tier), topology.tiers[record.tier].targets
    if is_over:
        return is_open and any(name in topology.tiers and name not in announced for name in below)
    if is_open or any(takes_agents(topology, name) for name in below):
        return True
    return any(
        other.hello is None or (other.tier in below and other.inner is None)
        for other in nodes
        if other.tier in above or other.tier in below
    )
