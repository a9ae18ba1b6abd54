"""A client of etcd, by the JSON gateway of version 3.4 and later: transactions, leases, a watch.

Several members of one etcd can be named. A call goes to the one that answered last, and on to the next where that one
does not answer in time. What only reads, or may happen twice, asks all of them in turn. A commit stops at the first
member that may have got it, because only its caller can find out whether it was done (`EtcdUnsure`). Where the user is
denied something, no other member is asked.

Left out: the call to one member (etcd_calls.py).
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from tierlb.controller.etcd_access import Denied, login_of, parse_store_url, tls_context
from tierlb.controller.etcd_advice import NAME_USER, advice_for
from tierlb.controller.etcd_calls import EtcdCalls, EtcdUnreachable, EtcdUnsure
from tierlb.model.topology import SharedStore
from tierlb.wire import etcd as wire
from tierlb.wire.etcd import Demand, Get, Lease, Plain, TxnOperation, TxnResult, WatchEvent

ETCD_ANSWER_S = 2.0
"""In one network an answer takes milliseconds. When a member dies, the others elect for one to two seconds."""

T = TypeVar("T")


def open_etcd(store: SharedStore) -> "Etcd":
    """The client of a topology's store. Raises StoreError where a file that it names cannot be used."""
    return Etcd(parse_store_url(store.url).members, EtcdCalls(tls_context(store), login_of(store)))


@attrs.define
class Etcd:
    """For the tasks of one trio run; `close` it at the end. Every call raises StoreError: EtcdUnreachable, EtcdUnsure,
    Denied, or that itself where etcd refuses."""

    members: Sequence[str]
    calls: EtcdCalls = attrs.field(factory=EtcdCalls)
    answer_s: float = ETCD_ANSWER_S
    _turn: deque[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turn = deque(self.members)

    async def close(self) -> None:
        """Close every connection."""
        await self.calls.close()

    async def read(self, *wanted: Get, within_s: float | None = None) -> TxnResult:
        """All of it as of one revision of etcd, the newest or a later one."""
        return await self._ask_each("kv/txn", wire.transaction((), wanted, ()), wire.read_outcome, within_s)

    async def commit(
        self, demands: Sequence[Demand], then: Sequence[TxnOperation], otherwise: Sequence[TxnOperation] = ()
    ) -> TxnResult:
        """In one step `then` if all demands are met, else `otherwise`. etcd takes 128 operations and 1.5 MiB."""
        body = wire.transaction(demands, then, otherwise)
        return await self._ask_each("kv/txn", body, wire.read_outcome, once=True)

    async def grant(self, ttl_s: int) -> Lease:
        """If the answer is lost, the lease just runs out."""
        return await self._ask_each("lease/grant", wire.grant(ttl_s), wire.read_lease)

    async def renew(self, lease: Lease, within_s: float) -> int:
        """For how many seconds from the call on it holds; 0 if there is no such lease any more."""
        return await self._ask_each("lease/keepalive", wire.of_lease(lease.number), wire.read_renewal, within_s)

    async def revoke(self, lease: Lease) -> None:
        """End it, and delete what was put with it. It is an error if it has ended."""
        await self._ask_each("lease/revoke", wire.of_lease(lease.number), wire.read_revocation)

    async def watch(self, key: str, since: int, on_event: Callable[[WatchEvent], None]) -> None:
        """Call `on_event` with each change of the key from revision `since` of etcd on. Never returns: raises
        StoreError where the connection fails or ends, or etcd has forgotten that revision."""
        member = self._turn[0]
        try:
            end = await self.calls.watch(member, wire.watch(key, since), on_event, self.answer_s)
        except EtcdUnreachable:
            self._pass_over(member)
            raise
        self._pass_over(member)
        kind = Denied if end.is_denied else EtcdUnreachable
        advice = NAME_USER if end.is_denied and self.calls.login is None else advice_for(end.text)
        raise kind(f"etcd at {member} sends no changes ({end.text}): {advice}")

    async def _ask_each(
        self, call: str, body: Plain, read: Callable[[object], T], within_s: float | None = None, *, once: bool = False
    ) -> T:
        """The first answer. `once`: no other member is asked where this one may have done it."""
        problems = []
        for member in tuple(self._turn):
            try:
                return await self.calls.ask(member, call, body, read, within_s or self.answer_s)
            except (EtcdUnreachable, EtcdUnsure) as problem:
                self._pass_over(member)
                if once and isinstance(problem, EtcdUnsure):
                    raise
                problems.append(str(problem))
        raise EtcdUnreachable("; ".join(problems))

    def _pass_over(self, member: str) -> None:
        """Another one is asked first from now on, if that has not been seen to already."""
        if self._turn[0] == member:
            self._turn.rotate(-1)
