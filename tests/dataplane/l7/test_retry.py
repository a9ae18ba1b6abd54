"""How a request gets to a host, and when it is tried again."""

import contextlib
import errno
import select
import socket
from typing import Any

import pytest

from tests.dataplane.conftest import (
    Clock,
    FakeEndpoint,
    Lab,
    Voice,
    l7,
)
from tests.dataplane.l7.conversations import Looks, begins, exchange, is_parked_by_a_tick, parked, passes
from tests.dataplane.lacking import LACKS, lacking, reaching_itself
from tierlb.model.snapshot import Destination, Rule, Send
from tierlb.model.topology import Admin, Match, Policy, Timeouts
from tierlb.net.peer_liveness import GONE, LOOK_S
from tierlb.net.wheel import NEVER, WHEEL_TICK_S
from tierlb.wire.agent_check import AgentReply

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REASONS = {
    "every host of app has weight 0": [{"weight": 0.0}, {"weight": 0.0}],
    "every host of app is draining": [{"admin": Admin.DRAIN}],
    "no host of app can be used: 1 weight 0, 1 maintenance": [{"weight": 0.0}, {"admin": Admin.MAINTENANCE}],
}
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


async def test_both_connections_are_kept_and_used_again(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK)
    assert (await client.hears_message()).body == b"ok"
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    assert len(lab.endpoints[0].voices) == 1


async def test_each_request_of_a_connection_is_picked_separately(lab: Lab) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(one, two))
    client = await lab.connects()
    chosen = set()
    for _ in range(2):
        await client.says(GET)
        endpoint, voice = await lab.accepts(one, two)
        chosen.add(endpoint.address)
        await voice.hears_head()
        await voice.says(OK)
        assert (await client.hears_message()).status == 200
    assert chosen == {one.address, two.address}


async def test_a_connection_kept_by_one_client_serves_another(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK)
    await client.hears_message()
    other = await lab.connects()
    await other.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    assert (await other.hears_message()).status == 200


async def test_a_refused_connect_costs_nothing_when_another_member_is_there(lab: Lab) -> None:
    nobody, somebody = await lab.nobody(), await lab.endpoint()
    await lab.serves(l7(somebody, nobody))
    client = await lab.connects()
    await client.says(POST)
    voice = await somebody.accepts()
    await voice.hears_head()
    await voice.hears(b"body")
    await voice.says(OK)
    assert (await client.hears_message()).status == 200
    assert lab.front.counters.errors == 0


async def test_a_body_goes_on_when_the_second_member_has_a_kept_connection(lab: Lab) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(one, two))
    client = await lab.connects()
    endpoints = []
    for _ in range(2):
        await client.says(GET)
        endpoint, voice = await lab.accepts(one, two)
        endpoints.append(endpoint)
        await voice.hears_head()
        await voice.says(OK)
        await client.hears_message()
    falling, _ = endpoints  # whose turn is next
    await falling.voices[0].leaves()
    falling.falls()
    await lab.until(lambda: not lab.host(falling).idle)
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    await voice.hears_head()
    await client.says(b"0123456789")
    await voice.hears(b"0123456789")
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_all_members_refusing_is_502(lab: Lab) -> None:
    await lab.serves(l7(await lab.nobody(), await lab.nobody()))
    answer = await (await lab.connects()).asks(GET)
    assert answer.status == 502
    assert answer.body.startswith(b"node-1: the endpoint cannot be reached\n")


async def test_a_member_that_does_not_accept_in_time_is_504(lab: Lab) -> None:
    endpoint = await lab.endpoint(backlog=0)
    stuffing = [socket.socket() for _ in range(4)]
    for sock in stuffing:
        sock.setblocking(False)
        sock.connect_ex(endpoint.address.sockaddr)
    await lab.serves(l7(endpoint, timeouts=Timeouts(connect=0.1)))
    answer = await (await lab.connects()).asks(GET)
    for sock in stuffing:
        sock.close()
    assert answer.status == 504
    assert answer.body.startswith(b"node-1: ")


async def test_no_member_at_all_is_503_and_says_when_to_come_back(lab: Lab, at_once: None) -> None:
    await lab.serves(l7())
    client = await lab.connects()
    answer = await client.asks(GET)
    assert (answer.status, answer["retry-after"]) == (503, "1")
    assert answer.body.startswith(b"node-1: no host can answer: app has no member\nrequest id: ")
    assert (await client.asks(GET)).status == 503


