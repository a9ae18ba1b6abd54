"""Where a front has the forwarding by the kernel, which is imported when a snapshot asks for it for the first time."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from tierlb.dataplane.l4.kernel.context import KernelContext
from tierlb.dataplane.upstream.host import Host
from tierlb.model.address import Address
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Forwarding

if TYPE_CHECKING:
    from tierlb.dataplane.l4.kernel.forwarding import KernelForwarding


class KernelSeat:
    """Empty at nodes that never forward by the kernel."""

    def __init__(self, context: KernelContext) -> None:
        self._context = context
        self._forwarding: KernelForwarding | None = None
        self._wanted = trio.Event()
        self._is_wanted = False

    def follow(self, snapshot: Snapshot, hosts: Iterable[Host]) -> None:
        """A new snapshot, and the hosts of all its destinations."""
        self._is_wanted = snapshot.forward is Forwarding.NFTABLES
        if self._is_wanted:
            self._taken().follow(snapshot, hosts)
        elif self._forwarding is not None:
            self._forwarding.leave()

    def _taken(self) -> "KernelForwarding":
        if self._forwarding is None:
            from tierlb.dataplane.l4.kernel.forwarding import KernelForwarding

            self._forwarding = KernelForwarding(self._context)
            self._wanted.set()
        return self._forwarding

    def listen(self, addresses: tuple[Address, ...]) -> None:
        """Clients connect to these."""
        if self._forwarding is not None:
            self._forwarding.listen(addresses)

    def look(self) -> None:
        """With every tick."""
        if self._forwarding is not None:
            self._forwarding.look()

    @property
    def is_idle(self) -> bool:
        """Whether the kernel forwards no connection, and takes none."""
        return self._forwarding is None or self._forwarding.is_idle

    @property
    def lacks(self) -> tuple[str, ...]:
        """What keeps the kernel from forwarding, in sentences for an operator."""
        return () if self._forwarding is None else self._forwarding.lacks

    @property
    def forwards(self) -> bool:
        """Whether the kernel takes new connections, as the tier wants it."""
        return self._is_wanted and not self.lacks

    def cut_from(self, host: Host) -> int:
        """End what the kernel forwards to one host; how many connections that were."""
        return 0 if self._forwarding is None else self._forwarding.cut_from(host)

    def cut(self) -> None:
        """End all that the kernel forwards."""
        if self._forwarding is not None:
            self._forwarding.cut()

    async def run(self) -> None:
        """Beside the reactor, for as long as the node serves."""
        await self._wanted.wait()
        await self._taken().run()
