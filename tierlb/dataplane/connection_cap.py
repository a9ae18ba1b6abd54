"""How many client connections a node holds, and what happens to the next one.

The cap is `limits.connections`, or what the descriptor limit allows if that is less. At the cap the connection that has
been idle longest is closed for the one that has just come. If none is idle the newcomer is turned away at once: at l7
with 503 and Retry-After, at l4 by a close, because TCP has no error answer. No client waits in the kernel's queue,
where it could not tell a full node from a dead one.

Looking for idle connections costs a walk over all of them. One walk yields many, so that the cost per newcomer is
small, and walks are spaced so that they take a few percent of the time even if each newcomer causes one.

The shortage is logged when it begins and when it is over, with counts, and never once per connection.
"""

import socket
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Final, Protocol

from tierlb.dataplane.counters import Counters
from tierlb.net.descriptors import DESCRIPTORS_PER_CONNECTION, Spare, connections_for
from tierlb.net.io import accept4
from tierlb.net.wheel import NEVER

WALK_S_PER_CONNECTION: Final = 1e-5
"""A walk takes about 0.5 µs for each connection, so walks use at most about 5 % of the time."""
CLOSE_AFTER_S: Final = 2.0
"""For so long after a connection came that found no free place, answers end with `Connection: close`. Not if most
connections are silent and too new to count as idle: closing those that ask would leave the node to the others."""
USED_LATELY_S: Final = 2.0
"""Where most connections have asked nothing yet, one that was used this lately does not give way to more of them."""
OVER_AFTER_S: Final = 5.0
"""A shortage of which there was no sign for so long is over."""
TURNED_AWAY_PER_EVENT: Final = 16


def held(counters: Counters) -> int:
    """The connections that this process holds: a node below has those that it was handed."""
    return counters.connections - counters.handed


class CanGiveWay(Protocol):
    """A connection that may be closed in favour of a new one."""

    def idle_since(self, now: float) -> float:
        """Since when it has been idle; NEVER while it is in use."""

    def give_way(self) -> bool:
        """Close it; false if a closer look finds it in use."""


class CappedFront(Protocol):
    """What the cap needs of the l4 or l7 front."""

    counters: Counters
    full: bool
    """Whether answers are to end their connections."""

    def may_give_way(self) -> Iterable[CanGiveWay]:
        """All connections that could be idle."""

    def turn_away(self, fd: int, *, at_once: bool, secured: bool) -> None:
        """Say that the node is full, if there is a way to, and close; `at_once` without holding a descriptor.
        `secured`: the client speaks TLS."""


