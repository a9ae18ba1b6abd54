"""One destination of the current snapshot: the hosts that an item may go to, and the choice among them.

`choose` is the only thing that the hot path calls. What a choice needs is worked out beforehand, at every tick, with a
report and after an error: which hosts are available, and slope and offset of their costs (`balance.cost`).
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from tierlb.balance.availability import Availability, choosable, choosable_by_level, why_none
from tierlb.balance.capacity import stated_parts
from tierlb.balance.choosers import Chooser
from tierlb.balance.guidance import guide
from tierlb.balance.host_costs import refresh_costs
from tierlb.balance.load_aware import LoadAware
from tierlb.dataplane.upstream.host import NO_CAP, Dependent, Host
from tierlb.model.load import Guidance
from tierlb.model.snapshot import Destination

AT_ONCE_S: Final = 0.002
AT_ONCE_S_PER_HOST: Final = 0.0001
"""After an error the choice is made anew at once, but not more often than this: a burst of errors is one event. It
takes some 10 µs for each host, and clients that ask for what fails decide how many errors there are."""
SETTLE_S_PER_HOST: Final = 0.001
GUIDANCE_S: Final = 0.2


class HostSet(Dependent):
    """The hosts of one destination and how to choose among them. `sound`: some are available without the panic
    rule. `by_statements`: endpoints' own statements of capacity count in their weights. `_free`: there is a host to
    choose, and none of them has a cap. `shares`: where an item of this host set may go, the targets of all shares of
    its split; `_other` finds another of these shares that has a host which was not tried."""

    __slots__ = (
        "_free",
        "_guidance",
        "_guided_at",
        "_levels",
        "_other",
        "_settled_at",
        "available",
        "by_statements",
        "chooser",
        "destination",
        "hosts",
        "shares",
        "sound",
    )

    def __init__(
        self,
        destination: Destination,
        hosts: tuple[Host, ...],
        chooser: Chooser[Host],
        now: float,
        *,
        by_statements: bool = False,
    ) -> None:
        self.by_statements = by_statements
        self.destination = destination
        self.hosts = hosts
        self.chooser = chooser
        self.available = hosts
        self.sound = False
        self.shares: tuple[tuple[str, ...], ...] = (destination.targets,)
        self._other: Callable[[Collection[Host]], HostSet | None] | None = None
        self._free = False
        levels = [host.spec.level for host in hosts]
        self._levels = levels if any(levels) else None
        self._settled_at = 0.0
        self._guided_at = now - GUIDANCE_S
        self._guidance: dict[Host, Guidance] = {}
        self.settle(now)

    def choose(self, tried: Iterable[Host] = (), key: int = 0, long: bool = False) -> Host | None:
        """The host for the next item, or None if there is none that was not `tried` yet and has room. `long`: it
        will be parked soon, as most of its kind."""
        if self._free and not tried and not long:
            return self.chooser.pick(key)
        if long and isinstance(self.chooser, LoadAware):
            return self.chooser.for_long(self._left(tried))
        if not tried and self.available:
            chosen = self.chooser.pick(key)
            if chosen.in_flight < chosen.cap:
                return chosen
        left = self._left(tried)
        return self.chooser.among(left, key) if left else None

    def has_other(self, tried: Iterable[Host]) -> bool:
        """Whether `choose` would find one that was not `tried`."""
        return bool(self._left(tried))

    def join(self, shares: tuple[tuple[str, ...], ...], other: "Callable[[Collection[Host]], HostSet | None]") -> None:
        """It is one of these shares of a split."""
        self.shares, self._other = shares, other

    @property
    def is_share(self) -> bool:
        """Whether a split draws it."""
        return self._other is not None

    def of_other_share(self, tried: Collection[Host]) -> "HostSet | None":
        """The host set of another share of the same split that has a host which was not `tried`, if there is any."""
        return None if self._other is None else self._other(tried)

    def why_none(self) -> str:
        """Why `choose` finds no host, in words."""
        return why_none(", ".join(self.destination.targets), [_reason(host) for host in self.hosts])

    def _left(self, tried: Iterable[Host]) -> tuple[Host, ...]:
        """Those that are not available are no help while others are merely full."""
        left = tuple(c for c in self.available if c not in tried) or tuple(
            c for c in self.hosts if c not in tried and c.availability.usable_at_last
        )
        return tuple(c for c in left if c.in_flight < c.cap)

    def settle(self, now: float) -> None:
        """Work out all costs anew from what is known now."""
        self._settled_at = now
        estimates = [host.estimate for host in self.hosts]
        if self.by_statements:
            self._weigh(stated_parts([estimate.stated.value(now) for estimate in estimates]))
        usable = [host.availability is Availability.AVAILABLE for host in self.hosts]
        refresh_costs(self.hosts, now, [host.weight for host in self.hosts], usable)
        self.refresh()

    def _weigh(self, parts: list[float] | None) -> None:
        """Scale each host's weight by its part of the stated capacities; None: all alike."""
        for host, part in zip(self.hosts, parts or [1.0] * len(self.hosts), strict=True):
            host.weigh(part)

    def guidance(self, host: Host, now: float) -> Guidance | None:
        """The guidance for one of the hosts, None if it does not report; computed for all of them at once."""
        if now - self._guided_at >= GUIDANCE_S:
            self._guided_at = now
            reporting = [
                (each, child)
                for each in self.available
                if (child := each.estimate.as_child(each.in_flight)) is not None
            ]
            guidance = guide([child for _, child in reporting])
            self._guidance = {host: own for (host, _), own in zip(reporting, guidance, strict=True)}
        return self._guidance.get(host)

    def settle_in_turn(self, now: float) -> None:
        """With a tick. The costs of a large host set take as long as a hundred requests: some ticks skip it."""
        if now - self._settled_at >= SETTLE_S_PER_HOST * len(self.hosts):
            self.settle(now)

    def settle_at_once(self, now: float) -> None:
        if now - self._settled_at >= max(AT_ONCE_S, AT_ONCE_S_PER_HOST * len(self.hosts)):
            self.settle(now)

    def refresh(self) -> None:
        """Work out again which hosts are available."""
        states = [host.availability for host in self.hosts]
        ready = choosable(states) if self._levels is None else choosable_by_level(states, self._levels)
        self.available = tuple(self.hosts[index] for index in ready)
        self.sound = any(each.availability is Availability.AVAILABLE for each in self.available)
        self._free = bool(self.available) and all(each.cap == NO_CAP for each in self.available)
        if self.available:
            self.chooser.rebuild(self.available)


def _reason(host: Host) -> str:
    """Why a host is not chosen when none is."""
    if host.availability.usable_at_last and host.in_flight >= host.cap:
        return "full"
    return "tried" if host.availability is Availability.AVAILABLE else host.availability.value
