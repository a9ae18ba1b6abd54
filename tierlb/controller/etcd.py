"""A client of etcd, by the JSON gateway of version 3.4 and later: transactions, leases, a watch.

Several members of one etcd can be named. A call goes to the one that answered last, and on to the next where that one
does not answer in time. What only reads, or may happen twice, asks all of them in turn; a commit stops at the first
member that may have got it, for only its caller knows how to find out whether it was done (`EtcdUnsure`).

Where etcd has users, one logs in first, and again whenever etcd has forgotten it, for tokens end. What was asked for
was not done then, so it is asked again and no caller hears of it. What is not granted to the user is `Denied`, and no
other member is asked.
"""

import json
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import attrs
import httpx
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.etcd_access import Denied, Login, login_of, parse_store_url, tls_context
from tierlb.controller.etcd_http import EtcdBody, Transport
from tierlb.model.topology import SharedStore
from tierlb.wire import etcd as wire
from tierlb.wire.etcd import Demand, Event, Fault, Get, Lease, Operation, Outcome, Plain

CONNECT_S = 1.0
ETCD_ANSWER_S = 2.0
"""In one network an answer takes milliseconds. When a member dies, the others elect for one to two seconds."""
LOGINS = 2
"""For one call: the second one where the token of the first had ended."""
NOT_TRUSTED = "its certificate is not trusted"
A_CERTIFICATE = "a certificate for clients from whom it trusts: `certificate` and `key` of `store`"
NAME_USER = "it wants to know who asks: name `user` and `password_file` of `store` in the topology file"
NO_TLS = "it has no TLS there: write etcd:// in `store`"
MAYBE_TLS = "see its log; if it wants TLS, write etcds:// in `store`"
ETCD_ADVICE = {
    "database space exceeded": "make room (etcdctl compact, etcdctl defrag, etcdctl alarm disarm)",
    "message larger than max": "make the topology file smaller, or start etcd with a larger --max-request-bytes",
    "request is too large": "make the topology file smaller, or start etcd with a larger --max-request-bytes",
    "user name is empty": NAME_USER,
    "authentication failed": "correct `user` of `store` in the topology file, or the password in its `password_file`",
    "permission denied": (
        "allow it to a role of the user (etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX/CLUSTER/)"
    ),
    "CommonName of client": "where etcd has users, a `certificate` of `store` has to be one without a common name",
    "HTTPS server": "it wants TLS: write etcds:// in `store`, and in its `ca` who signed the certificate",
    "mismatch": "name each member in `store` as its certificate does",
    "expired": "have the certificate renewed",
    NOT_TRUSTED: "name in `ca` of `store` who signed it",
    "wrong version number": NO_TLS,
    "eof while reading": f"see its log; maybe {NO_TLS}",
    "alert": f"it wants {A_CERTIFICATE}",
    "status 404": "is it etcd 3.4 or later, with its gateway enabled (--enable-grpc-gateway)?",
}
SEE_ITS_LOG = "see its log"
CORRECT = "correct `store` in the topology file"

T = TypeVar("T")


class EtcdUnreachable(StoreError):  # noqa: N818 (an event of normal operation)
    """No member could be asked, or none of those that were could answer a question."""


class EtcdUnsure(StoreError):  # noqa: N818 (an event of normal operation)
    """A member was asked and did not answer, so it may have been done, or may yet be."""


def open_etcd(store: SharedStore) -> "Etcd":
    """The client of a topology's store. Raises StoreError where a file that it names cannot be used."""
    return Etcd(parse_store_url(store.url).members, tls=tls_context(store), login=login_of(store))


