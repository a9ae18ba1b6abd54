"""Which addresses belong to the networks that a listener accepts from."""

import ipaddress
from collections.abc import Iterable

from tierlb.wire.memo import Memo

KNOWN_BUDGET_BYTES = 128 * 1024
"""Of addresses that were compared, so that a known one costs a look-up."""


class AcceptedNetworks:
    """AcceptedNetworks in CIDR form; without any, every address is accepted."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(text) for text in networks)
        self._known: Memo[bool] = Memo(KNOWN_BUDGET_BYTES)

    def accept(self, host: str) -> bool:
        """Whether the address is in one of them."""
        if not self._networks:
            return True
        key = host.encode()
        accepted = self._known.kept.get(key)
        if accepted is None:
            address = ipaddress.ip_address(host.partition("%")[0])
            accepted = any(address in network for network in self._networks)
            self._known.offer(key, accepted, 0)
        return accepted