@pytest.mark.parametrize("balance", Policy)
@pytest.mark.parametrize(("reason", "says"), REASONS.items(), ids=["weight", "drain", "both"])
async def test_hosts_that_are_out_on_purpose_get_nothing_and_the_answer_says_why(
    lab: Lab, balance: Policy, reason: str, says: list[dict[str, Any]]
) -> None:
    endpoints = [await lab.endpoint(**each) for each in says]
    await lab.serves(l7(*endpoints, balance=balance))
    client = await lab.connects()
    for _ in range(2):
        answer = await client.asks(GET)
        assert (answer.status, answer["retry-after"]) == (503, "1")
        assert answer.body.startswith(f"node-1: no host can answer: {reason}\nrequest id: ".encode())
    for endpoint in endpoints:
        await endpoint.is_left_alone()
    assert lab.front.counters.errors == 2
    assert lab.plane.load().in_flight == 0


@pytest.mark.parametrize("balance", Policy)
async def test_a_host_of_weight_zero_is_no_help_when_all_others_are_down(lab: Lab, balance: Policy) -> None:
    dead, weightless = await lab.nobody(), await lab.endpoint(weight=0.0)
    await lab.serves(l7(dead, weightless, balance=balance))
    client = await lab.connects()
    for _ in range(3):
        assert (await client.asks(GET)).status == 502
    lab.plane.reactor.look()
    await weightless.is_left_alone()
    assert [load.availability for load in lab.plane.load().hosts] == ["ejected", "weight 0"]
    assert lab.plane.load().in_flight == 0


async def test_a_full_host_is_passed_over_and_when_all_are_full_the_answer_is_503(lab: Lab) -> None:
    endpoints = [await lab.endpoint(), await lab.endpoint()]
    await lab.serves(l7(*endpoints, balance=Policy.MAGLEV))
    for endpoint in endpoints:
        lab.host(endpoint).agent_replied(AgentReply(maxconn=1))
    clients = [await lab.connects() for _ in range(3)]
    voices = []
    for client in clients[:2]:
        await client.says(GET)
        voices.append((await lab.accepts(*endpoints))[1])
    answer = await clients[2].asks(GET)
    assert (answer.status, answer["retry-after"]) == (503, "1")
    assert b"every host of app is at the maxconn that its agent set\n" in answer.body
    for client, voice in zip(clients, voices, strict=False):
        await voice.hears_head()
        await voice.says(OK)
        assert (await client.hears_message()).status == 200
    await clients[2].says(GET)
    await voices[0].hears_head()
    await voices[0].says(OK)
    assert (await clients[2].hears_message()).status == 200


async def test_a_parked_item_that_is_tried_again_begins_anew(lab: Lab, clock: Clock) -> None:
    client, voice = await begins(lab, GET, endpoints=2)
    (exchange,) = [each.downstream.exchange for each in lab.front.clients]
    lab.front.registry.kinds.judge({exchange.ticket.kind.number: [1.0] * 9})  # most of its kind are not parked
    is_parked_by_a_tick(lab, clock)
    await voice.leaves()
    _, again = await lab.accepts(*lab.endpoints)
    await again.hears_head()
    assert parked(lab) == (0,) * 5
    lab.ticks()
    assert parked(lab) == (0,) * 5, "it is new there"
    clock.now += 1
    lab.ticks()
    assert parked(lab) == (1,) * 5
    await again.says(OK)
    await client.hears_message()
    assert parked(lab) == (0,) * 5
    assert lab.front.latencies.sum_s == pytest.approx(2.0, rel=0.1), "for its client it took all the time"


def full_socket() -> tuple[socket.socket, socket.socket]:
    """One that will not be writable, as while a connect goes on, and its other end."""
    sock, peer = socket.socketpair()
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))
    return sock, peer


async def test_a_member_owes_nothing_before_it_was_asked(lab: Lab, clock: Clock) -> None:
    """Though another one was, and did not answer."""
    client, voice = await begins(lab, GET, endpoints=2)
    (exchange,) = [each.downstream.exchange for each in lab.front.clients]
    first = exchange.ticket.host
    assert exchange.ticket.sent > 0
    sock, peer = full_socket()
    lab.front.registry.context.dial = lambda address, **how: (sock.detach(), errno.EINPROGRESS)
    await voice.leaves()
    await lab.until(lambda: exchange.ticket.host is not first)
    assert exchange.ticket.sent == 0
    client.resets()
    await lab.until(lambda: not lab.front.clients)
    peer.close()


