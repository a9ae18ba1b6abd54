"""Which of several controllers is the active one: the one whose key is in etcd, put there with a lease that it renews.

When the active controller dies, its lease runs out and etcd deletes the key. When it ends in order, it revokes the
lease, with the same effect at once. The others watch the key, and the first one that puts it again is the active one.

The holder counts a lease from before it asked for it, etcd from when the request arrived. The holder subtracts a margin
for clocks that do not run alike. So a controller that cannot renew its lease stops being active before another one
begins (`Leadership.lost`). A controller that was suspended meanwhile can still change nothing: each of its writes
demands that the key is the one that it put (`Leadership.fence`).

Left out: preferences. The first candidate wins, and stays until its lease ends.
"""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.controller.etcd import Etcd
from tierlb.controller.etcd_access import Denied
from tierlb.wire.etcd import Changed, Created, Get, KeyValue, Lease, Put, WatchEvent

TTL_S = 3
"""etcd grants no less than 1.5 of its election timeouts, which is 2 s by default, and looks for ended leases twice a
second. So another controller takes over 2.5 to 4 s after this one was killed."""
RENEWALS = 6
"""In the time of a lease. While the members of etcd elect, for one to two seconds, none succeeds."""
LEASE_MARGIN = 1 / 6
"""Of a lease: what clocks may be apart by then, and the time it takes to stop."""
RENEW_S = 0.7
"""For the answer of one member: if it hangs, there is time to ask two others."""
LOOK_AT_KEY_EVERY_S = 1.0
"""Besides watching: a connection that was cut is as silent as one without news."""
ELECT_AGAIN_S = 0.5
DENIED_AGAIN_S = 2.0
"""An operator has to act first, and each attempt makes etcd hash a password, which is slow by design."""
LOG_PROBLEM_EVERY_S = 60.0
NO_REVISION = -1
"""No revision of etcd."""
RESIGN_S = 1.0


@attrs.frozen
class Leader:
    """The active controller, and where it is found."""

    name: str
    url: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.url})" if self.url else self.name


@attrs.define
class Leadership:
    """`lost` is set when this controller must not act as the active one any more, whether there is another or not."""

    _put: Created
    lost: trio.Event = attrs.field(factory=trio.Event, init=False)

    def fence(self) -> Created:
        """The demand that each of its writes makes."""
        return self._put


@attrs.frozen
class _Term:
    """A lease with which the key was put, and until when it is good without being renewed."""

    lease: Lease
    good_until_s: float
    put: Created


@attrs.define
class LastingProblem:
    """A problem that is logged at once, and then once a minute until it is over. `text` is "" while there is none."""

    text: str = ""
    _logged_s: float = attrs.field(default=-math.inf, init=False)

    def note(self, text: str, now: float) -> bool:
        """Whether it is to be logged now."""
        self.text, is_due = text, now >= self._logged_s + LOG_PROBLEM_EVERY_S
        if is_due:
            self._logged_s = now
        return is_due

    def clear(self) -> None:
        """It is over."""
        self.text, self._logged_s = "", -math.inf


