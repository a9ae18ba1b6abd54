"""A deadline by itself, for what is no stream: a call when it is over."""

from collections.abc import Callable

from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER, Timed


class Alarm(Timed):
    """Calls back once each time that it was armed, unless it was disarmed or armed anew before. What the call lets out
    is reported by the reactor. Disarm it before it is dropped."""

    __slots__ = ("_call", "_reactor")

    def __init__(self, reactor: Reactor, call: Callable[[], None]) -> None:
        self._reactor = reactor
        self._call = call
        self.deadline = NEVER
        self.filed = NEVER

    def arm(self, seconds: float) -> None:
        """In so many seconds."""
        self.deadline = at = self._reactor.now + seconds
        if at < self.filed:
            self._reactor.wheel.file(self)

    def disarm(self) -> None:
        self._reactor.wheel.forget(self)

    def on_deadline(self) -> None:
        self._call()