class ConnectionCap:
    """One node's cap. `descriptors` is the process's limit, `each` how many of them one connection takes; `now` is
    passed in. `waiting`: connections that may give way and are no front's yet."""

    def __init__(self, front: CappedFront, log: Any, descriptors: int, each: int = DESCRIPTORS_PER_CONNECTION) -> None:
        self._front = front
        self.waiting: Collection[CanGiveWay] = ()
        self._log = log
        self._descriptors = descriptors
        self._each = each
        self._spare = Spare()
        self._longest: deque[tuple[float, CanGiveWay]] = deque()
        self._next_walk = 0.0
        self._mostly_silent = False
        self._found_full_at = -NEVER
        self._shortage = Shortage(front.counters)
        self.configured = 0
        self.cap = 0

    def configure(self, connections: int) -> None:
        """`limits.connections` of the snapshot."""
        if connections == self.configured:
            return
        self.configured = connections
        self.cap = min(connections, connections_for(self._descriptors, self._each))
        if self.cap < connections:
            self._log.warning(
                "connections_capped",
                cap=self.cap,
                configured=connections,
                descriptors=self._descriptors,
                action="raise the hard limit of open files (ulimit -Hn) or lower limits.connections",
            )

    def admit(self, now: float) -> bool:
        """Whether one more connection may be held, after closing an idle one if need be."""
        return held(self._front.counters) < self.cap or self._make_room(now)

    def turn_away(self, fd: int, now: float, *, secured: bool) -> None:
        """Refuse a connection that was accepted beyond the cap. `secured`: its client speaks TLS."""
        self.refuse(now)
        self._front.turn_away(fd, at_once=False, secured=secured)

    def refuse(self, now: float) -> None:
        """Count one that is refused beyond the cap."""
        self._refused(now, "connections")

    def out_of_descriptors(self, listening: socket.socket, now: float, *, secured: bool) -> bool:
        """`accept` failed because descriptors ran out. Frees one, or turns away some of those that wait; false if
        neither was possible."""
        if self._make_room(now):
            return True
        turned_away = 0
        while turned_away < TURNED_AWAY_PER_EVENT and self._turn_one_away(listening, now, secured=secured):
            turned_away += 1
        return turned_away > 0

    def _turn_one_away(self, listening: socket.socket, now: float, *, secured: bool) -> bool:
        """With the spare descriptor; false if that is not there, or no connection waits."""
        with self._spare.lent() as had:
            if not had:
                return False
            try:
                accepted = accept4(listening)
            except OSError:
                return False
            if accepted is None:
                return False
            self._refused(now, "descriptors")
            self._front.turn_away(accepted[0], at_once=True, secured=secured)
            return True

    def tick(self, now: float) -> float:
        """Notice that a shortage is over. Returns when to call it again at the latest."""
        if self._front.full and now - self._found_full_at >= CLOSE_AFTER_S:
            self._front.full = False
        if self._shortage.is_over(now):
            self._longest.clear()
            self._log.info("connections_full_ended", **self._shortage.end())
        return now if self._front.full or self._shortage.began else NEVER

    def shortages(self) -> tuple[str, ...]:
        """What `status` shows of it."""
        texts = []
        if self.cap < self.configured:
            texts.append(
                f"descriptors allow {self.cap} connections, fewer than limits.connections ({self.configured}): "
                "raise the hard limit of open files (ulimit -Hn)"
            )
        if self._shortage.began:
            counts = self._shortage.counts()
            texts.append(
                f"full: {held(self._front.counters)} of {self.cap} connections, "
                f"{counts['turned_away']} turned away, {counts['gave_way']} idle ones closed"
            )
        return tuple(texts)

    def close(self) -> None:
        self._spare.close()

    def _make_room(self, now: float) -> bool:
        self._note(now, "connections")
        made = self._one_gives_way(now)
        if not made and now >= self._next_walk:
            self._walk(now)
            made = self._one_gives_way(now)
        self._found_full_at = now
        self._front.full = not self._mostly_silent
        return made

    def _one_gives_way(self, now: float) -> bool:
        """Close the first of those that the last walk found and that are idle still."""
        while self._longest:
            since, connection = self._longest.popleft()
            if connection.idle_since(now) == since and connection.give_way():
                self._front.counters.gave_way += 1
                return True
        return False

    def _walk(self, now: float) -> None:
        count = 0
        idle: list[tuple[float, int, CanGiveWay]] = []
        for connection in (*self.waiting, *self._front.may_give_way()):
            count += 1
            since = connection.idle_since(now)
            if since != NEVER:
                idle.append((since, count, connection))
        silent = count - len(idle) - self._front.counters.tallies.total().in_flight
        self._mostly_silent = silent * 2 > count
        if self._mostly_silent:  # clients between two requests are not to pay for it
            idle = [each for each in idle if now - each[0] >= USED_LATELY_S]
        idle.sort(key=lambda each: each[0])
        self._longest.extend((since, connection) for since, _, connection in idle[: max(64, count // 8)])
        self._next_walk = now + count * WALK_S_PER_CONNECTION

    def _refused(self, now: float, lack: str) -> None:
        self._note(now, lack)
        counters = self._front.counters
        counters.rejected += 1
        counters.turned_away += 1

    def _note(self, now: float, lack: str) -> None:
        if self._shortage.note(now):
            self._log.warning("connections_full", lack=lack, cap=self.cap, connections=held(self._front.counters))


class Shortage:
    """A stretch of time with signs of a shortage no further than OVER_AFTER_S apart, and what was counted in it."""

    __slots__ = ("_counters", "_gave_way", "_last", "_turned_away", "began")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._last = 0.0
        self._turned_away = 0
        self._gave_way = 0
        self.began = False

    def note(self, now: float) -> bool:
        """A sign of it; true for the first one."""
        self._last = now
        if self.began:
            return False
        self.began = True
        self._turned_away = self._counters.turned_away
        self._gave_way = self._counters.gave_way
        return True

    def is_over(self, now: float) -> bool:
        return self.began and now - self._last >= OVER_AFTER_S

    def counts(self) -> dict[str, int]:
        """What was counted since it began."""
        return {
            "turned_away": self._counters.turned_away - self._turned_away,
            "gave_way": self._counters.gave_way - self._gave_way,
        }

    def end(self) -> dict[str, int]:
        """It is over; its counts."""
        self.began = False
        return self.counts()
