"""Endpoints in maintenance: what is still under way there is cut when the drain time is over.

A node in maintenance cuts its connections itself. An endpoint is not informed, so the nodes that send there do it.
"""

from collections.abc import Iterable

from tierlb.dataplane.upstream.host import Host
from tierlb.model.topology import Admin
from tierlb.net.wheel import NEVER


class Maintenance:
    """`note` with each snapshot, `due` at the `deadline`."""

    def __init__(self) -> None:
        self._since: dict[Host, float] = {}

    def note(self, hosts: Iterable[Host], now: float) -> None:
        """These are the hosts now."""
        out = (each for each in hosts if each.spec.admin is Admin.MAINTENANCE and not each.spec.child)
        self._since = {each: self._since.get(each, now) for each in out}

    def due(self, now: float, drain_s: float) -> list[Host]:
        """Those whose time is over and that have something under way."""
        return [each for each, since in self._since.items() if each.in_flight and now >= since + drain_s]

    def deadline(self, drain_s: float) -> float:
        """When the first is due, as far as they have something under way now."""
        return min((since + drain_s for each, since in self._since.items() if each.in_flight), default=NEVER)
