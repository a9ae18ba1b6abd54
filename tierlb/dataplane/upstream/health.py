"""Active health checks: ask each endpoint whether it works, and report when the result changes.

Plain trio beside the reactor, one task per endpoint: it checks, waits, and checks again, so checks never pile up. What
results mean is in `balance.health`. A check is a TCP connect, or GET over a connection of its own, in the protocol that
the endpoint speaks with l7 tiers (`net.http_client`, `net.http2_client`), or a call of gRPC (`wire.grpc_health`). The
response's body is read to its end, within bounds, since an endpoint that stops in the middle of it does not work.

Only the endpoint is judged: where this node has no descriptor or port left, or woke up too late to see an answer in
time, there is no result. Left out: sharing results between nodes (each sees its own network).
"""

import errno
import os
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import attrs
import trio

from tierlb.balance.health import Health, pauses_s
from tierlb.model.address import Address
from tierlb.model.topology import HealthCheck, PoolProtocol
from tierlb.net.client_tls import HTTP_2, NO_HTTP_2, ClientTls, agreed_on_nothing, handshake_reason
from tierlb.net.http2_client import ask_http2
from tierlb.net.http_client import BadAnswer, HttpConnection
from tierlb.net.self_connect import abandon, reached_itself
from tierlb.net.shortage import has_route, is_own
from tierlb.net.sockaddr import socket_family
from tierlb.wire import grpc_health
from tierlb.wire.announcement import local_header
from tierlb.wire.http_fields import Header

HEALTH_CHECKS_AT_ONCE = 256
"""Descriptors are for clients; endpoints that hang for a second each do not hold up the others before that."""
CHECK_READ_BYTES = 16 * 1024
MAX_CHECK_ANSWER_BYTES = 256 * 1024
"""An endpoint that answers checks with more is judged by the status alone."""
LATE_SHARE = 0.5
"""If this node noticed the end of a check later than by this share of its timeout, it is the node that is slow."""
GREETING_S = 0.1
"""How long a TCP check waits for a server that speaks first (SMTP, MySQL, SSH); most do within a round trip. At most a
quarter of the check's timeout."""
PARTING_S = 1.0
"""How long a TCP check reads on after its end, so that what comes late does not meet a closed socket, which would reset
the connection. At most half of the check's timeout."""

K = TypeVar("K", bound=Hashable)


@attrs.frozen
class Result:
    """Of one check. `good` is None where the check itself could not be made; the reason is a line for operators."""

    good: bool | None
    reason: str


Probe = Callable[[Address, HealthCheck], Awaitable[Result]]


@attrs.define(eq=False)
class _Round(Generic[K]):
    """The checks of one endpoint. `reason` is that of the last result."""

    key: K
    address: Address
    check: HealthCheck
    health: Health
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    reason: str = ""
    hindered: bool = False


