"""A host is ejected when connects fail, asked when its time is over, and restored by a good answer."""

import errno
from collections.abc import Callable

import pytest

from tierlb.balance.ejection import FAILURES_TO_EJECT, FIRST_EJECTION_S
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.reachability import ASK_AGAIN_S, ConnectContext, Reachability
from tierlb.dataplane.upstream.recovery import HealthQuestion, Recovery
from tierlb.model.address import Address
from tierlb.model.snapshot import HostSpec
from tierlb.model.topology import HealthCheck
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.net.wheel import WHEEL_TICK_S

SPEC = HostSpec("a", "app", Address("127.0.0.1", 9001))


class Asked(Recovery):
    """Answers at once as the test says, or never (a question)."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, lambda error: None)
        self.answers: list[int | None] = []
        self.asked: list[tuple[str, Address]] = []
        self.answered: Callable[[int | None], object] = lambda code: None

    def ask(  # type: ignore[override]
        self, target: str, address: Address, port_at_risk: int, answered: Callable[[int | None], object]
    ) -> HealthQuestion | int | None:
        self.asked.append((target, address))
        self.answered = answered
        if self.answers:
            return self.answers.pop(0)
        return HealthQuestion(address, HealthCheck(), self.check_host, answered, lambda error: None)


class Bench:
    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.recovery = Asked(self.reactor)
        self.shortages = Shortages()
        self.events: list[HostEvent] = []
        self.context = ConnectContext(self.reactor, self.shortages, self.recovery)
        self.reach = Reachability(self.context, SPEC, self.events.append)

    def pass_time(self, seconds: float) -> None:
        self.reactor.now += seconds
        self.reactor.wheel.advance(self.reactor.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_is_ejected_asked_when_its_time_is_over_and_restored(bench: Bench) -> None:
    bench.recovery.answers = [0]
    bench.reach.connect_failed(refused=True)
    assert (bench.events, bench.reach.failures) == ([HostEvent.EJECTED], 1)
    assert bench.recovery.asked == []
    bench.pass_time(FIRST_EJECTION_S + WHEEL_TICK_S)
    assert bench.recovery.asked == [("app", SPEC.address)]
    assert bench.events == [HostEvent.EJECTED, HostEvent.RESTORED]
    assert not bench.reach.ejection.ejected


def test_a_success_that_ends_no_ejection_is_no_news(bench: Bench) -> None:
    for _ in range(FAILURES_TO_EJECT - 1):
        bench.reach.connect_failed(refused=False)
    bench.reach.connected()
    bench.reach.connect_failed(refused=False)
    assert (bench.events, bench.reach.failures) == ([], FAILURES_TO_EJECT)


ANSWERS = [
    # answer -> times ejected, shortages, seconds to the next question
    (errno.ECONNREFUSED, 2, 0, 2 * FIRST_EJECTION_S),
    (errno.ETIMEDOUT, 2, 0, 2 * FIRST_EJECTION_S),
    (errno.EMFILE, 1, 1, ASK_AGAIN_S),
    (None, 1, 0, ASK_AGAIN_S),
]


@pytest.mark.parametrize(("code", "times", "shortages", "again_s"), ANSWERS)
def test_after_each_answer_it_is_asked_again(
    bench: Bench, code: int | None, times: int, shortages: int, again_s: float
) -> None:
    bench.recovery.answers = [code, 0]
    bench.reach.connect_failed(refused=True)
    bench.pass_time(FIRST_EJECTION_S + WHEEL_TICK_S)
    assert (bench.reach.ejection.times, bench.shortages.count) == (times, shortages)
    bench.pass_time(again_s + WHEEL_TICK_S)
    assert len(bench.recovery.asked) == 2
    assert not bench.reach.ejection.ejected


def test_while_a_question_is_open_no_other_is_asked(bench: Bench) -> None:
    bench.reach.connect_failed(refused=True)
    bench.pass_time(FIRST_EJECTION_S + WHEEL_TICK_S)
    assert bench.reach.question is not None
    bench.reach.on_deadline()
    assert len(bench.recovery.asked) == 1
    bench.recovery.answered(0)
    assert bench.reach.question is None


def test_an_error_of_ours_leaves_it_to_be_asked_again(bench: Bench) -> None:
    bench.recovery.answers = [0]
    bench.reach.connect_failed(refused=True)
    bench.reach.abort()
    bench.pass_time(ASK_AGAIN_S + WHEEL_TICK_S)
    assert not bench.reach.ejection.ejected


def test_one_that_is_gone_is_neither_asked_nor_changed(bench: Bench) -> None:
    bench.reach.connect_failed(refused=True)
    bench.pass_time(FIRST_EJECTION_S + WHEEL_TICK_S)
    bench.reach.close()
    bench.recovery.answered(0)
    bench.reach.connect_failed(refused=True)
    bench.reach.abort()
    bench.pass_time(60.0)
    assert (len(bench.recovery.asked), bench.reach.question, bench.events) == (1, None, [HostEvent.EJECTED])
    assert len(bench.reactor.wheel) == 0


@pytest.mark.parametrize(("port", "at_risk"), [(9001, 9001), (9002, 0)])
def test_a_port_from_which_the_kernel_takes_those_of_connections_is_at_risk(
    bench: Bench, port: int, at_risk: int
) -> None:
    bench.context.local_ports = (port, port)
    assert Reachability(bench.context, SPEC, bench.events.append).port_at_risk == at_risk


def test_a_host_that_is_given_something_can_be_asked_at_any_time(bench: Bench) -> None:
    bench.recovery.answers = [0, errno.ECONNREFUSED]
    bench.reach.ask()
    assert not bench.reach.ejection.ejected
    bench.reach.ask()
    assert bench.reach.ejection.ejected
    bench.reach.ask()
    assert len(bench.recovery.asked) == 2, "one that is ejected is asked when its time is over"


def test_one_question_is_asked_at_a_time(bench: Bench) -> None:
    bench.reach.ask()
    bench.reach.ask()
    assert len(bench.recovery.asked) == 1
    bench.recovery.answered(0)
    bench.reach.ask()
    assert len(bench.recovery.asked) == 2
    bench.reach.close()
    bench.reach.ask()
    assert len(bench.recovery.asked) == 2
