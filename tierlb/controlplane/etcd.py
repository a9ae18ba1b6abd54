"""A client of etcd, by the JSON gateway of version 3.4 and later: transactions, leases, a watch.

Several members of one etcd can be named. A call goes to the one that answered last, and on to the next where that one
does not answer in time. What only reads, or may happen twice, asks all of them in turn; a commit stops at the first
member that may have got it, for only its caller knows how to find out whether it was done (`Unsure`).

Left out: TLS and etcd's users, so etcd belongs into a network that only controllers reach.
"""

import json
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import attrs
import httpx
import trio

from tierlb.controlplane.durable import StoreError
from tierlb.wire import etcd as wire
from tierlb.wire.etcd import Demand, Event, Fault, Get, Lease, Operation, Outcome, Plain

SCHEME = "etcd://"
PREFIX = "tierlb"
HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9a-fA-F:.]+\]"
MEMBER = re.compile(rf"({HOST}):([0-9]{{1,5}})")
PREFIX_FORM = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")

CONNECT_S = 1.0
ANSWER_S = 2.0
"""In one network an answer takes milliseconds. When a member dies, the others elect for one to two seconds."""
ADVICE = {
    "database space exceeded": "make room (etcdctl compact, etcdctl defrag, etcdctl alarm disarm)",
    "message larger than max": "make the topology file smaller, or start etcd with a larger --max-request-bytes",
    "request is too large": "make the topology file smaller, or start etcd with a larger --max-request-bytes",
    "user name is empty": "it wants to know who asks, and tierlb does not log in: use one without users",
    "permission denied": "it wants to know who asks, and tierlb does not log in: use one without users",
    "HTTPS server": "it wants TLS: give it a listener without, in a network for controllers only",
    "status 404": "is it etcd 3.4 or later, with its gateway enabled (--enable-grpc-gateway)?",
}
OTHER_ADVICE = "see its log"
CORRECT = "correct `store` in the topology file"

T = TypeVar("T")


class Unreachable(StoreError):  # noqa: N818 (an event of normal operation)
    """No member could be asked, or none of those that were could answer a question."""


class Unsure(StoreError):  # noqa: N818 (an event of normal operation)
    """A member was asked and did not answer, so it may have been done, or may yet be."""


@attrs.frozen
class StoreUrl:
    """`members` are HOST:PORT, `prefix` is what all keys begin with."""

    members: tuple[str, ...]
    prefix: str = PREFIX

    def directory(self, cluster: str) -> str:
        """What the keys of this cluster begin with."""
        return f"{self.prefix}/{cluster}"


def parse_store_url(text: str) -> StoreUrl:
    """Read `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`. Raises ValueError with a sentence that says what to write."""
    place, _, prefix = text.removeprefix(SCHEME).partition("/")
    members = tuple(place.split(","))
    prefix = prefix.removesuffix("/") or PREFIX
    if not text.startswith(SCHEME) or not all(map(_is_member, members)) or not PREFIX_FORM.fullmatch(prefix):
        raise ValueError(f"{text!r} is no store: write {SCHEME}HOST:PORT or {SCHEME}HOST:PORT,HOST:PORT/PREFIX")
    return StoreUrl(members, prefix)