class HealthChecks(Generic[K]):
    """Checks the endpoints of the last `replace`. `on_change(key, healthy, reason)` is called at each change; an
    endpoint counts as healthy from the start, and again from when it is checked no more."""

    def __init__(
        self,
        on_change: Callable[[K, bool, str], None],
        rng: random.Random,
        log: Any,
        probe: Probe | None = None,
        tls_of: Callable[[K], ClientTls | None] = lambda key: None,
    ) -> None:
        """`tls_of`: what an endpoint speaks, None for plain TCP."""
        self._on_change = on_change
        self._rng = rng
        self._log = log
        self._probe = probe or check_once
        self._tls_of = tls_of
        self._rounds: dict[K, _Round[K]] = {}
        self._nursery: trio.Nursery | None = None
        self._at_once = trio.CapacityLimiter(HEALTH_CHECKS_AT_ONCE)

    def replace(self, endpoints: Iterable[tuple[K, Address, HealthCheck]]) -> None:
        """Check these from now on, also before `run` or after it. What is known of an address stays known."""
        before, self._rounds = self._rounds, {}
        for key, address, check in endpoints:
            old = before.get(key)
            same = old is not None and (old.address, old.check) == (address, check)
            self._rounds[key] = old if old and same else self._next_round(old, key, address, check)
        for key, old in before.items():
            now = self._rounds.get(key)
            if now is not old:
                old.scope.cancel()
                if not old.health.healthy and (now is None or now.health.healthy):
                    self._tell(key, True, "is not checked any more" if now is None else "has another address")
        self._start_new(before)

    def unhealthy(self) -> dict[K, str]:
        """The endpoints that are unhealthy, each with what the last check found."""
        return {key: each.reason for key, each in self._rounds.items() if not each.health.healthy}

    async def run(self) -> None:
        """Check for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._start_new({})
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _next_round(self, old: _Round[K] | None, key: K, address: Address, check: HealthCheck) -> _Round[K]:
        health = Health(check.healthy, check.unhealthy)
        if old is None or old.address != address:
            return _Round(key, address, check, health)
        health.healthy, health.known = old.health.healthy, old.health.known
        return _Round(key, address, check, health, reason=old.reason)

    def _start_new(self, before: dict[K, _Round[K]]) -> None:
        if self._nursery is not None:
            for key, each in self._rounds.items():
                if before.get(key) is not each:
                    self._nursery.start_soon(self._check_for_ever, each)

    async def _check_for_ever(self, each: _Round[K]) -> None:
        with each.scope:
            due_s = trio.current_time()
            for pause_s in pauses_s(each.check.interval_s, self._rng):
                due_s = max(due_s + pause_s, trio.current_time())  # a round that was held up is not made up for
                await trio.sleep_until(due_s)
                result = await self._checked(each)
                if self._rounds.get(each.key) is not each:
                    return
                self._note(each, result)

    async def _checked(self, each: _Round[K]) -> Result:
        try:
            async with self._at_once:
                tls = self._tls_of(each.key)
                if tls is not None:
                    return await check_once(each.address, each.check, tls)
                return await self._probe(each.address, each.check)
        except Exception as error:  # whatever it is, checks go on, and the endpoint is not to blame for a fault here
            self._log.error("health_check_broke", endpoint=str(each.key), error=repr(error))
            return Result(None, repr(error))

    def _note(self, each: _Round[K], result: Result) -> None:
        if result.good is None:
            if not each.hindered:
                self._log.warning("health_check_hindered", endpoint=str(each.key), reason=result.reason)
            each.hindered = True
            return
        each.hindered = False
        each.reason = result.reason
        if each.health.result(result.good):
            self._tell(each.key, result.good, result.reason)

    def _tell(self, key: K, healthy: bool, reason: str) -> None:
        try:
            self._on_change(key, healthy, reason)
        except Exception as error:  # a fault of the listener must not end the checks of all other endpoints
            self._log.error("health_change_not_taken", endpoint=str(key), error=repr(error))


async def check_once(address: Address, check: HealthCheck, tls: ClientTls | None = None) -> Result:
    """One check, within its timeout. With `tls` a connect is followed by its handshake."""
    try:
        with trio.socket.socket(socket_family(address)) as sock:
            result = await _checked_in_time(sock, address, check, tls)
            if result.good and check.path is None and check.grpc is None and tls is None:
                await _part(trio.SocketStream(sock), check.timeout_s)
            return result
    except OSError as error:
        return _failed(error, address)


async def _checked_in_time(
    sock: trio.socket.SocketType, address: Address, check: HealthCheck, tls: ClientTls | None
) -> Result:
    with trio.move_on_after(check.timeout_s) as scope:
        try:
            return await _connect_and_ask(sock, address, check, tls)
        except BadAnswer as error:
            return Result(False, f"gave no proper HTTP answer: {error}")
        except trio.BrokenResourceError:
            return Result(False, "reset the connection")
        except OSError as error:
            return _failed(error, address)
    if trio.current_time() > scope.deadline + LATE_SHARE * check.timeout_s:
        return Result(None, "this node is too busy to check")
    return Result(False, f"timed out after {check.timeout_s:g}s")


async def _connect_and_ask(
    sock: trio.socket.SocketType, address: Address, check: HealthCheck, tls: ClientTls | None
) -> Result:
    await sock.connect(address.sockaddr)
    if reached_itself(sock):
        abandon(sock)
        return Result(False, "connection refused")
    stream: trio.abc.Stream = trio.SocketStream(sock)
    speaks_http2 = check.protocol is PoolProtocol.H2C
    if check.announces is not None:
        await stream.send_all(local_header(check.announces))
    if tls is not None:
        secured = trio.SSLStream(
            trio.SocketStream(sock),
            tls.context_checks,
            server_hostname=tls.name_of(address.host),
            https_compatible=True,
        )
        stream = secured
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            reason = handshake_reason(error.__cause__ or error)
            if check.protocol is not PoolProtocol.H2 or not agreed_on_nothing(reason):
                return Result(False, f"the TLS handshake failed: {reason}")
            return Result(False, NO_HTTP_2)
        speaks_http2 = secured.selected_alpn_protocol() == HTTP_2
        if check.protocol is PoolProtocol.H2 and not speaks_http2:
            return Result(False, NO_HTTP_2)
    host = check.host or ("localhost" if address.is_unix else str(address))
    if check.grpc is not None:
        if not speaks_http2:
            return Result(False, "agreed on HTTP/1.1, over which there is no gRPC")
        return await _ask_grpc(stream, check.grpc, host, secured=tls is not None)
    if check.path is None:
        return Result(True, "connected")
    if speaks_http2:
        return await _ask_http2(stream, check, host, secured=tls is not None)
    return await _ask(HttpConnection(stream), check, host)


def _failed(error: OSError, address: Address) -> Result:
    """Of a check that ended with this error; `good` is None where this machine is the cause."""
    code = error.errno or 0
    own = is_own(code) and (code != errno.EADDRNOTAVAIL or has_route(address))
    return Result(None if own else False, os.strerror(code).lower() if code else str(error))


async def _part(stream: trio.SocketStream, timeout_s: float) -> None:
    """End a connection on which nothing was asked, as a client would: read the greeting of a server that speaks first,
    send the end, and read up to the server's. A reset counts as a failed connection at many servers; MySQL locks a host
    out after a hundred. The endpoint has shown that it accepts, so nothing that happens here is an error."""
    try:
        with trio.move_on_after(min(GREETING_S, timeout_s / 4)):
            await stream.receive_some(CHECK_READ_BYTES)
        await stream.send_eof()
        with trio.move_on_after(min(PARTING_S, timeout_s / 2)):
            read_bytes = 0
            while read_bytes < MAX_CHECK_ANSWER_BYTES and (data := await stream.receive_some(CHECK_READ_BYTES)):
                read_bytes += len(data)
    except (OSError, trio.BrokenResourceError):
        return


async def _ask(http: HttpConnection, check: HealthCheck, host: str) -> Result:
    fields = [("Host", host), ("User-Agent", "tierlb-health-check"), ("Accept", "*/*"), ("Connection", "close")]
    head = await http.ask("GET", check.path or "/", fields)
    while http.received_bytes <= MAX_CHECK_ANSWER_BYTES and await http.chunk():
        pass
    return _judged(head.status, check)


async def _ask_http2(stream: trio.abc.Stream, check: HealthCheck, host: str, *, secured: bool) -> Result:
    fields = _pseudo("GET", check.path or "/", host, secured=secured)
    fields += [(b"user-agent", b"tierlb-health-check"), (b"accept", b"*/*")]
    answer = await ask_http2(stream, fields, max_bytes=MAX_CHECK_ANSWER_BYTES)
    return _judged(answer.status, check)


async def _ask_grpc(stream: trio.abc.Stream, service: str, host: str, *, secured: bool) -> Result:
    """One call of the standard service, which every server of gRPC can have."""
    fields = _pseudo("POST", grpc_health.CHECK_PATH, host, secured=secured)
    fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"user-agent", b"tierlb-health-check")]
    answer = await ask_http2(stream, fields, grpc_health.check_request(service), max_bytes=MAX_CHECK_ANSWER_BYTES)
    if answer.status != HTTPStatus.OK:
        return Result(False, f"answered {answer.status}, which is no answer of gRPC")
    ends = dict(answer.trailers or answer.fields)
    return Result(*grpc_health.judge_check(answer.body, ends.get(b"grpc-status"), ends.get(b"grpc-message", b"")))


def _pseudo(method: str, path: str, host: str, *, secured: bool) -> list[Header]:
    return [
        (b":method", method.encode()),
        (b":scheme", b"https" if secured else b"http"),
        (b":authority", host.encode()),
        (b":path", path.encode()),
    ]


def _judged(status: int, check: HealthCheck) -> Result:
    if any(first <= status <= last for first, last in check.statuses):
        return Result(True, f"answered {status}")
    expected = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in check.statuses)
    return Result(False, f"answered {status}, expected {expected}")
