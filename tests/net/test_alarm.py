"""A deadline by itself calls once, when it is over."""

from tierlb.net.alarm import Alarm
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_calls_when_its_time_is_over_unless_it_was_disarmed() -> None:
    clock, calls = Clock(), []
    reactor = Reactor(lambda error: None, clock)
    try:
        alarm = Alarm(reactor, lambda: calls.append(clock.now))
        alarm.arm(1.0)
        clock.now = 100.5
        reactor.stint()
        assert calls == []
        clock.now = 101.5
        reactor.stint()
        reactor.stint()
        assert calls == [101.5]
        alarm.arm(1.0)
        alarm.disarm()
        clock.now = 105.0
        reactor.stint()
        assert calls == [101.5]
        assert alarm.deadline == NEVER
        assert len(reactor.wheel) == 0
    finally:
        reactor.dispose()