@attrs.define
class Etcd:
    """For the tasks of one trio run; `close` it at the end. Every call raises StoreError: Unreachable, Unsure, or that
    itself where etcd refuses."""

    members: Sequence[str]
    answer_s: float = ANSWER_S
    _turn: deque[str] = attrs.field(init=False)
    _http: httpx.AsyncClient = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turn = deque(self.members)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            trust_env=False,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # the usual one reads all authorities, for nothing here
        )

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await self._http.aclose()

    async def read(self, *wanted: Get, within_s: float | None = None) -> Outcome:
        """All of it as of one revision of etcd, the newest or a later one."""
        return await self._ask_each("kv/txn", wire.transaction((), wanted, ()), wire.read_outcome, within_s)

    async def commit(
        self, demands: Sequence[Demand], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Outcome:
        """In one step `then` if all demands are met, else `otherwise`. etcd takes 128 operations and 1.5 MiB."""
        body = wire.transaction(demands, then, otherwise)
        return await self._ask_each("kv/txn", body, wire.read_outcome, once=True)

    async def grant(self, ttl_s: int) -> Lease:
        """A lease that nobody knows of, if the answer is lost, just runs out."""
        return await self._ask_each("lease/grant", wire.grant(ttl_s), wire.read_lease)

    async def renew(self, lease: Lease, within_s: float) -> int:
        """For how many seconds from the call on it holds; 0 if there is no such lease any more."""
        return await self._ask_each("lease/keepalive", wire.of_lease(lease.number), wire.read_renewal, within_s)

    async def revoke(self, lease: Lease) -> None:
        """End it, and delete what was put with it. It is an error if it has ended."""
        await self._ask_each("lease/revoke", wire.of_lease(lease.number), wire.read_revocation)

    async def watch(self, key: str, since: int, heed: Callable[[Event], None]) -> None:
        """Tell each change of the key from revision `since` of etcd on. Never returns: raises StoreError where the
        connection cannot be had or ends, or etcd has forgotten what was then."""
        member = self._turn[0]
        try:
            why = await self._follow(member, wire.watch(key, since), heed)
        except httpx.RequestError as error:
            why = _text(error)
        self._pass_over(member)
        raise Unreachable(f"etcd at {member} tells no changes ({why}): {_advice(why)}")

    async def _follow(self, member: str, body: Plain, heed: Callable[[Event], None]) -> str:
        """Why it ended. The loop is left by cancelling what it waits for: nothing else ends all of the generators
        that httpx reads with before they are garbage."""
        why = ""
        with trio.CancelScope(deadline=trio.current_time() + self.answer_s) as scope:
            async with aclosing(await self._http.send(_request(member, "watch", body), stream=True)) as response:
                scope.deadline = float("inf")
                async for line in response.aiter_lines():
                    if not why and (why := _tell(line, heed)):
                        scope.cancel()
                why = why or "it has closed the connection"
        return why or f"no answer in {self.answer_s:g} s"

    async def _ask_each(
        self, call: str, body: Plain, read: Callable[[object], T], within_s: float | None = None, *, once: bool = False
    ) -> T:
        """The first answer. `once`: no other member is asked where this one may have done it."""
        problems = []
        for member in tuple(self._turn):
            try:
                return await self._ask(member, call, body, read, within_s or self.answer_s)
            except (Unreachable, Unsure) as problem:
                self._pass_over(member)
                if once and isinstance(problem, Unsure):
                    raise
                problems.append(str(problem))
        raise Unreachable("; ".join(problems))

    def _pass_over(self, member: str) -> None:
        """Another one is asked first from now on, if that has not been seen to already."""
        if self._turn[0] == member:
            self._turn.rotate(-1)

    async def _ask(self, member: str, call: str, body: Plain, read: Callable[[object], T], within_s: float) -> T:
        try:
            with trio.fail_after(within_s):
                response = await self._http.send(_request(member, call, body))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"etcd at {member} cannot be reached ({_text(error)}): start it, or {CORRECT}") from error
        except httpx.RequestError as error:
            raise Unsure(f"etcd at {member} did not answer ({_text(error)}): {OTHER_ADVICE}") from error
        except trio.TooSlowError as error:
            raise Unsure(f"etcd at {member} did not answer in {within_s:g} s: {OTHER_ADVICE}") from error
        return _answer(member, response, read)


def _is_member(text: str) -> bool:
    found = MEMBER.fullmatch(text)
    return found is not None and 1 <= int(found[3]) <= 65535


class _Body(httpx.AsyncByteStream):
    """What is sent. httpx would make an async generator of it, which becomes garbage, and a warning of trio, where the
    connection breaks meanwhile."""

    def __init__(self, content: bytes) -> None:
        self._left = [content]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _request(member: str, call: str, body: Plain) -> httpx.Request:
    content = json.dumps(body).encode()
    fields = {"host": member, "content-type": "application/json", "content-length": str(len(content))}
    return httpx.Request("POST", f"http://{member}/v3/{call}", headers=fields, stream=_Body(content))


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _advice(fault: str) -> str:
    return next((advice for part, advice in ADVICE.items() if part in fault), OTHER_ADVICE)


def _answer(member: str, response: httpx.Response, read: Callable[[object], T]) -> T:
    fault = wire.read_fault(response.status_code, response.content)
    if fault is not None and fault.undecided:
        raise Unsure(f"etcd at {member} failed ({fault.text}): {_advice(fault.text)}")
    if fault is not None:
        raise StoreError(f"etcd at {member} refused ({fault.text}): {_advice(fault.text)}")
    try:
        return read(wire.read_json(response.content))
    except ValueError as error:
        raise StoreError(f"{member} does not answer as etcd does: {CORRECT}") from error


def _tell(line: str, heed: Callable[[Event], None]) -> str:
    """Pass on what a line of a watch says; why the watch is over, if it is."""
    try:
        events = wire.read_events(wire.read_json(line))
    except ValueError:
        return "it does not answer as etcd does"
    if isinstance(events, Fault):
        return events.text
    for event in events:
        heed(event)
    return ""
