"""Which hosts do the same work, and what is known of that work by all of them together.

Endpoints of a pool do the same work, and so do nodes that an l4 node gives the same connections to, since each of them
serves any. What one of them shows of the work (how long items usually take) is known of all.
"""

from collections.abc import Iterable

from tierlb.balance.pool_work import Work
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.topology import Kind

WorkKey = tuple[str, ...]
"""The targets whose hosts do the same work."""


class SharedWork:
    """`siblings` are the hosts of a node by the work that they do."""

    def __init__(self) -> None:
        self.siblings: list[list[Host]] = []
        self._work: dict[WorkKey, Work] = {}
        self._left_s: dict[str, float] = {}
        """Work of hosts that have left, by target: it stays part of the target's cumulative sum."""

    def regroup(self, hosts: Iterable[Host], host_sets: Iterable[HostSet], kind: Kind) -> None:
        """These are the hosts of a new snapshot. Where hosts of one kind of work are parted, one part begins anew."""
        siblings: dict[WorkKey, list[Host]] = {}
        for host in hosts:
            siblings.setdefault(_work_of(host.spec.target, host_sets, kind), []).append(host)
        work = {key: self._work[key] for key in siblings if key in self._work}
        for key, group in siblings.items():
            if key not in work:
                known = group[0].estimate.speed.work
                work[key] = Work() if any(known is each for each in work.values()) else known
            for host in group:
                host.estimate.speed.work = work[key]
        self._work, self.siblings = work, list(siblings.values())
        targets = {host.spec.target for group in self.siblings for host in group}
        self._left_s = {target: left_s for target, left_s in self._left_s.items() if target in targets}

    def leave(self, host: Host) -> None:
        """The host is in no snapshot any more."""
        target = host.spec.target
        self._left_s[target] = self._left_s.get(target, 0.0) + host.estimate.speed.work_done_s

    def done_s(self) -> dict[str, float]:
        """The work done since the start, by target."""
        done_s: dict[str, float] = {}
        for group in self.siblings:
            for host in group:
                target = host.spec.target
                before_s = done_s.get(target, self._left_s.get(target, 0.0))
                done_s[target] = before_s + host.estimate.speed.work_done_s
        return done_s


def _work_of(target: str, host_sets: Iterable[HostSet], kind: Kind) -> WorkKey:
    if kind is Kind.L4:
        for host_set in host_sets:
            if target in host_set.destination.targets:
                return host_set.destination.targets
    return (target,)
