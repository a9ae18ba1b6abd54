"""A roster on a reactor that only the test drives, in time that only the test passes."""

import random
from typing import Any

from tests.dataplane.conftest import snapshot
from tierlb.balance.kinds import OTHER
from tierlb.dataplane.roster import Candidate, Group, Roster
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.snapshot import Destination, Member
from tierlb.model.topology import Kind, Policy
from tierlb.net.reactor import Reactor
from tierlb.telemetry.tally import Tally


class Harness:
    """`changes` is what the roster told of its members, `crashes` what went wrong on a deadline."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.roster = Roster(
            self.reactor, random.Random(1), lambda event, candidate: self.changes.append((event, candidate.member.name))
        )

    def group(self, *members: str | Member, **options: Any) -> Group:
        (group,) = self.groups(destination(*members), **options)
        return group

    def groups(self, *destinations: Destination, kind: Kind = Kind.L7, **options: Any) -> list[Group]:
        options.setdefault("balance", Policy.LEAST_REQUESTS)
        return self.roster.regroup(destinations, snapshot(kind, **options))

    def pass_time(self, seconds: float) -> None:
        """The reactor's clock goes on, and with it whatever is due there; the roster does not tick."""
        self.reactor.now += seconds
        self.reactor.wheel.advance(self.reactor.now)

    def tick(self, after_s: float = 0.05, times: int = 1) -> None:
        for _ in range(times):
            self.pass_time(after_s)
            self.roster.tick(self.reactor.now)

    def report(self, name: str, echo: Echo | None = None, **load: Any) -> None:
        """A child's report comes; the lines are drawn anew."""
        self.roster.note_report(name, SubtreeLoad(**load), echo or Echo())
        for group in self.roster.groups:
            group.settle(self.reactor.now)

    def serve(self, candidate: Candidate, count: int, each_s: float) -> None:
        """So many items, one after the other."""
        for _ in range(count):
            item = Underway(self.reactor.now)
            candidate.begin_item(self.reactor.now, item)
            self.pass_time(each_s)
            candidate.done += 1
            candidate.end_item(self.reactor.now, item, self.roster.kinds)
            candidate.times[item.kind].append(each_s)


class Underway:
    """An item of the only kind there is, from its beginning."""

    kind = OTHER

    def __init__(self, now: float) -> None:
        self.began = self.sent = now
        self.tally = Tally()


def member(name: str, target: str = "app", **says: Any) -> Member:
    return Member(name, target, Address("127.0.0.1", 1), **says)


def child(name: str, target: str = "web", **says: Any) -> Member:
    return member(name, target, child=True, reports=True, **says)


def destination(*members: str | Member, weight: float = 1) -> Destination:
    made = tuple(each if isinstance(each, Member) else member(each) for each in members)
    return Destination(weight, ("app",), made)


def by_name(group: Group) -> dict[str, Candidate]:
    return {candidate.name: candidate for candidate in group.candidates}


def available(group: Group) -> list[str]:
    return [candidate.name for candidate in group.available]


def chosen(group: Group, count: int, key: int = 0) -> list[str]:
    """Of so many items that are over as soon as they have begun."""
    return [candidate.name for candidate in (group.choose((), key) for _ in range(count)) if candidate is not None]
