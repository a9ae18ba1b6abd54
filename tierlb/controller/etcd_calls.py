"""Calls to one member of etcd: HTTP, TLS and the login.

Where etcd has users, one logs in first, and again whenever etcd has forgotten it, because tokens end. What was asked
for was not done then, so it is asked again, and no caller notices. What is not granted to the user is `Denied`.
"""

import json
import ssl
from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.etcd_access import Denied, Login
from tierlb.controller.etcd_advice import (
    A_CERTIFICATE,
    CORRECT,
    MAYBE_TLS,
    NAME_USER,
    SEE_ITS_LOG,
    advice_for,
    is_handshake,
    problem_text,
)
from tierlb.controller.etcd_http import MAX_WATCH_LINE_BYTES, NO_ANSWER, EtcdAnswer, EtcdConnections, NotSent
from tierlb.wire import etcd as wire
from tierlb.wire.etcd import EtcdFault, Plain, WatchEvent

LOGINS = 2
"""For one call: the second one where the token of the first had ended."""

T = TypeVar("T")


class EtcdUnreachable(StoreError):  # noqa: N818 (an event of normal operation)
    """No member could be asked, or none of those that were could answer a question."""


class EtcdUnsure(StoreError):  # noqa: N818 (an event of normal operation)
    """A member was asked and did not answer, so it may have been done, or may yet be."""


@attrs.define
class EtcdCalls:
    """Every call raises StoreError: EtcdUnreachable, EtcdUnsure, Denied, or that itself where etcd refuses."""

    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    login: Login | None = None
    token: str | None = attrs.field(default=None, init=False, repr=False)
    """Of the last login."""
    _http: EtcdConnections = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._http = EtcdConnections(self.tls)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def ask(self, member: str, call: str, body: Plain, read: Callable[[object], T], within_s: float) -> T:
        """What `read` finds in the answer of the member."""
        for _ in range(LOGINS):
            token = await self._token_for(member, within_s)
            answer = await self._send(member, call, body, token, within_s)
            fault = wire.read_fault(answer.status, answer.content)
            if fault is None or not self._forgot(fault, token):
                break
        return _read_answer(member, answer, read, knows_user=self.login is not None)

    async def watch(
        self, member: str, body: Plain, on_event: Callable[[WatchEvent], None], answer_s: float
    ) -> EtcdFault:
        """Why it ended. A watch that is refused has passed on nothing, so it can begin again."""
        end = EtcdFault("", undecided=True)
        for _ in range(LOGINS):
            token = await self._token_for(member, answer_s)
            try:
                end = EtcdFault(await self._follow(member, body, token, on_event, answer_s), undecided=True)
            except (NotSent, *NO_ANSWER) as error:
                end = EtcdFault(problem_text(error), undecided=True)
            if not self._forgot(end, token):
                break
        return end

    async def _follow(
        self, member: str, body: Plain, token: str, on_event: Callable[[WatchEvent], None], answer_s: float
    ) -> str:
        """Why it ended."""
        with trio.move_on_after(answer_s) as scope:
            async with self._http.asking(member, *_gateway_request("watch", body, token)) as (_, http):
                scope.deadline = float("inf")
                while (line := await http.line(MAX_WATCH_LINE_BYTES)) is not None:
                    if why := _pass_on(line, on_event):
                        return why
                return "it has closed the connection"
        return f"no answer in {answer_s:g} s"

    async def _send(self, member: str, call: str, body: Plain, token: str, within_s: float) -> EtcdAnswer:
        try:
            with trio.fail_after(within_s):
                return await self._http.post(member, *_gateway_request(call, body, token))
        except (NotSent, *NO_ANSWER) as error:
            why = problem_text(error)
            if isinstance(error, NotSent) or is_handshake(error):
                advice = advice_for(why, f"start it, or {CORRECT}")
                raise EtcdUnreachable(f"etcd at {member} cannot be reached ({why}): {advice}") from error
            raise EtcdUnsure(f"etcd at {member} did not answer ({why}): {advice_for(why, self._silence())}") from error
        except trio.TooSlowError as error:
            raise EtcdUnsure(f"etcd at {member} did not answer in {within_s:g} s: {SEE_ITS_LOG}") from error

    def _silence(self) -> str:
        """With TLS 1.3, a member that refuses a certificate may be gone before its alert arrives."""
        return MAYBE_TLS if self.tls is None else f"{SEE_ITS_LOG}; it may demand {A_CERTIFICATE}"

    async def _token_for(self, member: str, within_s: float) -> str:
        """Empty where etcd has no users."""
        if self.login is None:
            return ""
        if self.token is None:
            self.token = await self._log_in(member, self.login, within_s)
        return self.token

    async def _log_in(self, member: str, login: Login, within_s: float) -> str:
        password = await trio.to_thread.run_sync(login.password, abandon_on_cancel=True)
        body = wire.authenticate(login.user, password)
        try:
            answer = await self._send(member, "auth/authenticate", body, "", within_s)
            fault = wire.read_fault(answer.status, answer.content)
            if fault is not None and fault.is_auth_off:
                return ""
            return _read_answer(member, answer, wire.read_auth_token)
        except EtcdUnsure as problem:
            raise EtcdUnreachable(str(problem)) from problem  # nothing that matters was asked for

    def _forgot(self, fault: EtcdFault, token: str) -> bool:
        """Whether etcd has forgotten the token; then the next call logs in."""
        if self.login is None or not (fault.is_unauthenticated or (fault.is_denied and not token)):
            return False
        if self.token == token:
            self.token = None
        return True


def _gateway_request(call: str, body: Plain, token: str) -> tuple[str, dict[str, str], bytes]:
    """Path, fields and content."""
    fields = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    return f"/v3/{call}", fields, json.dumps(body).encode()


def _read_answer(member: str, answer: EtcdAnswer, read: Callable[[object], T], *, knows_user: bool = True) -> T:
    fault = wire.read_fault(answer.status, answer.content)
    if fault is not None and fault.undecided:
        raise EtcdUnsure(f"etcd at {member} failed ({fault.text}): {advice_for(fault.text)}")
    if fault is not None:
        kind = Denied if fault.is_denied else StoreError
        advice = advice_for(fault.text) if knows_user or not fault.is_denied else NAME_USER
        raise kind(f"etcd at {member} refused ({fault.text}): {advice}")
    try:
        return read(wire.read_json(answer.content))
    except ValueError as error:
        raise StoreError(f"{member} does not answer as etcd does: {CORRECT}") from error


def _pass_on(line: bytes, on_event: Callable[[WatchEvent], None]) -> str:
    """Pass on the events in a line of a watch; why the watch is over, if it is."""
    try:
        events = wire.read_events(wire.read_json(line))
    except ValueError:
        return "it does not answer as etcd does"
    if isinstance(events, EtcdFault):
        return events.text
    for event in events:
        on_event(event)
    return ""
