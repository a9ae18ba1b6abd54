"""Ejected endpoints are asked before traffic comes back: by a connect against real sockets, or by the pool's check."""

import errno
from typing import Any

import pytest
import trio
import trio.testing

from tests.dataplane.conftest import FakeEndpoint, Lab
from tests.dataplane.lacking import looping_dial
from tests.dataplane.registries import Harness
from tests.sockets import plain
from tierlb.balance import ejection
from tierlb.balance.ejection import FIRST_EJECTION_S
from tierlb.dataplane.upstream import recovery
from tierlb.dataplane.upstream.health import Result
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.reachability import ASK_AGAIN_S
from tierlb.model.address import Address
from tierlb.model.snapshot import PoolSettings
from tierlb.model.topology import HealthCheck, Policy, Timeouts
from tierlb.net.wheel import WHEEL_TICK_S

CHECK = HealthCheck(path="/up")


async def probing(lab: Lab, *endpoints: FakeEndpoint, **options: Any) -> tuple[Harness, HostSet]:
    harness = Harness()
    host_set = harness.host_set(*(endpoint.spec for endpoint in endpoints), balance=Policy.ROUND_ROBIN, **options)
    lab.nursery.start_soon(harness.reactor.run)
    return harness, host_set


async def test_a_probe_that_succeeds_brings_a_member_back(lab: Lab) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    harness, host_set = await probing(lab, one, two)
    host_set.hosts[0].reach.connect_failed(refused=True)
    harness.pass_time(FIRST_EJECTION_S + 0.3)
    await (await one.accepts()).hears_end()
    await lab.until(lambda: len(host_set.available) == 2)
    assert [event for event, _ in harness.changes] == ["ejected", "restored"]


async def test_a_probe_that_is_refused_doubles_the_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "FIRST_EJECTION_S", 0.01)
    harness, host_set = await probing(lab, await lab.nobody(), await lab.endpoint())
    dead = host_set.hosts[0]
    dead.reach.connect_failed(refused=True)
    await lab.until(lambda: dead.reach.ejection.times >= 3)
    assert harness.changes[:3] == [("ejected", dead.spec.name)] * 3
    assert len(host_set.available) == 1


async def full_backlog(lab: Lab) -> tuple[FakeEndpoint, list[Any]]:
    full = await lab.endpoint(backlog=0)
    stuffing = [trio.socket.socket() for _ in range(4)]
    for sock in stuffing:
        with plain(sock) as same:
            same.connect_ex(full.address.sockaddr)
    return full, stuffing


async def test_a_probe_in_progress_ends_with_its_member(lab: Lab) -> None:
    full, stuffing = await full_backlog(lab)
    harness, host_set = await probing(lab, full, await lab.endpoint())
    host = host_set.hosts[0]
    host.reach.connect_failed(refused=True)
    harness.pass_time(FIRST_EJECTION_S + 0.3)
    probe = host.reach.question
    assert probe is not None
    harness.registry.close()
    assert probe.closed
    assert host.reach.question is None
    for sock in stuffing:
        sock.close()


async def test_a_probe_may_take_as_long_as_a_connect_for_traffic(lab: Lab) -> None:
    full, stuffing = await full_backlog(lab)
    harness, host_set = await probing(lab, full, await lab.endpoint(), timeouts=Timeouts(connect=30.0))
    host = host_set.hosts[0]
    host.reach.connect_failed(refused=True)
    harness.pass_time(FIRST_EJECTION_S + WHEEL_TICK_S)
    assert host.reach.question is not None
    harness.pass_time(25.0)
    assert host.reach.question is not None
    harness.pass_time(6.0)
    assert host.reach.question is None
    assert host.reach.ejection.times == 2
    for sock in stuffing:
        sock.close()


def no_socket(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def dial(address: Address, **how: Any) -> Any:
        raise OSError(code, "lack")

    monkeypatch.setattr(recovery, "dial", dial)


def test_a_probe_for_which_this_machine_has_no_socket_concludes_nothing_and_is_made_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness()
    host = harness.host_set("a", "b").hosts[0]
    host.reach.connect_failed(refused=True)
    no_socket(monkeypatch, errno.EMFILE)
    for round_ in range(1, 4):
        harness.pass_time((FIRST_EJECTION_S if round_ == 1 else ASK_AGAIN_S) + WHEEL_TICK_S)
        assert harness.registry.context.shortages.count == round_
    assert host.reach.ejection.times == 1


async def test_a_probe_that_reached_itself_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "FIRST_EJECTION_S", 0.01)
    nobody = await lab.nobody()
    monkeypatch.setattr(recovery, "dial", looping_dial(nobody))
    harness, host_set = await probing(lab, nobody, await lab.endpoint())
    dead = host_set.hosts[0]
    dead.reach.connect_failed(refused=True)
    await lab.until(lambda: dead.reach.ejection.times >= 2)
    assert {event for event, _ in harness.changes} == {"ejected"}


