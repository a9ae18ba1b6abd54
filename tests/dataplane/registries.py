"""A registry on a reactor that only the test drives, in time that only the test passes."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.balance.begun import begun
from tests.dataplane.conftest import snapshot
from tierlb.balance.outlier import HostFault
from tierlb.balance.ticket import ConnectionTicket, Ticket
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec
from tierlb.model.topology import Kind, Policy
from tierlb.net.reactor import Reactor
from tierlb.telemetry.tally import Tally


class Harness:
    """`changes` is the events of its endpoints, `crashes` what went wrong on a deadline."""

    def __init__(self, before_tick: Callable[[float], float] = lambda now: math.inf) -> None:
        self.changes: list[tuple[str, str]] = []
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.registry = HostRegistry(
            self.reactor,
            random.Random(1),
            lambda event, host: self.changes.append((event, host.spec.name)),
            before_tick=before_tick,
        )

    def host_set(self, *endpoints: str | HostSpec, **options: Any) -> HostSet:
        (host_set,) = self.host_sets(destination(*endpoints), **options)
        return host_set

    def host_sets(self, *destinations: Destination, kind: Kind = Kind.L7, **options: Any) -> list[HostSet]:
        options.setdefault("balance", Policy.LEAST_REQUESTS)
        return self.registry.rebuild_host_sets(destinations, snapshot(kind, **options))

    def pass_time(self, seconds: float) -> None:
        """The reactor's clock goes on, and with it whatever is due there; the registry does not tick."""
        self.reactor.now += seconds
        self.reactor.wheel.advance(self.reactor.now)

    def tick(self, after_s: float = 0.05, times: int = 1) -> None:
        for _ in range(times):
            self.pass_time(after_s)
            self.registry.tick(self.reactor.now)

    def report(self, name: str, echo: Echo | None = None, **load: Any) -> None:
        """A child's report comes; the lines are drawn anew."""
        self.registry.note_report(name, SubtreeLoad(**load), echo or Echo())
        for host_set in self.registry.host_sets:
            host_set.settle(self.reactor.now)

    def serve(self, host: Host, count: int, each_s: float) -> None:
        """So many items, one after the other."""
        for _ in range(count):
            item = self.begins(host)
            self.pass_time(each_s)
            item.answered(self.reactor.now, 0)
            item.sent = 0.0  # nothing is learnt of slots
            item.done(self.reactor.now)

    def begins(self, host: Host, *, long: bool = False) -> Ticket[Host]:
        """An item of the only kind there is. The host owes its answer from now on."""
        return begun(host, self.reactor.now, long=long)

    def connects(self, host: Host) -> ConnectionTicket[Host]:
        """A connection through this node."""
        return host.begin_connection(self.reactor.now, Tally())

    def errs(self, host: Host, fault: HostFault = HostFault.GATEWAY) -> None:
        """An item that is counted already was an error."""
        host.blame(self.reactor.now, fault)


class Rebuilds:
    """In the place of a host set's chooser, and chooses like it: notes when it is rebuilt, or fails at that."""

    def __init__(self, harness: Harness, host_set: HostSet, *, fails: bool = False) -> None:
        self.times: list[float] = []
        self._harness = harness
        self._chooser = host_set.chooser
        self._fails = fails
        host_set.chooser = self

    def rebuild(self, hosts: Sequence[Host]) -> None:
        self.times.append(self._harness.reactor.now)
        if self._fails:
            raise ValueError
        self._chooser.rebuild(hosts)

    def pick(self, key: int) -> Host:
        return self._chooser.pick(key)

    def among(self, hosts: Sequence[Host], key: int) -> Host:
        return self._chooser.among(hosts, key)


def host_spec(name: str, target: str = "app", **says: Any) -> HostSpec:
    return HostSpec(name, target, Address("127.0.0.1", 1), **says)


def child(name: str, target: str = "web", **says: Any) -> HostSpec:
    return host_spec(name, target, child=True, reports=True, **says)


def destination(*endpoints: str | HostSpec, weight: float = 1) -> Destination:
    made = tuple(each if isinstance(each, HostSpec) else host_spec(each) for each in endpoints)
    return Destination(weight, ("app",), made)


def by_name(host_set: HostSet) -> dict[str, Host]:
    return {host.name: host for host in host_set.hosts}


def available(host_set: HostSet) -> list[str]:
    return [host.name for host in host_set.available]


def chosen(host_set: HostSet, count: int, key: int = 0) -> list[str]:
    """Of so many items that are over as soon as they have begun."""
    return [host.name for host in (host_set.choose((), key) for _ in range(count)) if host is not None]