async def test_a_get_is_repeated_when_a_kept_connection_closes_under_it(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK)
    await client.hears_message()
    await client.says(GET)
    await voice.hears_head()
    await voice.leaves()
    again = await lab.endpoints[0].accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).body == b"ok"
    assert lab.front.counters.errors == 0
    assert lab.plane.load().hosts[0].failed == 0, "it was free to close what lay idle"


async def test_a_member_that_closes_a_new_connection_unanswered_is_blamed_though_another_answers(lab: Lab) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(one, two))
    client = await lab.connects()
    await client.says(GET)
    failing, voice = await lab.accepts(one, two)
    await voice.hears_head()
    await voice.leaves()
    again = await (two if failing is one else one).accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).status == 200
    failed = {load.name: (load.done, load.failed) for load in lab.plane.load().hosts}
    assert failed.pop(failing.spec.name) == (1, 1)
    assert list(failed.values()) == [(1, 0)]
    assert lab.host(failing).estimate.penalties.errors.value(lab.plane.reactor.now) > 0


@pytest.mark.parametrize("balance", [Policy.WEIGHTED, Policy.MAGLEV])
async def test_who_closes_a_kept_connection_may_be_dead_so_another_is_asked_unless_clients_have_their_own(
    lab: Lab, balance: Policy
) -> None:
    endpoints = [await lab.endpoint(weight=100), await lab.endpoint()]
    await lab.serves(l7(*endpoints, balance=balance))
    client = await lab.connects()
    await client.says(GET)
    first, voice = await lab.accepts(*endpoints)
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    await client.says(GET)
    await voice.hears_head()
    await voice.leaves()
    again, _ = await lab.accepts(*endpoints)
    assert (again is first) is (balance is Policy.MAGLEV)


async def test_a_post_is_not_repeated_when_a_kept_connection_closes_under_it(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK)
    await client.hears_message()
    await client.says(POST)
    await voice.hears_head()
    await voice.leaves()
    answer = await client.hears_message()
    assert answer.status == 502
    assert b"closed the connection without an answer" in answer.body or b"reset" in answer.body
    await lab.endpoints[0].is_left_alone()


async def test_a_post_never_meets_a_connection_that_the_member_has_closed(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK)
    await client.hears_message()
    await voice.leaves()
    await client.says(POST)
    again = await lab.endpoints[0].accepts()
    await again.hears_head()
    await again.hears(b"body")
    await again.says(OK)
    assert (await client.hears_message()).status == 200


async def test_a_request_is_repeated_once_only(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    for _ in range(2):
        voice = await endpoint.accepts()
        await voice.hears_head()
        await voice.leaves()
    assert (await client.hears_message()).status == 502
    await endpoint.is_left_alone()


async def test_nothing_is_repeated_after_the_first_byte_of_an_answer(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, b"HTTP/1.1 200")
    await voice.leaves()
    assert (await client.hears_message()).status == 502
    await lab.endpoints[0].is_left_alone()


async def test_nothing_is_repeated_after_an_interim_answer(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, HINTS)
    assert (await client.hears_message(bodiless=True)).status == 103
    await voice.leaves()
    assert (await client.hears_message()).status == 502
    await lab.endpoints[0].is_left_alone()


@pytest.mark.parametrize("balance", [Policy.WEIGHTED, Policy.MAGLEV])
async def test_a_get_on_a_kept_connection_to_a_silent_host_is_answered_by_another(
    lab: Lab, clock: Clock, looks: Looks, balance: Policy
) -> None:
    endpoints = [await lab.endpoint(weight=100), await lab.endpoint()]
    await lab.serves(l7(*endpoints, balance=balance))
    client = await lab.connects()
    await client.says(GET)
    silent, voice = await lab.accepts(*endpoints)
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    await client.says(GET)
    await voice.hears_head()
    looks.found = GONE
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    other, again = await lab.accepts(*endpoints)
    assert other is not silent
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).body == b"ok"
    failed = {load.name: load.failed for load in lab.plane.load().hosts}
    assert failed == {silent.spec.name: 1, other.spec.name: 0}, "it did not just close what lay idle"


