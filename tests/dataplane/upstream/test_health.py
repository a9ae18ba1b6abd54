"""Single checks against small real servers; the rounds with a scripted probe in virtual time, and once for real."""

import contextlib
import errno
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
import trio
import trio.testing
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from tests.certificates import NAME, Authority
from tests.dataplane.conftest import Lab, below, l7
from tests.dataplane.l7.test_connecting import credentials
from tests.dataplane.upstream.test_endpoint_tls import accepts, server
from tierlb.balance.availability import Availability
from tierlb.dataplane.upstream.health import (
    CHECK_READ_BYTES,
    GREETING_S,
    HEALTH_CHECKS_AT_ONCE,
    MAX_CHECK_ANSWER_BYTES,
    PARTING_S,
    HealthChecks,
    Result,
    _part,
    check_once,
)
from tierlb.model.address import Address
from tierlb.model.snapshot import HostSpec, PoolSettings
from tierlb.model.tls import PoolTls
from tierlb.model.topology import HealthCheck, PoolProtocol
from tierlb.net.client_tls import ClientTls

SERVING, NOT_SERVING = (health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING"))
DEADLINE_S = 30.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTP = HealthCheck(path="/up?deep=1", timeout_s=2.0)
HASTY = HealthCheck(path="/up", timeout_s=0.1)
TCP = HealthCheck(timeout_s=2.0)
ADDRESS = Address("127.0.0.1", 1)


@attrs.define
class Server:
    """Answers each connection with `answer`, in one piece or byte by byte; then closes, or waits for the other end."""

    answer: bytes = OK
    closes: bool = False
    dribbles: bool = False
    heard: list[bytes] = attrs.field(factory=list)
    open: int = 0
    most_open: int = 0
    ends: list[bytes] = attrs.field(factory=list)

    async def serve(self, stream):
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.talk(stream)
        except trio.BrokenResourceError:
            self.ends.append(b"reset")
        finally:
            self.open -= 1

    async def talk(self, stream):
        async with stream:
            self.heard.append(await stream.receive_some())
            for piece in [bytes([byte]) for byte in self.answer] if self.dribbles else [self.answer]:
                await stream.send_all(piece)
            if not self.closes:
                self.ends.append(await stream.receive_some())

    async def listen(self, nursery, host="127.0.0.1"):
        listeners = await nursery.start(partial(trio.serve_tcp, self.serve, 0, host=host))
        return Address(host, listeners[0].socket.getsockname()[1])


def unused_address():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", sock.getsockname()[1])


async def check(address, how):
    with trio.fail_after(DEADLINE_S):
        return await check_once(address, how)


def statuses(*ranges):
    return attrs.evolve(HTTP, statuses=ranges)


def answer(status, body=b"", fields=b""):
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, fields, len(body), body)


@pytest.mark.parametrize(
    ("said", "how", "result"),
    [
        (OK, HTTP, Result(True, "answered 200")),
        (answer(399), HTTP, Result(True, "answered 399")),
        (answer(404), HTTP, Result(False, "answered 404, expected 200-399")),
        (answer(500, b"sorry"), HTTP, Result(False, "answered 500, expected 200-399")),
        (answer(200), statuses((204, 204), (300, 399)), Result(False, "answered 200, expected 204, 300-399")),
        (answer(302), statuses((204, 204), (300, 399)), Result(True, "answered 302")),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, HTTP, Result(True, "answered 200")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            HTTP,
            Result(True, "answered 200"),
        ),
        (answer(204), HTTP, Result(True, "answered 204")),
    ],
)
@pytest.mark.parametrize("dribbles", [False, True])
async def test_the_status_decides_however_the_answer_comes(said, how, result, dribbles, nursery):
    server = Server(said, dribbles=dribbles)
    assert await check(await server.listen(nursery), how) == result
    nursery.cancel_scope.cancel()


async def test_the_request_is_a_plain_get_that_says_who_asks(nursery):
    server = Server()
    address = await server.listen(nursery)
    await check(address, HTTP)
    await check(address, attrs.evolve(HTTP, host="shop.example:81"))
    lines = server.heard[0].decode().lower().split("\r\n")
    assert lines[0] == "get /up?deep=1 http/1.1"
    assert {f"host: {address}", "connection: close", "user-agent: tierlb-health-check"} <= set(lines)
    assert b"host: shop.example:81\r\n" in server.heard[1].lower()
    nursery.cancel_scope.cancel()


