"""Whether a host may be sent to: a pure function of what was observed of it and of what an operator wants.

They are kept apart by those who know them: active checks say *healthy*, a child without a ready leaf is not, failed
connects *eject*, a node that stops reporting is *silent*, one that has just come and said nothing yet is *awaited*,
people and the host itself say *drain* or *maintenance*.
Observation can be wrong about many hosts at once, intent cannot: when fewer than half of a group's hosts are
available, ejection, silence and health are no longer believed (the panic rule of Envoy), admin state always is. Who is
awaited is not among those hosts: many may come at once, and those that were there do as well as before.

A host of weight 0 is out on purpose too: no policy, table or panic rule sends it anything new. This module alone says
so, and choosers only ever get hosts above zero. `why_none` says in words why a group has no host to choose.
"""

import enum
from collections import Counter
from collections.abc import Sequence

from tierlb.model.topology import Admin

PANIC_BELOW = 0.5
"""Of the hosts that nobody took out on purpose."""


class Availability(enum.Enum):
    """The values are words for people."""

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
        """Whether it may be tried when nothing better is left: nobody took it out on purpose."""
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
    """`healthy` is None while no active check has decided; `leaving`: the host reports that it drains; `silent`: a
    node that used to report does not; `awaited`: one that has just come will. `weight`: what the file, an operator and
    its agent make of it together."""
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
    """The positions in a group to choose from. Empty if and only if all are out on purpose."""
    wanted = [index for index, host in enumerate(hosts) if host.usable_at_last]
    ready = [index for index in wanted if hosts[index] is Availability.AVAILABLE]
    known = [index for index in wanted if hosts[index] is not Availability.AWAITED]
    if not ready:
        return wanted
    return ready if len(ready) >= PANIC_BELOW * len(known) else known


def choosable_by_level(hosts: Sequence[Availability], levels: Sequence[int]) -> list[int]:
    """The same where some are in reserve: of the lowest level that has an available host. Where none has, of the lowest
    whose hosts may be tried at last."""
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
"""Why one host gets no more, and how to say so of all hosts of a group."""


def why_none(name: str, reasons: Sequence[str]) -> str:
    """Why no host of `name` can be chosen, in words: the reason of each host is one of `WORDS`, or its availability."""
    counts = Counter(reasons)
    if not counts:
        return f"{name} has no member"
    if len(counts) == 1:
        return f"every host of {name} {WORDS.get(reasons[0]) or 'is ' + reasons[0]}"
    return f"no host of {name} can be used: " + ", ".join(f"{count} {reason}" for reason, count in counts.items())