class Checked:
    """A registry whose pool `app` is checked by a script of results."""

    def __init__(self, *results: bool | None) -> None:
        self.results = list(results)
        self.asked: list[tuple[Address, HealthCheck]] = []
        self.harness = Harness()
        self.recovery = self.harness.registry.context.recovery
        self.recovery.check_host = self.check
        host_set = self.harness.host_set("a", "b", pools=(PoolSettings("app", health=CHECK),))
        self.host = host_set.hosts[0]
        self.release = trio.Event()
        self.release.set()

    async def check(self, address: Address, check: HealthCheck) -> Result:
        self.asked.append((address, check))
        await self.release.wait()
        return Result(self.results.pop(0), "")

    async def is_due(self, after_s: float) -> None:
        self.harness.pass_time(after_s + WHEEL_TICK_S)
        await trio.testing.wait_all_tasks_blocked()


async def test_where_there_is_a_check_it_decides(nursery: trio.Nursery) -> None:
    made = Checked(False, True)
    nursery.start_soon(made.recovery.run)
    await trio.testing.wait_all_tasks_blocked()
    made.host.reach.connect_failed(refused=True)
    await made.is_due(FIRST_EJECTION_S)
    assert made.asked == [(made.host.spec.address, CHECK)]
    assert made.host.reach.ejection.times == 2
    await made.is_due(2 * FIRST_EJECTION_S)
    assert not made.host.reach.ejection.ejected
    assert [event for event, _ in made.harness.changes] == ["ejected", "ejected", "restored"]
    nursery.cancel_scope.cancel()


async def test_a_check_that_could_not_be_made_is_made_again_and_counts_for_nothing(nursery: trio.Nursery) -> None:
    made = Checked(None, True)
    nursery.start_soon(made.recovery.run)
    await trio.testing.wait_all_tasks_blocked()
    made.host.reach.connect_failed(refused=True)
    await made.is_due(FIRST_EJECTION_S)
    assert made.host.reach.ejection.times == 1
    await made.is_due(ASK_AGAIN_S)
    assert not made.host.reach.ejection.ejected
    nursery.cancel_scope.cancel()


async def test_the_answer_of_a_member_that_left_is_not_waited_for(nursery: trio.Nursery) -> None:
    made = Checked(True)
    made.release = trio.Event()
    nursery.start_soon(made.recovery.run)
    await trio.testing.wait_all_tasks_blocked()
    made.host.reach.connect_failed(refused=True)
    await made.is_due(FIRST_EJECTION_S)
    assert made.host.reach.question is not None
    made.harness.host_set("b")
    assert made.host.reach.question is None
    made.release.set()
    await trio.testing.wait_all_tasks_blocked()
    assert made.host.reach.ejection.ejected
    nursery.cancel_scope.cancel()


async def test_a_check_on_which_the_program_fails_is_made_again_and_ends_no_other(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, crashes = Checked(True), []
    monkeypatch.setattr(made.harness.registry.context, "on_error", crashes.append)
    nursery.start_soon(made.recovery.run)
    await trio.testing.wait_all_tasks_blocked()
    made.host.reach.connect_failed(refused=True)
    works = made.results.pop()
    await made.is_due(FIRST_EJECTION_S)
    assert [type(error) for error in crashes] == [IndexError]
    assert made.host.reach.ejection.ejected
    made.results.append(works)
    await made.is_due(ASK_AGAIN_S)
    assert not made.host.reach.ejection.ejected
    nursery.cancel_scope.cancel()


async def test_more_checks_than_may_run_wait_for_their_turn(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MOST_CHECKS", -1)
    made = Checked(True)
    nursery.start_soon(made.recovery.run)
    await trio.testing.wait_all_tasks_blocked()
    made.host.reach.connect_failed(refused=True)
    await made.is_due(FIRST_EJECTION_S)
    assert made.asked == []
    monkeypatch.setattr(recovery, "MOST_CHECKS", 64)
    await made.is_due(ASK_AGAIN_S)
    assert not made.host.reach.ejection.ejected
    nursery.cancel_scope.cancel()
