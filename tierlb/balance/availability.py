"""Whether a host may be used: a pure function of what was observed of it and of its admin state.

The inputs come from different sources. Active checks, and a child without a ready leaf, decide *healthy*; failed
connects *eject*; a node that stops reporting is *silent*; a new one that has not reported yet is *awaited*; operators
and the host itself set *drain* or *maintenance*.

Observation can be wrong about many hosts at once, intent cannot. When fewer than half of the hosts of a host set are
available, ejection, silence and health are therefore ignored (Envoy's panic threshold), while the admin state always
applies. Hosts that have not reported yet are excluded from that ratio, so that a burst of newcomers cannot trigger it.

A host of weight 0 is also out on purpose: no policy, table or panic rule sends anything new to it. Only this module
decides that, and choosers only get hosts with a weight above zero. `why_none` explains why a host set has no host to
choose.
"""

import enum
from collections import Counter
from collections.abc import Sequence

from tierlb.model.topology import Admin

PANIC_BELOW = 0.5
"""Of the hosts that were not taken out on purpose."""


class Availability(enum.Enum):
    """The values appear in status and logs."""

    AVAILABLE = "available"
    EJECTED = "ejected"
    UNHEALTHY = "unhealthy"
    SILENT = "silent"
    AWAITED = "awaited"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    WEIGHTLESS = "weight 0"

    @property
    def usable_at_last(self) -> bool:
        """Whether it may be tried when no better host is left: it was not taken out on purpose."""
        return self not in (Availability.DRAINING, Availability.MAINTENANCE, Availability.WEIGHTLESS)


def availability_of(
    healthy: bool | None,
    admin: Admin,
    ejected: bool,
    leaving: bool = False,
    silent: bool = False,
    awaited: bool = False,
    weight: float = 1.0,
) -> Availability:
    """`healthy` is None while no active check has decided. `leaving`: the host reports that it drains. `silent`: a node
    that used to report no longer does. `awaited`: a new node that will report. `weight`: the product of those in the
    file, by operators and by its agent."""
    if admin is Admin.MAINTENANCE:
        return Availability.MAINTENANCE
    if leaving or admin is Admin.DRAIN:
        return Availability.DRAINING
    if not weight > 0:
        return Availability.WEIGHTLESS
    if healthy is False:
        return Availability.UNHEALTHY
    if ejected:
        return Availability.EJECTED
    if awaited:
        return Availability.AWAITED
    return Availability.SILENT if silent else Availability.AVAILABLE


def choosable(hosts: Sequence[Availability]) -> list[int]:
    """The positions to choose from. Empty if and only if all hosts are out on purpose."""
    wanted = [index for index, host in enumerate(hosts) if host.usable_at_last]
    ready = [index for index in wanted if hosts[index] is Availability.AVAILABLE]
    known = [index for index in wanted if hosts[index] is not Availability.AWAITED]
    if not ready:
        return wanted
    return ready if len(ready) >= PANIC_BELOW * len(known) else known


def choosable_by_level(hosts: Sequence[Availability], levels: Sequence[int]) -> list[int]:
    """The same where some hosts are in reserve: those of the lowest level that has an available host. Where none has,
    those of the lowest level with hosts that may be tried at last."""
    at_last: list[int] = []
    for level in sorted(set(levels)):
        own = [index for index, each in enumerate(levels) if each == level]
        chosen = [own[index] for index in choosable([hosts[index] for index in own])]
        if any(hosts[index] is Availability.AVAILABLE for index in chosen):
            return chosen
        at_last = at_last or chosen
    return at_last


WORDS = {
    "weight 0": "has weight 0",
    "draining": "is draining",
    "maintenance": "is in maintenance",
    "full": "is at the maxconn that its agent set",
    "tried": "was tried",
}
"""Why one host gets no more items, and the phrase for all hosts."""


def why_none(name: str, reasons: Sequence[str]) -> str:
    """Why no host of `name` can be chosen, in words. The reason of each host is one of `WORDS` or its availability."""
    counts = Counter(reasons)
    if not counts:
        return f"{name} has no member"
    if len(counts) == 1:
        return f"every host of {name} {WORDS.get(reasons[0]) or 'is ' + reasons[0]}"
    return f"no host of {name} can be used: " + ", ".join(f"{count} {reason}" for reason, count in counts.items())
