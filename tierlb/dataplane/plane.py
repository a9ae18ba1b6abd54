"""One node's data plane: its listeners, its front (l4 or l7) and the reactor that drives them.

This is the seam to the control plane, which hands in snapshots and takes out counts and never waits here.
"""

import random
import time
from typing import Any, Protocol

import trio

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l4.front import L4Front
from tierlb.dataplane.l7.front import L7Front
from tierlb.dataplane.roster import Roster
from tierlb.model.address import Address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Kind
from tierlb.net.listeners import Acceptor, open_socket
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER

DRAIN_CHECK_S = 0.05
ROOM_CHECK_S = 0.1


class Refused(Exception):  # noqa: N818 (the node refuses a snapshot; it is not an error of the node)
    """A snapshot that this node cannot carry out; the reason in words."""


class Front(Protocol):
    """What an l4 and an l7 front have in common."""

    counters: Counters
    roster: Roster
    draining: bool

    @property
    def drained(self) -> bool: ...
    def apply(self, snapshot: Snapshot) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...
    def accept(self, sock: Any, peer: tuple[str, int], listener: Listener) -> None: ...


class Plane:
    """Listeners are kept over snapshots by their value, so that a change never closes a port it does not name."""

    def __init__(self, name: str, log: Any, seed: int | None = None) -> None:
        self.name = name
        self.log = log
        self.reactor = Reactor(self._handler_failed)
        self._rng = random.Random(seed)
        self._front: Front | None = None
        self._snapshot: Snapshot | None = None
        self._acceptors: dict[Listener, Acceptor] = {}
        self._addresses: dict[Listener, Address] = {}
        self._drained = trio.Event()
        self._load_at = (time.monotonic(), 0.0)

    def apply(self, snapshot: Snapshot) -> tuple[Address, ...]:
        """Swap to this snapshot; returns the bound addresses, parallel to its listeners.

        A draining node opens nothing; its ports are told as they were. Raises Refused, and goes on as before, if
        a port cannot be opened or the tier's kind would change.
        """
        if self._snapshot is not None and self._snapshot.kind is not snapshot.kind:
            raise Refused(f"a node cannot change from {self._snapshot.kind.value} to {snapshot.kind.value}")
        opened = self._open_new(snapshot)
        if self._front is None:
            kind = L4Front if snapshot.kind is Kind.L4 else L7Front
            self._front = kind(self.name, self.reactor, self._rng, self.log)
        self._snapshot = snapshot
        self._front.apply(snapshot)
        for listener in [known for known in self._acceptors if known not in snapshot.listeners]:
            acceptor = self._acceptors.pop(listener)
            acceptor.close()
            self._front.counters.rejected += acceptor.strangers
        for listener, sock in opened.items():
            self._acceptors[listener] = Acceptor(self.reactor, listener, sock, self._room, self._front.accept)
            self._addresses[listener] = Address(*sock.getsockname()[:2])
        return tuple(self._addresses.get(listener, listener.address) for listener in snapshot.listeners)

    def _open_new(self, snapshot: Snapshot) -> dict[Listener, Any]:
        opened: dict[Listener, Any] = {}
        try:
            for listener in snapshot.listeners:
                if listener not in self._acceptors and listener not in opened and not self._drained.is_set():
                    opened[listener] = open_socket(listener)
        except OSError as error:
            for sock in opened.values():
                sock.close()
            raise Refused(str(error.strerror)) from None
        return opened

    def _room(self) -> int:
        assert self._front is not None
        assert self._snapshot is not None
        return self._snapshot.limits.connections - self._front.counters.connections

    def load(self) -> NodeLoad:
        """The counters now; `busy` covers the time since the last call."""
        then, waited = self._load_at
        busy = self.reactor.busy_since(then, waited)
        self._load_at = (time.monotonic(), self.reactor.waited_s())
        if self._front is None:
            return NodeLoad(0, 0, 0, 0, 0, 0, 0, busy)
        c = self._front.counters
        return NodeLoad(
            c.connections,
            c.in_flight,
            c.items,
            c.errors,
            c.rejected + sum(acceptor.strangers for acceptor in self._acceptors.values()),
            c.bytes_in,
            c.bytes_out,
            busy,
            self._front.roster.loads(),
        )

    def drain(self) -> None:
        """Stop accepting, finish what is under way, close kept-alive connections politely; `run` then returns."""
        for acceptor in self._acceptors.values():
            acceptor.close()
        self._acceptors.clear()
        if self._front is not None:
            self._front.drain()
        self._drained.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or cancelled; whatever is left then is cut."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.reactor.run)
                nursery.start_soon(self._make_room)
                task_status.started()
                await self._drained.wait()
                while self._front is not None and not self._front.drained:  # noqa: ASYNC110 (no hook in the hot path)
                    await trio.sleep(DRAIN_CHECK_S)
                nursery.cancel_scope.cancel()
        finally:
            self._close()

    async def _make_room(self) -> None:
        """Look whether a node that stood back at its cap can accept again."""
        while True:
            await trio.sleep(ROOM_CHECK_S)
            for acceptor in self._acceptors.values():
                if not acceptor.watching and self._room() > 0 and acceptor.filed is NEVER:
                    acceptor.come_back()

    def _close(self) -> None:
        for acceptor in self._acceptors.values():
            acceptor.close()
        self._acceptors.clear()
        if self._front is not None:
            self._front.close()
        self.reactor.dispose()

    def _handler_failed(self, error: BaseException) -> None:
        self.log.error("a connection was dropped after an internal error", exc_info=error)