async def test_a_healthy_endpoint_s_connection_is_closed_and_not_reset(nursery):
    server = Server(answer(200, b"x" * 100_000))
    assert (await check(await server.listen(nursery), HTTP)).good
    with trio.fail_after(DEADLINE_S):
        while not server.ends:  # noqa: ASYNC110 (nothing tells of it)
            await trio.sleep(0.01)
    assert server.ends == [b""]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "gave no proper HTTP answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "gave no proper HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "gave no proper HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "gave no proper HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", "gave no proper HTTP answer"),
    ],
)
async def test_what_is_no_whole_answer_is_bad(said, reason, nursery):
    result = await check(await Server(said, closes=True).listen(nursery), HTTP)
    assert (result.good, result.reason[: len(reason)]) == (False, reason)
    nursery.cancel_scope.cancel()


async def test_a_reason_is_short_whatever_the_endpoint_says(nursery):
    result = await check(await Server(b"HTTP/1.1 200 OK\r\n" + b"\x01" * 9_000 + b": x\r\n\r\n").listen(nursery), HTTP)
    assert result.good is False
    assert 20 < len(result.reason) < 200
    nursery.cancel_scope.cancel()


async def test_a_body_that_ends_with_the_connection_is_whole(nursery):
    server = Server(b"HTTP/1.0 200 OK\r\n\r\nok", closes=True)
    assert await check(await server.listen(nursery), HTTP) == Result(True, "answered 200")
    nursery.cancel_scope.cancel()


async def test_of_an_answer_too_long_for_a_check_the_status_is_enough(nursery):
    """The server waits with the rest, so reading on would end in a timeout."""
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 2 * MAX_CHECK_ANSWER_BYTES)
    assert await check(await server.listen(nursery), HTTP) == Result(True, "answered 200")
    nursery.cancel_scope.cancel()


