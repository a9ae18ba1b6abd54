"""What forwarding by the kernel needs of the front, over TCP and UDP."""

from typing import Any, Protocol

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l4.config import L4Config
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.net.reactor import Reactor


class KernelContext(Protocol):
    """A front."""

    name: str
    reactor: Reactor
    log: Any
    counters: Counters
    registry: HostRegistry
    config: L4Config

    @property
    def draining(self) -> bool: ...