@attrs.define
class Etcd:
    """For the tasks of one trio run; `close` it at the end. Every call raises StoreError: EtcdUnreachable, EtcdUnsure,
    Denied, or that itself where etcd refuses."""

    members: Sequence[str]
    answer_s: float = ETCD_ANSWER_S
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    login: Login | None = None
    _token: str | None = attrs.field(default=None, init=False, repr=False)
    _turn: deque[str] = attrs.field(init=False)
    _http: httpx.AsyncClient = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turn = deque(self.members)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_S), trust_env=False, transport=Transport(self.tls)
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
            end = await self._watch_at(member, wire.watch(key, since), heed)
        except EtcdUnreachable:
            self._pass_over(member)
            raise
        self._pass_over(member)
        kind = Denied if end.is_denial else EtcdUnreachable
        advice = NAME_USER if end.is_denial and self.login is None else _advice_for(end.text)
        raise kind(f"etcd at {member} tells no changes ({end.text}): {advice}")

    async def _watch_at(self, member: str, body: Plain, heed: Callable[[Event], None]) -> Fault:
        """Why it ended. One that is refused has told nothing, so it can be begun again."""
        end = Fault("", undecided=True)
        for _ in range(LOGINS):
            token = await self._token_for(member, self.answer_s)
            try:
                end = Fault(await self._follow(self._request(member, "watch", body, token), heed), undecided=True)
            except httpx.RequestError as error:
                end = Fault(_problem_text(error), undecided=True)
            if not self._forgot(end, token):
                break
        return end

    async def _follow(self, request: httpx.Request, heed: Callable[[Event], None]) -> str:
        """Why it ended. The loop is left by cancelling what it waits for: nothing else ends all of the generators
        that httpx reads with before they are garbage."""
        why = ""
        with trio.CancelScope(deadline=trio.current_time() + self.answer_s) as scope:
            async with aclosing(await self._http.send(request, stream=True)) as response:
                scope.deadline = float("inf")
                async for line in response.aiter_lines():
                    if not why and (why := _pass_on(line, heed)):
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

    async def _ask(self, member: str, call: str, body: Plain, read: Callable[[object], T], within_s: float) -> T:
        for _ in range(LOGINS):
            token = await self._token_for(member, within_s)
            response = await self._send(self._request(member, call, body, token), within_s)
            fault = wire.read_fault(response.status_code, response.content)
            if fault is None or not self._forgot(fault, token):
                break
        return _read_answer(member, response, read, knows_user=self.login is not None)

    async def _send(self, request: httpx.Request, within_s: float) -> httpx.Response:
        member = request.headers["host"]
        try:
            with trio.fail_after(within_s):
                return await self._http.send(request)
        except httpx.RequestError as error:
            why = _problem_text(error)
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) or _is_handshake(error):
                advice = _advice_for(why, f"start it, or {CORRECT}")
                raise EtcdUnreachable(f"etcd at {member} cannot be reached ({why}): {advice}") from error
            raise EtcdUnsure(f"etcd at {member} did not answer ({why}): {_advice_for(why, self._silence())}") from error
        except trio.TooSlowError as error:
            raise EtcdUnsure(f"etcd at {member} did not answer in {within_s:g} s: {SEE_ITS_LOG}") from error

    def _silence(self) -> str:
        """With TLS 1.3 whoever refuses a certificate may be gone before it has said so."""
        return MAYBE_TLS if self.tls is None else f"{SEE_ITS_LOG}; it may want {A_CERTIFICATE}"

    async def _token_for(self, member: str, within_s: float) -> str:
        """Empty where nobody has to log in."""
        if self.login is None:
            return ""
        if self._token is None:
            self._token = await self._log_in(member, self.login, within_s)
        return self._token

    async def _log_in(self, member: str, login: Login, within_s: float) -> str:
        password = await trio.to_thread.run_sync(login.password, abandon_on_cancel=True)
        body = wire.authenticate(login.user, password)
        try:
            response = await self._send(self._request(member, "auth/authenticate", body, ""), within_s)
            fault = wire.read_fault(response.status_code, response.content)
            if fault is not None and fault.knows_no_users:
                return ""
            return _read_answer(member, response, wire.read_token)
        except EtcdUnsure as problem:
            raise EtcdUnreachable(str(problem)) from problem  # nothing that matters was asked for

    def _forgot(self, fault: Fault, token: str) -> bool:
        """Whether etcd knows no such token; then the next one who asks logs in."""
        if self.login is None or not (fault.is_stranger or (fault.is_denial and not token)):
            return False
        if self._token == token:
            self._token = None
        return True

    def _request(self, member: str, call: str, body: Plain, token: str) -> httpx.Request:
        content = json.dumps(body).encode()
        fields = {"host": member, "content-type": "application/json", "content-length": str(len(content))}
        if token:
            fields["authorization"] = token
        scheme = "http" if self.tls is None else "https"
        return httpx.Request("POST", f"{scheme}://{member}/v3/{call}", headers=fields, stream=EtcdBody(content))


def _problem_text(error: BaseException) -> str:
    """httpx leaves out what is the matter with TLS."""
    problem = _tls_problem(error)
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"{NOT_TRUSTED}: {problem.verify_message.rstrip('.')}"
    if problem is not None and problem.reason:
        return problem.reason.replace("_", " ").lower()
    return str(error) or type(error).__name__


def _tls_problem(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _is_handshake(error: Exception) -> bool:
    """Whether a certificate was refused, so nothing was heard after it."""
    problem = _tls_problem(error)
    reason = (problem and problem.reason) or ""
    return "ALERT" in reason and any(part in reason for part in ("CERT", "UNKNOWN_CA"))


def _advice_for(fault: str, other: str = SEE_ITS_LOG) -> str:
    return next((advice for part, advice in ETCD_ADVICE.items() if part in fault), other)


def _read_answer(member: str, response: httpx.Response, read: Callable[[object], T], *, knows_user: bool = True) -> T:
    fault = wire.read_fault(response.status_code, response.content)
    if fault is not None and fault.undecided:
        raise EtcdUnsure(f"etcd at {member} failed ({fault.text}): {_advice_for(fault.text)}")
    if fault is not None:
        kind = Denied if fault.is_denial else StoreError
        advice = _advice_for(fault.text) if knows_user or not fault.is_denial else NAME_USER
        raise kind(f"etcd at {member} refused ({fault.text}): {advice}")
    try:
        return read(wire.read_json(response.content))
    except ValueError as error:
        raise StoreError(f"{member} does not answer as etcd does: {CORRECT}") from error


def _pass_on(line: str, heed: Callable[[Event], None]) -> str:
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