async def test_first_words_without_an_end_are_no_answer(nursery):
    server = Server(b"HTTP/1.1 103 Early\r\n\r\n" * (2 * MAX_CHECK_ANSWER_BYTES // 22))
    reason = "gave no proper HTTP answer: gave interim answers only"
    assert await check(await server.listen(nursery), HTTP) == Result(False, reason)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_who_hangs_before_the_end_of_its_answer_is_bad(said, nursery):
    result = await check(await Server(said).listen(nursery), HASTY)
    assert result == Result(False, "timed out after 0.1s")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", [HTTP, TCP])
async def test_who_refuses_is_bad(how):
    assert await check(unused_address(), how) == Result(False, "connection refused")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connect_is_enough_without_a_path(host, nursery):
    server = Server()
    assert await check(await server.listen(nursery, host), TCP) == Result(True, "connected")
    nursery.cancel_scope.cancel()


@attrs.define
class Greeter:
    """Speaks first, after a while, and notes how the other end leaves."""

    after_s: float = 0.0
    ends: list[str] = attrs.field(factory=list)

    async def serve(self, stream):
        await trio.sleep(self.after_s)
        try:
            await stream.send_all(b"220 mail.example ESMTP\r\n")
            word = await stream.receive_some()
            reset = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # of one that came behind the end
            self.ends.append("reset" if reset else "words" if word else "end")
        except trio.BrokenResourceError:
            self.ends.append("reset")
        await stream.aclose()


@pytest.mark.parametrize("after_s", [0.0, 0.3])
async def test_a_server_that_speaks_first_is_heard_and_left_without_a_reset(after_s, nursery):
    """The later greeting comes after the check has sent its end, which is when a closed socket would reset it."""
    greeter = Greeter(after_s)
    listeners = await nursery.start(partial(trio.serve_tcp, greeter.serve, 0, host="127.0.0.1"))
    address = Address("127.0.0.1", listeners[0].socket.getsockname()[1])
    assert await check(address, TCP) == Result(True, "connected")
    with trio.fail_after(DEADLINE_S):
        while not greeter.ends:  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)
    assert greeter.ends == ["end"]
    nursery.cancel_scope.cancel()


async def test_the_end_is_not_sent_before_a_server_could_speak(nursery, monkeypatch):
    """Some take an end that comes first for a broken connection."""
    monkeypatch.setattr("tierlb.dataplane.upstream.health.GREETING_S", DEADLINE_S)
    early = []

    async def serve(stream):
        with trio.move_on_after(0.2):
            early.append(await stream.receive_some())
        await stream.send_all(b"220 mail.example ESMTP\r\n")
        await stream.receive_some()

    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    address = Address("127.0.0.1", listeners[0].socket.getsockname()[1])
    slow = attrs.evolve(TCP, timeout_s=4 * DEADLINE_S)
    assert await check(address, slow) == Result(True, "connected")
    assert early == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("talks", [False, True])
async def test_a_server_that_does_not_leave_is_waited_for_within_bounds(talks, nursery, autojump_clock):
    theirs, ours = trio.testing.memory_stream_pair()

    async def talk():
        for _ in range(talks * 4 * MAX_CHECK_ANSWER_BYTES // CHECK_READ_BYTES):
            await theirs.send_all(b"x" * CHECK_READ_BYTES)

    async def send_eof():
        ours.ended = True

    ours.send_eof = send_eof
    nursery.start_soon(talk)
    before = trio.current_time()
    await _part(ours, 2.0)
    assert ours.ended
    assert trio.current_time() - before <= GREETING_S + PARTING_S
    with trio.move_on_after(1.0) as rest:
        await ours.receive_some()
    assert rest.cancelled_caught is not talks, "it does not read on for as long as the server talks"
    nursery.cancel_scope.cancel()


async def test_a_server_that_resets_at_once_has_accepted(nursery):
    async def serve(stream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    address = Address("127.0.0.1", listeners[0].socket.getsockname()[1])
    assert await check(address, TCP) == Result(True, "connected")
    nursery.cancel_scope.cancel()


async def test_a_full_backlog_is_a_bad_connect():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = Address(*listener.getsockname())
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address.sockaddr)
        result = await check(address, attrs.evolve(TCP, timeout_s=0.2))
        for sock in waiting:
            sock.close()
    assert result == Result(False, "timed out after 0.2s")


async def test_a_port_connected_to_itself_is_nobody_s(monkeypatch):
    with trio.socket.socket() as sock:
        kind = type(sock)
    connect = kind.connect

    async def from_its_own_port(sock, target):
        """What the kernel does once in some ten thousand connects, done every time."""
        await sock.bind(target)
        await connect(sock, target)

    monkeypatch.setattr(kind, "connect", from_its_own_port)
    assert await check(unused_address(), TCP) == Result(False, "connection refused")


@pytest.mark.parametrize(
    ("code", "good"), [(errno.EMFILE, None), (errno.EADDRNOTAVAIL, None), (errno.EHOSTUNREACH, False)]
)
async def test_a_lack_of_this_node_is_no_result_for_the_endpoint(code, good, monkeypatch):
    def socket_of(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(trio.socket, "socket", socket_of)
    assert await check(ADDRESS, TCP) == Result(good, os.strerror(code).lower())


async def test_an_answer_this_node_was_too_busy_to_hear_is_no_result(nursery, mock_clock):
    listener = socket.create_server(("127.0.0.1", 0))
    results = []

    async def ask():
        results.append(await check_once(Address(*listener.getsockname()), attrs.evolve(HTTP, timeout_s=1.0)))

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked(0.01)
    mock_clock.jump(1.6)
    with trio.fail_after(DEADLINE_S):
        while not results:
            await trio.lowlevel.checkpoint()
    listener.close()
    assert results == [Result(None, "this node is too busy to check")]


@attrs.define
class Script:
    """Plays the endpoints: per port what they answer next (the last stays), and what was heard of them."""

    answers: dict[int, str]
    lasts_s: float = 0.01
    asked: list[tuple[float, int]] = attrs.field(factory=list)
    told: list[tuple[str, bool, str]] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)
    busy: Counter[int] = attrs.field(factory=Counter)
    most_busy: int = 0
    overlaps: int = 0

    async def probe(self, address, check):
        port = address.port
        self.asked.append((trio.current_time(), port))
        self.overlaps += self.busy[port] > 0
        self.busy[port] += 1
        self.most_busy = max(self.most_busy, self.busy.total())
        try:
            await trio.sleep(self.lasts_s)
        finally:
            self.busy[port] -= 1
        answer, self.answers[port] = self.answers[port][0], self.answers[port][1:] or self.answers[port]
        if answer == "!":
            raise RuntimeError("a fault in the check")
        return Result({"+": True, "-": False, "?": None}[answer], answer)

    def tell(self, key, healthy, reason):
        self.told.append((key, healthy, reason))

    def error(self, event, **fields):
        self.errors.append(event)

    warning = error

    def checks(self):
        return HealthChecks(self.tell, random.Random(7), self, self.probe)


def endpoint(key, port, **how):
    return (key, Address("127.0.0.1", port), HealthCheck(**how))


async def started(script, nursery, *endpoints):
    checks = script.checks()
    checks.replace(endpoints)
    nursery.start_soon(checks.run)
    return checks


async def test_changes_are_told_and_nothing_else(nursery, autojump_clock):
    script = Script({1: "+--+---++-", 2: "+", 3: "-+++"})
    checks = await started(script, nursery, endpoint("a", 1), endpoint("b", 2), endpoint("c", 3))
    assert checks.unhealthy() == {}
    await trio.sleep(10.5 * 2)
    assert [told for told in script.told if told[0] == "a"][:2] == [("a", False, "-"), ("a", True, "+")]
    assert [told for told in script.told if told[0] != "a"] == [("c", False, "-"), ("c", True, "+")]
    nursery.cancel_scope.cancel()


async def test_the_unhealthy_are_known_with_what_was_found_last(nursery, autojump_clock):
    checks = await started(Script({1: "-", 2: "+"}), nursery, endpoint("a", 1), endpoint("b", 2))
    await trio.sleep(2)
    assert checks.unhealthy() == {"a": "-"}
    nursery.cancel_scope.cancel()


async def test_checks_of_an_endpoint_never_pile_up(nursery, autojump_clock):
    script = Script({1: "+"}, lasts_s=1.7)
    await started(script, nursery, endpoint("a", 1, interval_s=0.5))
    await trio.sleep(60)
    assert script.overlaps == 0
    assert len(script.asked) == pytest.approx(60 / 1.7, abs=1.5)
    nursery.cancel_scope.cancel()


async def test_a_round_that_was_held_up_is_not_made_up_for(nursery, autojump_clock):
    script = Script({1: "+"}, lasts_s=30.0)
    await started(script, nursery, endpoint("a", 1, interval_s=1.0))
    await trio.sleep(20)
    script.lasts_s = 0.0
    await trio.sleep(40)
    assert 25 <= len(script.asked) <= 36
    nursery.cancel_scope.cancel()


async def test_endpoints_are_checked_at_their_pace_and_out_of_step(nursery, autojump_clock):
    script = Script(dict.fromkeys(range(1, 101), "+"))
    await started(script, nursery, *(endpoint(f"e{port}", port, interval_s=10.0) for port in range(1, 101)))
    await trio.sleep(210)
    per_port = Counter(port for _, port in script.asked)
    assert set(per_port) == set(range(1, 101))
    assert all(19 <= count <= 25 for count in per_port.values())
    per_second = Counter(int(at_s) for at_s, _ in script.asked if at_s >= 20)
    assert max(per_second.values()) <= 30
    nursery.cancel_scope.cancel()


async def test_only_so_many_checks_run_at_once_and_all_come_to_their_turn(nursery, autojump_clock):
    count = 3 * HEALTH_CHECKS_AT_ONCE
    script = Script(dict.fromkeys(range(1, count + 1), "+"), lasts_s=1.0)
    await started(script, nursery, *(endpoint(port, port) for port in range(1, count + 1)))
    await trio.sleep(5)
    assert script.most_busy == HEALTH_CHECKS_AT_ONCE
    assert {port for _, port in script.asked} == set(range(1, count + 1))
    nursery.cancel_scope.cancel()


async def test_nothing_raised_stops_the_rounds(nursery, autojump_clock):
    script = Script({1: "!!-", 2: "-"})

    def tell(key, healthy, reason):
        script.tell(key, healthy, reason)
        raise ValueError("a fault in the listener")

    checks = HealthChecks(tell, random.Random(7), script, script.probe)
    checks.replace([endpoint("a", 1), endpoint("b", 2)])
    nursery.start_soon(checks.run)
    await trio.sleep(20)
    assert sorted(script.told) == [("a", False, "-"), ("b", False, "-")]
    assert Counter(script.errors) == {"health_check_broke": 2, "health_change_not_taken": 2, "health_check_hindered": 1}
    assert Counter(port for _, port in script.asked)[1] >= 9
    nursery.cancel_scope.cancel()


async def test_checks_that_could_not_be_made_change_nothing_and_are_said_once(nursery, autojump_clock):
    script = Script({1: "-???????????????+"})
    checks = await started(script, nursery, endpoint("a", 1, healthy=1))
    await trio.sleep(25)
    assert script.told == [("a", False, "-")]
    assert script.errors == ["health_check_hindered"]
    await trio.sleep(25)
    assert checks.unhealthy() == {}
    nursery.cancel_scope.cancel()


async def test_replaced_endpoints_are_checked_and_others_no_more(nursery, autojump_clock):
    script = Script({1: "+", 2: "+", 3: "+"})
    checks = await started(script, nursery, endpoint("a", 1), endpoint("b", 2))
    await trio.sleep(5)
    checks.replace([endpoint("b", 2), endpoint("c", 3)])
    script.asked.clear()
    await trio.sleep(9)
    assert {port for _, port in script.asked} == {2, 3}
    nursery.cancel_scope.cancel()


async def test_what_stays_keeps_its_rounds_and_what_is_known(nursery, autojump_clock):
    script = Script({1: "-"})
    checks = await started(script, nursery, endpoint("a", 1))
    await trio.sleep(2)
    for _ in range(100):
        checks.replace([endpoint("a", 1)])
        await trio.sleep(0.1)
    assert checks.unhealthy() == {"a": "-"}
    assert script.told == [("a", False, "-")]
    assert 6 <= len(script.asked) <= 8
    nursery.cancel_scope.cancel()


async def test_another_check_of_the_same_address_begins_with_what_is_known(nursery, autojump_clock):
    script = Script({1: "-+"})
    checks = await started(script, nursery, endpoint("a", 1))
    await trio.sleep(1.05)
    checks.replace([endpoint("a", 1, healthy=5)])
    assert checks.unhealthy() == {"a": "-"}
    await trio.sleep(5)
    assert script.told == [("a", False, "-")]
    await trio.sleep(8)
    assert script.told == [("a", False, "-"), ("a", True, "+")]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("then", "reason"),
    [((), "is not checked any more"), ((endpoint("a", 2),), "has another address")],
)
async def test_nobody_stays_unhealthy_by_checks_that_ended(then, reason, nursery, autojump_clock):
    script = Script({1: "-", 2: "+"})
    checks = await started(script, nursery, endpoint("a", 1))
    await trio.sleep(2)
    checks.replace(then)
    assert script.told == [("a", False, "-"), ("a", True, reason)]
    assert checks.unhealthy() == {}
    await trio.sleep(9)
    assert len(script.told) == 2
    nursery.cancel_scope.cancel()


async def test_a_result_on_its_way_when_its_endpoint_went_is_not_told(nursery, autojump_clock):
    script, answered = Script({}), trio.Event()

    async def probe(address, check):
        await answered.wait()
        return Result(False, "-")

    checks = HealthChecks(script.tell, random.Random(7), script, probe)
    checks.replace([endpoint("a", 1)])
    nursery.start_soon(checks.run)
    await trio.sleep(2)
    answered.set()
    checks.replace([])
    await trio.sleep(5)
    assert script.told == []
    nursery.cancel_scope.cancel()


async def test_endpoints_given_while_running_are_checked_too(nursery, autojump_clock):
    script = Script({1: "-"})
    checks = await started(script, nursery)
    await trio.sleep(1)
    checks.replace([endpoint("a", 1)])
    await trio.sleep(2)
    assert script.told == [("a", False, "-")]
    nursery.cancel_scope.cancel()


async def test_a_real_endpoint_that_flaps_is_followed(nursery):
    server = Server(answer(500))
    address = await server.listen(nursery)
    told = []
    changed = trio.Event()

    def tell(key, healthy, reason):
        told.append((key, healthy, reason))
        changed.set()

    checks = HealthChecks(tell, random.Random(1), None)
    how = HealthCheck(path="/", interval_s=0.1, timeout_s=0.1, healthy=2, unhealthy=2)
    checks.replace([("a", address, how)])
    nursery.start_soon(checks.run)
    with trio.fail_after(DEADLINE_S):
        for said in (OK, b"", OK):
            await changed.wait()
            changed = trio.Event()
            server.answer = said
        await changed.wait()
    assert told == [
        ("a", False, "answered 500, expected 200-399"),
        ("a", True, "answered 200"),
        ("a", False, "timed out after 0.1s"),
        ("a", True, "answered 200"),
    ]
    assert server.most_open <= 2
    nursery.cancel_scope.cancel()


# The health service of gRPC, with real servers.


@contextlib.contextmanager
def grpc_server(credentials: Any = None, *, checks: bool = True) -> Iterator[tuple[Any, Address]]:
    """A server of grpcio: its health service, and where it is."""
    server, service = grpc.server(ThreadPoolExecutor(2)), HealthServicer()
    if checks:
        health_pb2_grpc.add_HealthServicer_to_server(service, server)
    add = server.add_insecure_port if credentials is None else lambda at: server.add_secure_port(at, credentials)
    port = add("127.0.0.1:0")
    server.start()
    try:
        yield service, Address("127.0.0.1", port)
    finally:
        server.stop(None)


@pytest.mark.parametrize("secured", [False, True])
async def test_a_server_of_grpc_is_asked_whether_it_serves(tmp_path: Path, secured: bool) -> None:
    authority, tls = Authority(tmp_path), None
    protocol = PoolProtocol.H2 if secured else PoolProtocol.H2C
    if secured:
        tls = ClientTls(PoolTls(ca=str(tmp_path / "ca.pem"), server_name=NAME), None, protocol)
    results = []
    with grpc_server(credentials(authority) if secured else None) as (service, address):
        service.set("shop.Cart", NOT_SERVING)
        for name in ("", "shop.Cart", "shop.Unknown"):
            check = HealthCheck(grpc=name, timeout_s=30.0, interval_s=30.0, protocol=protocol)
            results.append(await check_once(address, check, tls))
    assert [result.good for result in results] == [True, False, False]
    assert "NOT_SERVING" in results[1].reason
    assert "NOT_FOUND" in results[2].reason


async def test_a_server_without_the_health_service_is_unhealthy_and_the_reason_says_why() -> None:
    check = HealthCheck(grpc="", timeout_s=30.0, interval_s=30.0, protocol=PoolProtocol.H2C)
    with grpc_server(checks=False) as (_, address):
        result = await check_once(address, check)
    assert (result.good, "no health service" in result.reason) == (False, True)


async def test_over_http1_there_is_no_grpc_to_ask(lab: Lab, tmp_path: Path) -> None:
    authority, endpoint = Authority(tmp_path), await lab.endpoint()
    tls = ClientTls(PoolTls(ca=str(tmp_path / "ca.pem"), server_name=NAME), None, PoolProtocol.AUTO)
    check = HealthCheck(grpc="", timeout_s=30.0, interval_s=30.0, protocol=PoolProtocol.AUTO)
    lab.background.start_soon(accepts, endpoint, server(authority))
    result = await check_once(endpoint.address, check, tls)
    assert (result.good, "HTTP/1.1" in result.reason) == (False, True)


async def test_a_server_that_stops_serving_leaves_the_choice_and_comes_back(lab: Lab) -> None:
    check = HealthCheck(grpc="", interval_s=0.05, timeout_s=20.0, healthy=1, unhealthy=1, protocol=PoolProtocol.H2C)
    with grpc_server() as (service, address), grpc_server() as (_, other):
        endpoints = [below(at, "grpc") for at in (address, other)]
        for each in endpoints:
            each.spec = HostSpec(f"app/{each.address}", "app", each.address, protocol=PoolProtocol.H2C)
        await lab.serves(l7(*endpoints, pools=(PoolSettings("app", check, protocol=PoolProtocol.H2C),)))
        host = lab.host(endpoints[0])
        service.set("", NOT_SERVING)
        await lab.until(lambda: host.availability is Availability.UNHEALTHY)
        assert lab.log.count("health_checks_failed") == 1
        service.set("", SERVING)
        await lab.until(lambda: host.availability is Availability.AVAILABLE)