async def test_a_retry_has_all_its_time_too(lab: Lab, clock: Clock, looks: Looks) -> None:
    endpoints = [await lab.endpoint(), await lab.endpoint()]
    await lab.serves(l7(*endpoints, timeouts=Timeouts(response=30.0)))
    client = await lab.connects()
    await client.says(GET)
    _, voice = await lab.accepts(*endpoints)
    await voice.hears_head()
    looks.found = 2.0
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    looks.found = GONE
    passes(lab, clock, LOOK_S)
    looks.found = NEVER
    other, again = await lab.accepts(*endpoints)
    await again.hears_head()
    passes(lab, clock, 30.0 - WHEEL_TICK_S)
    assert lab.host(other).in_flight == 1
    passes(lab, clock, 2 * WHEEL_TICK_S)
    assert (await client.hears_message()).status == 504


@pytest.mark.parametrize("code", LACKS)
async def test_what_this_machine_lacks_is_blamed_on_no_member_and_answered_at_once(lab: Lab, code: int) -> None:
    endpoints = [await lab.endpoint(), await lab.endpoint()]
    await lab.serves(l7(*endpoints))
    lacking(lab, code, endpoints)
    client = await lab.connects()
    for _ in range(10):
        answer = await client.asks(GET)
        assert (answer.status, answer["retry-after"]) == (503, "1")
    assert [load.availability for load in lab.front.registry.loads()] == ["available"] * 2
    assert [(load.failed, load.in_flight) for load in lab.front.registry.loads()] == [(0, 0)] * 2
    assert lab.log.count("resource_exhausted") == 1
    assert lab.log.count("request_failed") == 0
    assert lab.plane.load().short_connects == lab.front.registry.context.shortages.count >= 10
    assert lab.plane.load().shortages[-1].startswith("out of ")


async def test_a_lack_towards_one_member_sends_requests_to_another(lab: Lab) -> None:
    full, free = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(full, free))
    lacking(lab, errno.EADDRNOTAVAIL, [full])
    lab.background.start_soon(free.answers_all, OK)
    client = await lab.connects()
    for _ in range(6):
        assert (await client.asks(POST)).status == 200
    assert [load.availability for load in lab.front.registry.loads()] == ["available"] * 2


