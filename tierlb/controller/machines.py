"""What starts and stops the processes of a cluster, as changes use it.

`local/process_manager.py` does it on this machine. Where an engine does it, `elsewhere.py` replaces that.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from tierlb.model.topology import Tier, Topology


class Machines(Protocol):
    """All of it takes effect for the topology that is named, whatever is the desired one."""

    @property
    def replaces(self) -> bool:
        """Whether it can put a new process in the place of one."""

    def grow(self, topology: Topology) -> tuple[str, ...]:
        """Start what the topology needs and is not there; the names of the nodes that were started."""

    def needed(self, tier: Tier) -> int:
        """How many nodes of the tier have to be there."""

    def surplus(self, topology: Topology) -> tuple[str, ...]:
        """The nodes that the topology does not need."""

    async def stop_nodes(self, names: Iterable[str]) -> None:
        """Have them drain and end."""

    async def shrink(self, topology: Topology) -> None:
        """Stop endpoints that the topology does not need."""

    async def replace(self, topology: Topology, name: str) -> None:
        """Put a new process in the place of a node's; return when it serves."""

    async def wait_replaced(self) -> None:
        """Return when all replaced processes have ended."""

    def crashes(self, names: Collection[str]) -> int:
        """How often the process of one of these nodes has ended by itself, at most."""

    def problems(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """What is wrong with processes (of these nodes), each a phrase for a person."""
