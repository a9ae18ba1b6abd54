"""Walks over the connections that the kernel tracks: to count those of this node, or to end some."""

from collections.abc import Callable, Sequence

from tierlb.model.address import Address
from tierlb.net.netfilter import dump_netlink, send_netlink
from tierlb.wire.conntrack import Census, Flow, ask_connections, deletions
from tierlb.wire.netlink import IPV4, IPV6


class Walks:
    """For connections to `listens` that have the label. `cpu_s`: what the last count took of the processor."""

    def __init__(self, label: int, protocol: str, listens: Sequence[Address]) -> None:
        self._label = label
        self.cpu_s = 0.0
        self._asks = {(IPV6 if ":" in address.host else IPV4, address.port): protocol for address in listens}

    async def count(self) -> tuple[dict[Flow, int], dict[bytes, Flow]] | None:
        """How many there are of each flow, and those whose host has not answered; None if the kernel did not tell."""
        flows: dict[Flow, int] = {}
        opening: dict[bytes, Flow] = {}
        self.cpu_s = 0.0
        for (family, port), protocol in self._asks.items():
            census = Census(family, self._label)
            dumped = await dump_netlink(ask_connections(family, protocol, port), census.take)
            self.cpu_s += dumped.cpu_s
            if dumped.code:
                return None
            flows |= census.flows()
            opening |= census.opening()
        return flows, opening

    async def end(self, unwanted: Callable[[Flow], bool]) -> None:
        """Have the kernel forget those: what comes of them then is for no connection, and is answered by a reset."""
        for (family, port), protocol in self._asks.items():

            def take(portion: bytes, family: int = family) -> None:
                requests = deletions(portion, family, self._label, unwanted)
                if requests:
                    send_netlink(requests)

            await dump_netlink(ask_connections(family, protocol, port), take)