@attrs.define
class Election:
    """One candidate. `key` is the one that all of them would put, `url` where this one is found when it is active."""

    etcd: Etcd
    key: str
    name: str
    url: str
    log: Log
    ttl_s: int = TTL_S
    look_every_s: float = LOOK_AT_KEY_EVERY_S
    _leader: Leader | None = attrs.field(default=None, init=False)
    _vacant: trio.Event = attrs.field(factory=trio.Event, init=False)
    _seen_at: int = attrs.field(default=0, init=False)
    _had_access: bool = attrs.field(default=False, init=False)
    _problem: LastingProblem = attrs.field(factory=LastingProblem, init=False)

    def current(self) -> Leader | None:
        """The active controller, None while it is unknown."""
        return self._leader

    def problem(self) -> str:
        """Why the active controller is unknown; "" if it is known."""
        return self._problem.text

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Leadership]:
        """Wait, as long as it takes, until this is the active controller; at the end another one may be. Raises Denied
        where etcd never granted access, so that this controller does not wait for a role that it could not take."""
        term = await self._win()
        leadership = Leadership(term.put)
        problem = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, term, leadership)
                try:
                    yield leadership
                except Exception as error:
                    problem = error  # raised below, where no group is made of it
                nursery.cancel_scope.cancel()
        finally:
            self._leader = None
            await self._resign(term.lease)
        if problem is not None:
            raise problem

    async def _win(self) -> _Term:
        while True:
            try:
                await self._demand_access()
                term = await self._try_to_win()
            except StoreError as problem:
                if isinstance(problem, Denied) and not self._had_access:
                    raise
                self._log_problem(problem)
                await trio.sleep(_again_s(problem))
                continue
            self._problem.clear()
            if term is not None:
                self._leader = Leader(self.name, self.url)
                self.log.info("election_won", controller=self.name)
                return term

    async def _demand_access(self) -> None:
        """Once: whether this controller may put the key. Nothing is put, because the demand cannot be met."""
        if not self._had_access:
            await self.etcd.commit([Changed(self.key, NO_REVISION)], [Put(self.key, b"")])
            self._had_access = True

    async def _try_to_win(self) -> _Term | None:
        """Be elected if the key is not there; else wait until it is not."""
        outcome = await self.etcd.read(Get(self.key))
        if outcome.found[0]:
            await self._wait_until_vacant(outcome.found[0][0], outcome.at)
            return None
        asked_s = trio.current_time()
        lease = await self.etcd.grant(self.ttl_s)
        won = False
        try:
            put = Put(self.key, _leader_bytes(Leader(self.name, self.url)), lease.number)
            outcome = await self.etcd.commit([Created(self.key, 0)], [put])
            won = outcome.agreed
        finally:
            if not won:
                await self._resign(lease)
        return _Term(lease, _good_until_s(asked_s, lease.ttl_s), Created(self.key, outcome.at)) if won else None

    async def _wait_until_vacant(self, item: KeyValue, at: int) -> None:
        self._vacant = trio.Event()
        self._note(item, at)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._look)
            await self._vacant.wait()
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        def note_event(event: WatchEvent) -> None:
            self._note(event.item, event.at)

        while True:
            try:
                await self.etcd.watch(self.key, self._seen_at + 1, note_event)
            except StoreError as problem:  # `_look` logs it
                await trio.sleep(_again_s(problem))

    async def _look(self) -> None:
        pause_s = self.look_every_s
        while True:
            await trio.sleep(pause_s)
            pause_s = self.look_every_s
            try:
                outcome = await self.etcd.read(Get(self.key))
            except StoreError as problem:
                self._log_problem(problem)
                pause_s = max(pause_s, _again_s(problem))
            else:
                self._problem.clear()
                self._note(next(iter(outcome.found[0]), None), outcome.at)

    def _note(self, item: KeyValue | None, at: int) -> None:
        """So it was in this revision of etcd."""
        self._seen_at = at
        if item is None:
            self._leader = None
            self._vacant.set()
        elif (leader := leader_of(item)) != self._leader:
            self._leader = leader
            self.log.info("other_controller_elected", controller=self.name, active=str(leader))

    async def _keep(self, term: _Term, leadership: Leadership) -> None:
        """Renew the lease for as long as it is good; then set `lost`. The key is read as well, because an operator may
        have deleted it. Besides, a member that is cut off from the others renews leases that they let end."""
        why = ""
        with trio.CancelScope(deadline=term.good_until_s) as scope:
            while True:
                await trio.sleep(term.lease.ttl_s / RENEWALS)
                asked_s = trio.current_time()
                try:
                    ttl_s = await self.etcd.renew(term.lease, RENEW_S)
                    (found,) = (await self.etcd.read(Get(self.key), within_s=RENEW_S)).found
                except StoreError as problem:
                    why = str(problem)
                    continue
                if ttl_s == 0 or [item.created for item in found] != [term.put.revision]:
                    why = "its lease or its key was taken away at etcd"
                    break
                scope.deadline, why = _good_until_s(asked_s, ttl_s), ""
        self._leader = None
        leadership.lost.set()
        reason = why or "its lease was not renewed in time"
        self.log.warning("leadership_lost", controller=self.name, reason=reason)

    async def _resign(self, lease: Lease) -> None:
        """If etcd cannot be reached, the lease runs out by itself."""
        with trio.move_on_after(RESIGN_S, shield=True), suppress(StoreError):
            await self.etcd.revoke(lease)

    def _log_problem(self, problem: StoreError) -> None:
        if self._problem.note(str(problem), trio.current_time()):
            self.log.warning("leader_lookup_failed", controller=self.name, reason=str(problem))


def leader_of(item: KeyValue) -> Leader:
    """The controller that put the key; for a key that was put by hand, its content."""
    try:
        plain = json.loads(item.value)
        return Leader(str(plain["name"]), str(plain["url"]))
    except (ValueError, LookupError, TypeError):
        return Leader(repr(item.value[:60]))


def _again_s(problem: StoreError) -> float:
    return DENIED_AGAIN_S if isinstance(problem, Denied) else ELECT_AGAIN_S


def _leader_bytes(leader: Leader) -> bytes:
    return json.dumps(attrs.asdict(leader)).encode()


def _good_until_s(asked_s: float, ttl_s: float) -> float:
    return asked_s + ttl_s * (1 - LEASE_MARGIN)
