"""Membership at run time: who is chosen from, who is passed over, what survives a change."""

import random

import pytest
import trio

from tests.dataplane.conftest import Lab, PlayedMember
from tierlb.balance import ejection
from tierlb.balance.ejection import FIRST_EJECTION_S
from tierlb.dataplane.roster import Candidate, Group, Roster, Split
from tierlb.model.address import Address
from tierlb.model.snapshot import Destination, Member
from tierlb.model.topology import Policy
from tierlb.net.reactor import Reactor


class Harness:
    """A roster on a reactor that only this test drives."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.roster = Roster(
            self.reactor, random.Random(1), lambda event, candidate: self.changes.append((event, candidate.member.name))
        )

    def group(self, *names: str, policy: Policy = Policy.LEAST_REQUESTS) -> Group:
        (group,) = self.roster.regroup([destination(*names)], policy)
        return group

    def pass_time(self, seconds: float) -> None:
        self.reactor.now += seconds
        self.reactor.wheel.advance(self.reactor.now)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def member(name: str) -> Member:
    return Member(name, "app", Address("127.0.0.1", 1))


def destination(*names: str, weight: float = 1) -> Destination:
    return Destination(weight, ("app",), tuple(member(name) for name in names))


def by_name(group: Group) -> dict[str, Candidate]:
    return {candidate.member.name: candidate for candidate in group.candidates}


def available(group: Group) -> list[str]:
    return [candidate.member.name for candidate in group.available]


def test_a_group_without_members_chooses_nobody(harness: Harness) -> None:
    assert harness.group().choose() is None


def test_least_requests_looks_at_what_is_in_flight(harness: Harness) -> None:
    group = harness.group("a", "b", "c")
    for name, in_flight in (("a", 3), ("b", 1), ("c", 2)):
        by_name(group)[name].in_flight = in_flight
    assert group.choose() is by_name(group)["b"]


def test_who_was_tried_is_not_chosen_again(harness: Harness) -> None:
    group = harness.group("a", "b")
    a, b = group.candidates
    assert group.choose((a,)) is b
    assert group.choose((a, b)) is None


def test_an_ejected_member_is_still_better_than_none(harness: Harness) -> None:
    group = harness.group("a", "b", "c")
    a, b, c = group.candidates
    a.connect_failed(refused=True)
    assert available(group) == ["b", "c"]
    assert group.choose((b, c)) is a


def test_more_than_half_ejected_is_not_believed(harness: Harness) -> None:
    group = harness.group("a", "b", "c")
    a, b, _ = group.candidates
    a.connect_failed(refused=True)
    b.connect_failed(refused=True)
    assert available(group) == ["a", "b", "c"]
    assert [load.ejected for load in harness.roster.loads()] == [True, True, False]


def test_a_success_restores_a_member(harness: Harness) -> None:
    group = harness.group("a", "b")
    a, _ = group.candidates
    a.connect_failed(refused=True)
    a.connected()
    assert available(group) == ["a", "b"]
    assert harness.changes == [("ejected", "a"), ("restored", "a")]


def test_an_ejection_counts_in_every_group_of_the_member(harness: Harness) -> None:
    one, two = harness.roster.regroup([destination("a", "b"), destination("a", "c")], Policy.ROUND_ROBIN)
    assert one.candidates[0] is two.candidates[0]
    one.candidates[0].connect_failed(refused=True)
    assert (available(one), available(two)) == (["b"], ["c"])


def test_an_ejection_survives_a_new_snapshot(harness: Harness) -> None:
    group = harness.group("a", "b")
    a = group.candidates[0]
    a.connect_failed(refused=True)
    a.done = 7
    again = harness.group("b", "a", "c")
    assert available(again) == ["b", "c"]
    assert by_name(again)["a"] is a
    a.connected()
    assert available(again) == ["b", "a", "c"]


def test_the_same_name_at_another_address_is_another_member(harness: Harness) -> None:
    group = harness.group("a")
    moved = Destination(1, ("app",), (Member("a", "app", Address("127.0.0.1", 2)),))
    (again,) = harness.roster.regroup([moved], Policy.ROUND_ROBIN)
    assert again.candidates[0] is not group.candidates[0]
    assert group.candidates[0].retired


def test_a_member_that_left_is_not_probed(harness: Harness) -> None:
    group = harness.group("a", "b")
    a = group.candidates[0]
    a.connect_failed(refused=True)
    harness.group("b")
    harness.pass_time(FIRST_EJECTION_S * 2)
    assert a.probe is None
    assert len(harness.reactor.wheel) == 0


def test_a_restored_member_is_not_probed(harness: Harness) -> None:
    a = harness.group("a", "b").candidates[0]
    a.connect_failed(refused=True)
    a.connected()
    harness.pass_time(FIRST_EJECTION_S * 2)
    assert a.probe is None
    assert not a.ejection.ejected


def test_a_split_draws_by_weight() -> None:
    harness = Harness()
    groups = harness.roster.regroup([destination("a", weight=3), destination("b", weight=1)], Policy.ROUND_ROBIN)
    split = Split(groups, random.Random(1))
    drawn = [split.pick() is groups[0] for _ in range(4000)]
    assert 2850 <= sum(drawn) <= 3150
    assert Split(groups[:1], random.Random(1)).pick() is groups[0]


# Probes, against real sockets.


async def probing(lab: Lab, *members: PlayedMember) -> tuple[Harness, Group]:
    harness = Harness()
    (group,) = harness.roster.regroup([Destination(1, ("app",), tuple(m.member for m in members))], Policy.ROUND_ROBIN)
    lab.nursery.start_soon(harness.reactor.run)
    return harness, group


async def test_a_probe_that_succeeds_brings_a_member_back(lab: Lab) -> None:
    one, two = await lab.member(), await lab.member()
    harness, group = await probing(lab, one, two)
    group.candidates[0].connect_failed(refused=True)
    harness.pass_time(FIRST_EJECTION_S + 0.3)
    await (await one.accepts()).hears_end()
    await lab.until(lambda: len(group.available) == 2)
    assert [event for event, _ in harness.changes] == ["ejected", "restored"]


async def test_a_probe_that_is_refused_doubles_the_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "FIRST_EJECTION_S", 0.01)
    harness, group = await probing(lab, await lab.nobody(), await lab.member())
    dead = group.candidates[0]
    dead.connect_failed(refused=True)
    await lab.until(lambda: dead.ejection.times >= 3)
    assert harness.changes[:3] == [("ejected", dead.member.name)] * 3
    assert len(group.available) == 1


async def test_a_probe_in_progress_ends_with_its_member(lab: Lab) -> None:
    full = await lab.member(backlog=0)
    stuffing = [trio.socket.socket() for _ in range(4)]
    for sock in stuffing:
        sock._sock.connect_ex(full.address.sockaddr)
    harness, group = await probing(lab, full, await lab.member())
    candidate = group.candidates[0]
    candidate.connect_failed(refused=True)
    harness.pass_time(FIRST_EJECTION_S + 0.3)
    probe = candidate.probe
    assert probe is not None
    harness.roster.close()
    assert probe.closed
    assert candidate.probe is None
    for sock in stuffing:
        sock.close()
