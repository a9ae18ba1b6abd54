"""Connections and requests that came before their destination had a host: held for a moment instead of refused.

While a cluster starts, an edge listens before the tier below has joined, and an l7 node before its endpoints accept.
What comes then waits until a snapshot names a host, at most `HOLD_S`. Only destinations that have had no host since
this node began are waited for, and only for `STARTING_S`: where hosts existed and are gone, or a pool stays empty,
an answer at once is worth more. What is held counts as an open connection, so the cap on connections bounds it.

Left out: hosts that exist and cannot be reached, which is for ejection and retries.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from tierlb.model.snapshot import Destination
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER, Timed

HOLD_S = 5.0
"""How long one connection or request waits. Clients such as browsers and probes wait longer than this."""
STARTING_S: Final = 30.0
"""From the first snapshot that names the destination: the time that `tierlb up` gives a cluster to serve."""
RESUME_EVERY_S: Final = 0.0001
"""Between two that go on: 10,000 that were held come back within a second, not in one turn."""


class Held(Timed):
    """One that waits. `fd`: what to close if the node ends first, where only `again` holds it."""

    __slots__ = ("again", "fd", "hold")

    def __init__(self, hold: "Hold", again: Callable[[], None], fd: int | None) -> None:
        self.hold = hold
        self.again = again
        self.fd = fd
        self.deadline = NEVER
        self.filed = NEVER

    def on_deadline(self) -> None:
        """Try again: with a host by now, or to be refused."""
        self.hold.items.pop(self, None)
        self.again()


class Hold:
    """What waits at one node. `note` with each snapshot; `applies`, then `add`, for what finds no host."""

    def __init__(self, reactor: Reactor, log: Any) -> None:
        self.items: dict[Held, None] = {}
        self._reactor = reactor
        self._log = log
        self._named_at: dict[tuple[str, ...], float] = {}
        self._met: set[tuple[str, ...]] = set()

    def note(self, destinations: Iterable[Destination]) -> None:
        """These are the destinations now. If one has its first host, everything that waits goes on."""
        now, is_news = self._reactor.now, False
        for destination in destinations:
            self._named_at.setdefault(destination.targets, now)
            if destination.hosts and destination.targets not in self._met:
                self._met.add(destination.targets)
                is_news = True
        if is_news:
            for number, held in enumerate(self.items):
                self._file(held, now + number * RESUME_EVERY_S)

    def applies(self, destination: Destination, since: float) -> bool:
        """Whether what waits for this destination `since` then may go on waiting."""
        now, targets = self._reactor.now, destination.targets
        if targets in self._met or now - since >= HOLD_S:
            return False
        return now - self._named_at.get(targets, -STARTING_S) < STARTING_S

    def add(self, destination: Destination, since: float, again: Callable[[], None], fd: int | None = None) -> None:
        """Call `again` when there may be a host, or when the time is over."""
        if not self.items:
            self._log.info("clients_held", waiting_for=", ".join(destination.targets), at_most_s=HOLD_S)
        held = Held(self, again, fd)
        self.items[held] = None
        self._file(held, since + HOLD_S)

    def _file(self, held: Held, at: float) -> None:
        held.deadline = at
        if at < held.filed:
            self._reactor.wheel.file(held)

    def close(self) -> None:
        """The node ends."""
        for held in self.items:
            self._reactor.wheel.forget(held)
            if held.fd is not None:
                self._reactor.close(held.fd)
        self.items.clear()