class FullEpoll:
    """An epoll set that takes no more descriptors once it is `full`."""

    full = False

    def __init__(self, real: select.epoll) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def register(self, fd: int, mask: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no more watches")
        self.real.register(fd, mask)


async def test_an_epoll_set_that_takes_no_more_is_a_lack(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    epoll = FullEpoll(select.epoll())
    monkeypatch.setattr(select, "epoll", lambda: epoll)
    client, _ = await lab.converses()
    await lab.until(lambda: lab.front.clients)
    epoll.full = True
    assert (await client.asks(GET)).status == 503
    assert lab.log.count("resource_exhausted") == 1


async def test_a_connect_that_reached_itself_is_refused_and_goes_elsewhere(lab: Lab) -> None:
    dead, alive = await lab.nobody(), await lab.endpoint()
    await lab.serves(l7(dead, alive))
    reaching_itself(lab, dead)
    lab.background.start_soon(alive.answers_all, OK)
    client = await lab.connects()
    for _ in range(4):
        assert (await client.asks(GET)).body == b"ok"
    assert [load.availability for load in lab.front.registry.loads()] == ["ejected", "available"]
    assert lab.front.counters.errors == 0


def failures(lab: Lab) -> list[dict[str, object]]:
    return [fields for event, fields in lab.log.events if event == "request_failed"]


@pytest.mark.parametrize("trusted_peers", [(), ("127.0.0.1/32",)])
async def test_a_client_is_told_the_id_and_the_log_the_member_and_the_errno(
    lab: Lab, trusted_peers: tuple[str, ...]
) -> None:
    """Trusted peers too: most are proxies, which pass bodies on to everybody."""
    nobody = await lab.nobody()
    await lab.serves(l7(nobody, trusted_peers=trusted_peers))
    answer = await (await lab.connects()).asks(GET)
    (failure,) = failures(lab)
    assert answer.status == failure["status"] == 502
    assert answer.body == f"node-1: the endpoint cannot be reached\nrequest id: {failure['id']}\n".encode()
    assert failure["host"] == f"{nobody.spec.name} (ECONNREFUSED)"


@pytest.mark.parametrize("way", ["closes", "resets", "garbage"])
async def test_the_id_is_the_one_that_the_member_was_told(lab: Lab, way: str) -> None:
    client, endpoint = await lab.converses()
    await client.says(POST)
    voice = await endpoint.accepts()
    told = (await voice.hears_message())["x-request-id"]
    if way == "garbage":
        await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: no\r\n\r\n")
    elif way == "resets":
        voice.resets()
    else:
        await voice.leaves()
    answer = await client.hears_message()
    assert (answer.status, failures(lab)[0]["id"]) == (502, told)
    assert answer.body.endswith(f"\nrequest id: {told}\n".encode())
    assert str(endpoint.address.port).encode() not in answer.body


async def test_the_id_of_a_trusted_peer_is_kept(lab: Lab) -> None:
    await lab.serves(l7(await lab.nobody(), trusted_peers=("127.0.0.1/32",)))
    answer = await (await lab.connects()).asks(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc-1\r\n\r\n")
    assert answer.body.endswith(b"\nrequest id: abc-1\n")


def split_over(*shares: tuple[float, FakeEndpoint]) -> tuple[Rule, ...]:
    """One rule that splits its requests over shares of one endpoint each."""
    destinations = [Destination(weight, (f"pool-{n}",), (one.spec,)) for n, (weight, one) in enumerate(shares)]
    return (Rule(Match(), Send(tuple(destinations))),)


@pytest.mark.parametrize("request_bytes", [GET, POST])
async def test_a_request_whose_share_refuses_connections_goes_to_another_share(lab: Lab, request_bytes: bytes) -> None:
    nobody, somebody, never = await lab.nobody("x"), await lab.endpoint(target="y"), await lab.endpoint(target="z")
    await lab.serves(l7(rules=split_over((1e6, nobody), (1, somebody), (0, never))))
    client = await lab.connects()
    await client.says(request_bytes)
    voice = await somebody.accepts()
    await voice.hears_head()
    await voice.hears(request_bytes.partition(b"\r\n\r\n")[2])
    await voice.says(OK)
    assert (await client.hears_message()).status == 200
    assert lab.host(nobody).reach.failures == 1
    assert lab.front.counters.errors == 0


async def test_where_all_shares_refuse_connections_three_are_tried(lab: Lab) -> None:
    shares = [(1.0, await lab.nobody(target)) for target in "abcde"]
    await lab.serves(l7(rules=split_over(*shares)))
    answer = await (await lab.connects()).asks(GET)
    assert answer.status == 502
    assert sorted(lab.host(endpoint).reach.failures for _, endpoint in shares) == [0, 0, 1, 1, 1]


async def drawn_and_other(lab: Lab, request_bytes: bytes) -> tuple[Voice, Voice, FakeEndpoint]:
    """A client whose request has come to the host of its share, the connection there, and the other share's host."""
    drawn, other = await lab.endpoint(target="x"), await lab.endpoint(target="y")
    await lab.serves(l7(rules=split_over((1e6, drawn), (1, other))))
    client = await lab.connects()
    await client.says(request_bytes)
    voice = await drawn.accepts()
    await voice.hears_head()
    return client, voice, other


async def test_a_get_that_was_not_answered_is_repeated_at_another_share(lab: Lab) -> None:
    client, voice, other = await drawn_and_other(lab, GET)
    await voice.leaves()
    again = await other.accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).status == 200


async def test_a_post_that_was_not_answered_is_repeated_at_no_share(lab: Lab) -> None:
    client, voice, other = await drawn_and_other(lab, POST)
    await voice.hears(b"body")
    await voice.leaves()
    assert (await client.hears_message()).status == 502
    await other.is_left_alone()


async def test_a_get_is_repeated_at_its_own_share_where_a_kept_connection_closes_under_it(lab: Lab) -> None:
    client, voice, other = await drawn_and_other(lab, GET)
    await voice.says(OK)
    await client.hears_message()
    await client.says(GET)
    await voice.hears_head()
    await voice.leaves()
    again = await lab.endpoints[0].accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).status == 200
    await other.is_left_alone()


async def test_a_get_that_was_not_answered_is_not_repeated_at_a_share_that_is_down(lab: Lab) -> None:
    client, voice, other = await drawn_and_other(lab, GET)
    lab.host(other).checked(False)
    await voice.leaves()
    again = await lab.endpoints[0].accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).status == 200
    await other.is_left_alone()
