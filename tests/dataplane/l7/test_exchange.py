"""One request and its response, told from both ends: what the endpoint hears, what the client hears."""

import collections
import contextlib
import errno
import itertools
import socket
from typing import Any

import pytest
import trio
import trio.testing

from tests.dataplane.conftest import DATA_KEY, DEADLINE_S, INNER, Clock, Full, Lab, Reset, Voice, below, l4_parent, l7
from tests.dataplane.lacking import LACKS, lacking, reaching_itself
from tierlb.balance.load_estimate import SLOTS
from tierlb.dataplane.l7.client import ClientConnection
from tierlb.dataplane.l7.exchange import MAX_INTERIMS, Exchange
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.model.load import Echo
from tierlb.model.topology import Admin, Limits, Orca, Policy, Timeouts
from tierlb.net import peer_liveness
from tierlb.net.peer_liveness import GONE, LOOK_S, vanished
from tierlb.net.reactor import WRITE, Reactor
from tierlb.net.wheel import NEVER, TICK_S
from tierlb.wire.agent_check import AgentSays
from tierlb.wire.http_body import CHUNKS_A_CALL, STRETCH_CHUNKS
from tierlb.wire.orca import OrcaReport, encode
from tierlb.wire.proxy_protocol import KEY, PARENT, PROCESS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE_OK = b"HTTP/1.1 200 OK\r\n\r\n"
MIB = 1024 * 1024


async def exchange(lab: Lab, request: bytes, answer: bytes) -> tuple[Voice, Voice]:
    """One request asked, heard by its endpoint and answered; the client has heard nothing yet."""
    client, endpoint = await lab.converses()
    await client.says(request)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(answer)
    return client, voice


# Bodies in very many chunks.

ONES = b"1\r\nx\r\n"


async def test_tiny_chunks_of_a_request_arrive_as_few_large_ones(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED_POST + ONES * 4000 + b"0\r\nX-Sum: 1\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    framed = await voice.hears_up_to(b"0\r\nX-Sum: 1\r\n\r\n")
    assert framed.count(b"x") == 4000
    assert len(framed) < 4000 + 20 * 4000 // CHUNKS_A_CALL + 100


async def test_tiny_chunks_of_an_answer_arrive_as_few_large_ones(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, CHUNKED_OK + ONES * 4000 + b"0\r\n\r\n")
    await client.hears_head()
    framed = await client.hears_up_to(b"\r\n0\r\n\r\n")
    assert framed.count(b"x") == 4000
    assert len(framed) < 4000 + 20 * 4000 // CHUNKS_A_CALL + 100
    await client.says(GET)
    await voice.hears_head()


async def test_a_request_body_of_far_too_many_tiny_chunks_is_400(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED_POST + ONES * (STRETCH_CHUNKS + CHUNKS_A_CALL))
    voice = await endpoint.accepts()
    await voice.hears_head()
    assert (await client.hears_message()).status == 400
    assert lab.front.counters.rejected == 1
    assert lab.host(endpoint).failed == 0


async def test_an_answer_of_far_too_many_tiny_chunks_is_cut(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK + ONES * (STRETCH_CHUNKS + CHUNKS_A_CALL))
    await client.hears_head()
    assert b"0\r\n\r\n" not in await client.hears_rest()
    assert lab.front.counters.errors == 1


async def test_others_are_served_between_the_turns_of_a_body_in_many_chunks(lab: Lab) -> None:
    """Two bodies are sent before the node looks; each is worked through in turns, the other's in between."""
    client, endpoint = await lab.converses()
    clients = [client, await lab.connects()]
    voices = []
    for each in clients:
        await each.says(CHUNKED_POST)
        voices.append(await endpoint.accepts())
        await voices[-1].hears_head()
    order: list[object] = []
    for each in lab.front.clients:
        notes_turns(each, order)
    for each in clients:
        each.stream.socket._sock.send(ONES * 4 * CHUNKS_A_CALL)
    for voice in voices:
        assert (await voice.hears_up_to(b"x" * 9)).startswith(b"100\r\n")
    await lab.until(lambda: len(order) == 8)
    assert order == 4 * order[:2]
    assert order[0] is not order[1]


def notes_turns(client: ClientConnection, order: list[object]) -> None:
    exchange = client.exchange
    assert exchange is not None
    decoder = exchange.request_decoder
    assert decoder is not None

    class Noted:
        done = False

        def feed(self, data: bytes, now: float) -> tuple[list[bytes], bytes]:
            order.append(client)
            return decoder.feed(data, now)

    exchange.request_decoder = Noted()  # type: ignore[assignment]


# Heads of answers.

LARGE_START = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "


def sized(bytes_in_all: int) -> bytes:
    """An answer's head of so many bytes."""
    return LARGE_START + b"x" * (bytes_in_all - len(LARGE_START) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("piece_bytes", [100_000, 100])
@pytest.mark.parametrize(("head", "status"), [(sized(1000), 200), (sized(1001), 502), (sized(5000), 502)])
async def test_the_limit_of_heads_holds_for_answers_however_they_come(
    lab: Lab, head: bytes, status: int, piece_bytes: int
) -> None:
    client, endpoint = await lab.converses(limits=Limits(head=1000))
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    for at in range(0, len(head), piece_bytes):
        await voice.says(head[at : at + piece_bytes])
        await trio.testing.wait_all_tasks_blocked()
        if status == 502 and at > 1000:
            break
    assert (await client.hears_message()).status == status


@pytest.mark.parametrize(("count", "status"), [(9, 200), (10, 502)])
async def test_the_fields_of_an_answer_are_counted(lab: Lab, count: int, status: int) -> None:
    """Also of one that was remembered when more were allowed."""
    client, endpoint = await lab.converses(limits=Limits(headers=50))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X: a\r\n" * count + b"\r\n"
    await client.says(GET)
    voice = await endpoint.accepts()
    for _ in range(3):
        await voice.hears_head()
        await voice.says(answer)
        assert (await client.hears_message()).status == 200
        await client.says(GET)
    await voice.hears_head()
    lab.plane.apply(l7(endpoint, limits=Limits(headers=10), revision=2))
    await voice.says(answer)
    assert (await client.hears_message()).status == status


# Which endpoint, which connection.


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
    await lab.until(lambda: not lab.front.registry._hosts[(falling.spec.name, str(falling.address))].idle)
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
    assert answer.body.startswith(b"node-1: nobody is there to answer: app has no member\nrequest id: ")
    assert (await client.asks(GET)).status == 503


REASONS = {
    "every host of app has weight 0": [{"weight": 0.0}, {"weight": 0.0}],
    "every host of app is draining": [{"admin": Admin.DRAIN}],
    "no host of app can be used: 1 weight 0, 1 maintenance": [{"weight": 0.0}, {"admin": Admin.MAINTENANCE}],
}


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
        assert answer.body.startswith(f"node-1: nobody is there to answer: {reason}\nrequest id: ".encode())
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
        lab.host(endpoint).agent_says(AgentSays(maxconn=1))
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


async def test_a_child_hears_once_on_each_connection_who_its_parent_is(lab: Lab) -> None:
    client, endpoint = await lab.converses(says={"child": True})
    other = await lab.connects()
    voices = []
    for each in (client, other):
        await each.says(GET)
        voices.append(await endpoint.accepts())
        header = await voices[-1].hears_proxy_header()
        assert header.source is None
        assert header.tlvs == {PARENT: b"node-1", KEY: DATA_KEY, PROCESS: b"boot-1"}
        assert (await voices[-1].hears_head()).first == "GET / HTTP/1.1"
    for each, voice in zip((client, other), voices, strict=True):
        await voice.says(OK)
        await each.hears_message()
    await client.says(GET)
    assert (await voices[-1].hears_head()).first == "GET / HTTP/1.1"


async def test_two_l7_tiers_pass_the_client_on(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    inner = await lab.serves(l7(endpoint, listener=INNER))
    await lab.serves(l7(below(inner, "node-1")))
    client = await lab.connects()
    await client.says(GET)
    voice = await endpoint.accepts()
    request = await voice.hears_head()
    assert request.all("x-forwarded-for") == ["127.0.0.1, 127.0.0.1"]
    assert len(request.all("x-request-id")) == 1
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    assert lab.planes[0].echo("node-2") == Echo(0, 1, 1)


# What is parked, and how it ends.

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
PATIENT = Timeouts(response=1000.0, stream=1000.0, idle=1000.0)


def parked(lab: Lab) -> tuple[int, int, int, int, int]:
    """At endpoints, in what its parent is told of its own, in what all are told, in the node's own figures, and at its
    endpoints there."""
    load = lab.plane.load()
    at_members = sum(host.parked for host in lab.front.registry.hosts)
    tallies = lab.front.counters.tallies
    assert tallies.outside.parked == 0
    figures = (lab.plane.echo("edge-1").parked, lab.plane.subtree().parked, load.parked)
    return (at_members, *figures, sum(endpoint.parked for endpoint in load.hosts))


async def begins(lab: Lab, request: bytes, *, endpoints: int = 1, long: bool = False) -> tuple[Voice, Voice]:
    """A request from an l4 parent, heard by its endpoint. `long`: most of its kind are parked."""
    made = [await lab.endpoint() for _ in range(endpoints)]
    await lab.serves(l7(*made, listener=INNER, timeouts=PATIENT))
    lab.front.long[:] = [long] * len(lab.front.long)
    client = await lab.connects()
    await client.says(l4_parent() + request)
    _, voice = await lab.accepts(*made)
    await voice.hears_head()
    return client, voice


def is_parked_by_a_tick(lab: Lab, clock: Clock) -> None:
    for host in lab.front.registry.hosts:
        host.estimate.work.usual_s = 0.01
    clock.now += 1
    lab.ticks()
    assert parked(lab) == (1,) * 5


async def is_answered(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    await voice.says(OK)
    await client.hears_message()


async def is_answered_with_an_error(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    await voice.says(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
    await client.hears_message()


async def gets_garbage(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    await voice.says(b"garbage\r\n\r\n")
    assert (await client.hears_message()).status == 502


async def is_cut(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf")
    await client.hears_up_to(b"half")
    await voice.leaves()
    await client.hears_rest()


async def loses_its_client(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    client.resets()
    with contextlib.suppress(Reset):
        await voice.hears_end()


async def takes_too_long(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    clock.now += 2000
    assert (await client.hears_message()).status == 504


async def is_taken_from_its_member(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    for host in lab.front.registry.hosts:
        lab.front.cut_from(host)
    assert (await client.hears_message()).status == 503


async def is_cut_with_the_node(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    lab.front.cut()
    assert (await client.hears_message()).status == 503


async def meets_an_internal_error(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    lab.front.replies = None
    await voice.says(OK)
    assert (await client.hears_message()).status == 500
    lab.log.events.clear()


async def becomes_a_tunnel(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    await voice.says(SWITCHED)
    await client.hears_message(bodiless=True)
    assert parked(lab) == (1,) * 5
    await client.says(b"ping")
    await voice.hears(b"ping")
    clock.now += 1
    lab.ticks()
    assert parked(lab) == (1,) * 5
    await client.leaves()
    await voice.hears_end()
    await voice.leaves()
    await lab.until(lambda: not lab.front.tunnels)


async def fails_to_become_a_tunnel(lab: Lab, clock: Clock, client: Voice, voice: Voice) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PooledConnection, "detach", lambda self: 1 / 0)
        await voice.says(SWITCHED)
        await client.hears_rest()
    lab.log.events.clear()


WAYS = [
    is_answered,
    is_answered_with_an_error,
    gets_garbage,
    is_cut,
    loses_its_client,
    takes_too_long,
    is_taken_from_its_member,
    is_cut_with_the_node,
    meets_an_internal_error,
    becomes_a_tunnel,
    fails_to_become_a_tunnel,
]


@pytest.mark.parametrize("how", ["by a tick", "from its beginning", "never"])
@pytest.mark.parametrize("ends", WAYS, ids=lambda way: way.__name__)
async def test_a_parked_item_is_counted_apart_until_it_ends_however(
    lab: Lab, clock: Clock, how: str, ends: Any
) -> None:
    client, voice = await begins(lab, UPGRADE, long=how == "from its beginning")
    if how == "by a tick":
        is_parked_by_a_tick(lab, clock)
    await ends(lab, clock, client, voice)
    await lab.until(lambda: parked(lab) == (0,) * 5)
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    assert all(each.in_flight == 0 and not each.under_way and not each.early for each in lab.front.registry.hosts)


async def test_a_parked_item_that_is_tried_again_begins_anew(lab: Lab, clock: Clock) -> None:
    client, voice = await begins(lab, GET, endpoints=2)
    lab.front.registry.kinds._answered = [9] * len(lab.front.long)  # its kind is a short one, as a rule
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


async def test_a_member_owes_nothing_before_it_was_asked(
    lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another one was, and did not answer."""
    client, voice = await begins(lab, GET, endpoints=2)
    (exchange,) = [each.exchange for each in lab.front.clients]
    first = exchange.host
    assert exchange.sent > 0
    monkeypatch.setattr(Exchange, "_connect", lambda self, host: None)
    await voice.leaves()
    await lab.until(lambda: exchange.host is not first)
    assert exchange.sent == 0
    client.resets()
    await lab.until(lambda: not lab.front.clients)


async def test_a_tunnel_is_parked_from_the_moment_it_is_one(lab: Lab, clock: Clock) -> None:
    client, voice = await begins(lab, UPGRADE)
    assert parked(lab) == (0,) * 5
    await voice.says(SWITCHED)
    await client.hears_message(bodiless=True)
    assert parked(lab) == (1,) * 5
    assert (lab.plane.load().tunnels, lab.plane.load().in_flight) == (1, 1)


# Requests that may be sent again.


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
    assert lab.host(failing).estimate.penalty.value(lab.plane.reactor.now) > 0


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


# Deadlines.


async def test_a_member_that_does_not_answer_in_time_is_504(lab: Lab) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(response=0.1))
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    answer = await client.hears_message()
    assert answer.status == 504
    assert b"took too long to answer\n" in answer.body
    await voice.hears_end()


async def test_a_member_that_stalls_in_its_answer_is_cut_off(lab: Lab) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=0.1))
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(CHUNKED_OK, b"2\r\nok\r\n")
    assert (await client.hears_rest()).endswith(b"2\r\nok\r\n")
    assert lab.front.counters.errors == 1


async def test_a_client_that_stalls_in_its_body_is_408_and_not_the_members_fault(lab: Lab) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=0.1))
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
    voice = await endpoint.accepts()
    await voice.hears_up_to(b"\r\n\r\nbo")
    assert (await client.hears_message()).status == 408
    await client.hears_end()
    await voice.hears_end()
    assert lab.plane.load().hosts[0].failed == 0


async def body_in_pieces(lab: Lab, clock: Clock, piece_bytes: int, every_s: float, times: int, **options: Any) -> Any:
    """A client that sends such pieces of a body; it, the endpoint's end and the node's connection to the client."""
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60, response=1e6, idle=1e6), **options)
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    (connection,) = lab.front.clients
    for _ in range(times):
        await client.says(bytes(piece_bytes))
        await voice.hears_count(piece_bytes)
        clock.now += every_s
        lab.plane.reactor.look()
        lab.plane.reactor.wheel.advance(clock.now)
    return client, voice, connection


async def test_a_body_slower_than_the_least_rate_is_408(lab: Lab, clock: Clock) -> None:
    client, _, _ = await body_in_pieces(lab, clock, 99, 1.0, 10, limits=Limits(body_rate=100))
    answer = await client.hears_message()
    assert (answer.status, answer["connection"]) == (408, "close")
    assert b"body_rate" in answer.body
    assert lab.host(lab.endpoints[0]).failed == 0
    assert lab.front.counters.rejected == 1


@pytest.mark.parametrize(("piece_bytes", "least"), [(101, 100), (240, 240), (1, 0)])
async def test_a_body_as_fast_as_the_least_rate_passes(lab: Lab, clock: Clock, piece_bytes: int, least: int) -> None:
    client, voice, _ = await body_in_pieces(lab, clock, piece_bytes, 1.0, 45, limits=Limits(body_rate=least))
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_the_least_rate_is_240_bytes_a_second_where_none_is_named(lab: Lab, clock: Clock) -> None:
    client, _, _ = await body_in_pieces(lab, clock, 239, 1.0, 10)
    assert (await client.hears_message()).status == 408


async def test_a_body_that_the_member_does_not_read_is_not_slow(lab: Lab, clock: Clock) -> None:
    client, voice, connection = await body_in_pieces(lab, clock, 100, 1.0, 2)
    upstream = connection.exchange.connection
    upstream.backlog = collections.deque([b"x"])
    upstream.mask |= WRITE
    await client.says(b"y")
    await lab.until(lambda: connection.paused)
    clock.now += 50
    lab.plane.reactor.look()
    upstream.reactor.modify(upstream.fd, upstream.mask)
    await voice.hears_count(1)
    await lab.until(lambda: not connection.paused)
    assert connection.exchange.body_rate.left_s(clock.now) == pytest.approx(8.0)


async def test_a_client_that_waits_for_100_continue_is_not_slow(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60, response=1e6, idle=1e6))
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    clock.now += 50
    lab.plane.reactor.look()
    lab.plane.reactor.wheel.advance(clock.now)
    await voice.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await client.hears_message(bodiless=True)).status == 100
    await client.says(b"body")
    assert await voice.hears_count(4) == b"body"
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_a_client_that_takes_long_over_its_body_does_not_use_up_the_answers_time(lab: Lab) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(response=1.0, stream=5))
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await trio.sleep(1.3)
    await client.says(b"body")
    await voice.hears(b"body")
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


# A cut is never an end.


@pytest.mark.parametrize("begun", [CHUNKED_OK + b"2\r\nok\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"])
async def test_an_answer_that_breaks_off_is_not_ended(lab: Lab, begun: bytes) -> None:
    client, voice = await exchange(lab, GET, begun)
    await voice.leaves()
    heard = await client.hears_rest()
    assert heard == begun
    assert lab.front.counters.errors == 1


async def test_a_reset_of_an_answer_that_ends_by_close_is_not_an_end(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, UNTIL_CLOSE_OK + b"half")
    await client.hears_up_to(b"half\r\n")
    voice.resets()
    assert await client.hears_rest() == b""


async def test_http_1_0_hears_a_reset_where_its_answer_was_cut(lab: Lab) -> None:
    client, voice = await exchange(lab, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", CHUNKED_OK + b"4\r\nhalf\r\n")
    await client.hears_up_to(b"half")
    await voice.leaves()
    await client.hears_reset()


async def test_http_1_0_hears_all_of_a_cut_answer_that_has_a_length(lab: Lab) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"
    client, voice = await exchange(lab, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", begun)
    await voice.leaves()
    assert (await client.hears_rest()).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("minor", [0, 1])
async def test_what_came_of_a_cut_answer_reaches_a_client_that_reads_late(lab: Lab, minor: int) -> None:
    client, endpoint = await lab.converses()
    client.listens_little()
    await client.says(b"GET / HTTP/1.%d\r\nHost: a\r\n\r\n" % minor)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(say_until_reset, voice, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    head = await client.hears_head()
    await lab.until(lambda: backlog_bytes(lab) > 0)
    voice.resets()
    rest = await client.hears_rest()
    assert lab.front.counters.errors == 1
    assert len(head.raw) + len(rest) == lab.front.counters.bytes_out


async def say_until_reset(voice: Voice, head: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        await say_much(voice, head, 64 * MIB)


async def test_a_malformed_chunk_in_an_answer_cuts_it(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK + b"2\r\nok\r\nnonsense\r\n")
    assert (await client.hears_rest()).endswith(b"\r\n\r\n")


# Bodies and their framing.


async def test_a_body_with_a_length_passes(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(POST[:-2])
    voice = await endpoint.accepts()
    head = await voice.hears_head()
    assert head["content-length"] == "4"
    await voice.hears(b"bo")
    await client.says(b"dy" + GET)
    await voice.hears(b"dy")
    await voice.hears_nothing()
    await voice.says(OK)
    await client.hears_message()
    assert (await voice.hears_head()).first == "GET / HTTP/1.1"


async def test_a_chunked_body_is_framed_anew_and_its_trailers_pass(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED_POST, b"3;a=b\r\nabc", b"\r\n0", b"2\r\nde\r\n0\r\nX-Sum: 5\r\nHost: b\r\n\r\n" + GET)
    voice = await endpoint.accepts()
    request = await voice.hears_message()
    assert request.body == b"abcde"
    assert request.trailers == [b"X-Sum: 5"]
    await voice.says(OK)
    await client.hears_message()
    await voice.hears_head()


async def test_a_chunked_answer_and_its_trailers_pass(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK + b"3;x\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")
    answer = await client.hears_message()
    assert (answer.body, answer.trailers) == (b"abcde", [b"X-Sum: 5"])


async def test_an_answer_that_ends_by_close_becomes_chunked(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, UNTIL_CLOSE_OK + b"some")
    await voice.says(b"thing")
    await voice.leaves()
    answer = await client.hears_message()
    assert (answer["transfer-encoding"], answer.body) == ("chunked", b"something")
    await client.says(GET)
    assert await lab.endpoints[0].accepts()


async def test_a_chunked_answer_ends_by_close_for_http_1_0(lab: Lab) -> None:
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    client, _ = await exchange(lab, request, CHUNKED_OK + b"2\r\nok\r\n0\r\n\r\n")
    head = await client.hears_head()
    assert "transfer-encoding" not in head
    assert head["connection"] == "close"
    assert await client.hears_rest() == b"ok"


async def test_an_answer_in_many_pieces_arrives_whole(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
        await voice.says(bytes([byte]))
        await trio.lowlevel.checkpoint()
    assert (await client.hears_message()).body == b"ok"


BODILESS = [
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", "999"),
    (b"HEAD", CHUNKED_OK, None),
    (b"HEAD", UNTIL_CLOSE_OK, None),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\nETag: x\r\n\r\n", "999"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
]


@pytest.mark.parametrize(("method", "answer", "length"), BODILESS)
async def test_an_answer_without_a_body_ends_at_its_head(
    lab: Lab, method: bytes, answer: bytes, length: str | None
) -> None:
    request = method + GET[3:]
    client, voice = await exchange(lab, request, answer)
    head = await client.hears_message(bodiless=True)
    assert head.all("content-length") == ([length] if length else [])
    await client.says(request)
    if method == b"HEAD" or b"999" in answer:  # the body may come late
        voice = await lab.endpoints[0].accepts()
    await voice.hears_head()
    await voice.says(answer)
    assert (await client.hears_message(bodiless=True)).first == head.first


async def test_bytes_behind_an_answer_reach_nobody_and_end_the_members_connection(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert (await client.hears_message()).body == b"ok"
    await voice.hears_end()
    await client.hears_nothing()


async def test_a_member_that_closes_after_its_answer_is_not_used_again(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    answer = await client.hears_message()
    assert "connection" not in answer
    await voice.hears_end()
    await client.says(GET)
    await lab.endpoints[0].accepts()


# Interim answers.


async def test_100_continue_makes_its_round_trip(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["expect"] == "100-continue"
    await voice.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await client.hears_message(bodiless=True)).status == 100
    await client.says(b"body")
    await voice.hears(b"body")
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_103_early_hints_pass(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
    hints = await client.hears_message(bodiless=True)
    assert (hints.status, hints["link"]) == (103, "</x>")
    assert (await client.hears_message()).body == b"ok"


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_more_interim_answers_than_there_can_be_reason_for_are_502(
    lab: Lab, at_once: bool, version: bytes
) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    voice = await endpoint.accepts()
    await voice.hears_head()
    if at_once:
        await voice.says(HINTS * 1000)
    else:
        for _ in range(MAX_INTERIMS + 1):
            await voice.says(HINTS)
            await trio.testing.wait_all_tasks_blocked()
    if version == b"1.1":
        for _ in range(MAX_INTERIMS):
            assert (await client.hears_message(bodiless=True)).status == 103
    assert (await client.hears_message()).status == 502
    assert lab.front.counters.errors == 1


async def test_as_many_interim_answers_as_are_allowed_pass(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, HINTS * MAX_INTERIMS + OK)
    for _ in range(MAX_INTERIMS):
        assert (await client.hears_message(bodiless=True)).status == 103
    assert (await client.hears_message()).status == 200


@pytest.mark.parametrize("request_head", [GET, CHUNKED_POST])
async def test_interim_answers_wait_for_a_client_that_does_not_read(lab: Lab, request_head: bytes) -> None:
    client, endpoint = await lab.converses()
    await client.says(request_head)
    voice = await endpoint.accepts()
    await voice.hears_head()
    (connection,) = lab.front.clients
    real = connection.sock
    connection.sock = Full(real)
    await voice.says(HINTS * 3)
    await lab.until(lambda: connection.exchange.interims)
    upstream = connection.exchange.connection
    assert connection.exchange.interims == 1
    assert upstream.paused
    assert upstream.deadline is NEVER
    assert connection.deadline is not NEVER
    connection.sock = real
    if request_head is not GET:
        await client.says(b"0\r\n\r\n")
    for _ in range(3):
        assert (await client.hears_message(bodiless=True)).status == 103
    assert upstream.deadline is not NEVER
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_http_1_0_hears_no_interim_answer(lab: Lab) -> None:
    request = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
    client, _ = await exchange(lab, request, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert (await client.hears_message()).status == 200


# Answers that cannot be passed on.

UNUSABLE = [
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
]


@pytest.mark.parametrize("answer", UNUSABLE, ids=range(len(UNUSABLE)))
async def test_an_answer_that_cannot_be_passed_on_is_502(lab: Lab, answer: bytes) -> None:
    client, voice = await exchange(lab, GET, answer)
    refusal = await client.hears_message()
    assert refusal.status == 502
    assert refusal.body.startswith(b"node-1: the endpoint sent an answer that cannot be passed on: ")
    assert await closes(voice)


OTHERS = [
    (b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH"),
    (b"\x15\x03\x03\x00\x02\x02\x46", b"TLS"),
    (b"220 mail.example\r\n\r\n", b"mail"),
    (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nok\n", b"LF alone"),
    (b"HTTP/1.1 103 Early Hints\r\n\r\nnonsense", b"first bytes"),
]


@pytest.mark.parametrize(("answer", "why"), OTHERS)
async def test_what_does_not_speak_http_is_named_at_once(lab: Lab, answer: bytes, why: bytes) -> None:
    client, voice = await exchange(lab, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", answer)
    refusal = await client.hears_message()
    assert refusal.status == 502
    assert why in refusal.body
    assert await closes(voice)


async def closes(voice: Voice) -> bool:
    with trio.fail_after(DEADLINE_S):
        try:
            return await voice.stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True


# Answers that come early.


async def test_an_answer_may_come_while_the_body_still_does(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome")
    voice = await endpoint.accepts()
    await voice.hears_up_to(b"some")
    await voice.says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    answer = await client.hears_message()
    assert (answer.status, answer["connection"], answer.body) == (403, "close", b"no")
    await client.says(b"x" * 50)
    await client.hears_end()
    await voice.hears_end()


async def test_an_early_answer_survives_the_reset_that_follows_it(lab: Lab) -> None:
    """The endpoint answers and closes with most of the body unread: the kernel resets, the answer still counts."""
    client, endpoint = await lab.converses()
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n")
    voice = await endpoint.accepts()
    voice.listens_little()
    await voice.hears_head()
    with trio.move_on_after(0.1):
        await client.stream.send_all(bytes(16 * MIB))
    await voice.says(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
    await voice.leaves()
    assert (await client.hears_message()).status == 413


async def test_both_bodies_may_flow_at_once(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED_POST)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(CHUNKED_OK)
    head = await client.hears_head()
    assert head["connection"] == "close"
    for letter in (b"a", b"b", b"c"):
        await client.says(b"1\r\n" + letter + b"\r\n")
        await voice.hears(b"1\r\n" + letter + b"\r\n")
        await voice.says(b"1\r\n" + letter.upper() + b"\r\n")
        await client.hears(b"1\r\n" + letter.upper() + b"\r\n")
    await client.says(b"0\r\n\r\n")
    await voice.hears(b"0\r\n\r\n")
    await voice.says(b"0\r\n\r\n")
    assert await client.hears_rest() == b"0\r\n\r\n"


# Caps on the request body.


async def test_a_length_over_the_cap_is_413_and_reaches_no_member(lab: Lab) -> None:
    client, endpoint = await lab.converses(limits=Limits(body=3))
    assert (await client.asks(POST)).status == 413
    await client.hears_end()
    await endpoint.is_left_alone()


async def test_chunks_over_the_cap_are_413_and_end_the_members_request(lab: Lab) -> None:
    client, endpoint = await lab.converses(limits=Limits(body=3))
    await client.says(CHUNKED_POST + b"3\r\nabc\r\n")
    voice = await endpoint.accepts()
    await voice.hears_up_to(b"3\r\nabc\r\n")
    await client.says(b"1\r\nd\r\n")
    assert (await client.hears_message()).status == 413
    await client.hears_end()
    await voice.hears_end()


# Backpressure.


def backlog_bytes(lab: Lab) -> int:
    """What the node holds in its memory for all its clients and endpoints."""
    streams = [*lab.front.clients, *(c.exchange.connection for c in lab.front.clients if c.exchange)]
    return sum(len(piece) for stream in streams if stream is not None for piece in stream.backlog or ())


async def test_a_slow_client_slows_the_member_down_and_the_node_holds_little(lab: Lab) -> None:
    size = 64 * MIB
    client, endpoint = await lab.converses()
    client.listens_little()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(say_much, voice, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, size)
    await client.hears_head()
    held = await hear_slowly(lab, client, size)
    assert max(held) <= MIB
    assert any(held)


async def test_a_slow_member_slows_the_client_down_and_the_node_holds_little(lab: Lab) -> None:
    size = 64 * MIB
    client, endpoint = await lab.converses()
    lab.background.start_soon(say_much, client, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, size)
    voice = await endpoint.accepts()
    voice.listens_little()
    await voice.hears_head()
    held = await hear_slowly(lab, voice, size)
    assert max(held) <= MIB
    assert any(held)
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def say_much(voice: Voice, head: bytes, size: int) -> None:
    await voice.says(head)
    block = bytes(range(256)) * 4096
    with trio.fail_after(30):
        for _ in range(size // len(block)):
            await voice.stream.send_all(block)


async def hear_slowly(lab: Lab, voice: Voice, size: int) -> list[int]:
    """Hear `size` bytes, the first MiB in pauses; what the node held at each step."""
    held = []
    heard = len(voice.ahead)
    pattern = bytes(range(256)) * 4097
    while heard < size:
        if heard < MIB:
            await trio.sleep(0.002)
        held.append(backlog_bytes(lab))
        with trio.fail_after(DEADLINE_S):
            more = await voice.stream.receive_some(MIB if heard > MIB else 64 * 1024)
        assert more == pattern[heard % 256 : heard % 256 + len(more)]
        heard += len(more)
    return held


async def test_a_client_that_reads_slowly_but_reads_is_not_cut(lab: Lab, clock: Clock) -> None:
    size = 32 * MIB
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60.0))
    client.listens_little()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(say_much, voice, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, size)
    await client.hears_head()
    (served,) = lab.front.clients
    heard = 0
    for _ in range(12):
        passes(lab, clock, 40.0)
        heard += len(await client.hears_count(2 * MIB))
        await lab.until(lambda: served.deadline >= clock.now + 60.0)
    assert len(await client.hears_count(size - heard)) == size - heard


async def test_a_client_that_stops_reading_is_cut(lab: Lab) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=0.1))
    client.listens_little()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    with pytest.raises(trio.BrokenResourceError):
        await say_much(voice, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB), 64 * MIB)
    assert not lab.front.clients


# Clients that go away.


@pytest.mark.parametrize("request_bytes", [GET, POST[:-2]])
async def test_a_client_that_resets_ends_the_members_work(lab: Lab, request_bytes: bytes) -> None:
    client, endpoint = await lab.converses()
    await client.says(request_bytes)
    voice = await endpoint.accepts()
    await voice.hears_head()
    client.resets()
    assert await closes_after_rest(voice)
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    assert lab.front.counters.connections == 0


async def closes_after_rest(voice: Voice) -> bool:
    return await voice.hears_rest() in (b"", b"bo")


# Upgrades.

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Y: z\r\n\r\n"


async def test_an_upgrade_joins_both_sides(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(UPGRADE + b"right behind the request")
    voice = await endpoint.accepts()
    request = await voice.hears_head()
    assert (request["upgrade"], request["connection"]) == ("websocket", "upgrade")
    await voice.says(SWITCH + b"right behind the 101")
    answer = await client.hears_message(bodiless=True)
    assert (answer.status, answer["upgrade"], answer["x-y"]) == (101, "websocket", "z")
    await client.hears(b"right behind the 101")
    await voice.hears(b"right behind the request")
    await client.says(b"ping")
    await voice.hears(b"ping")
    await voice.says(b"pong")
    await client.hears(b"pong")
    await client.ends()
    await voice.hears_end()
    await voice.says(b"last words")
    await voice.leaves()
    assert await client.hears_rest() == b"last words"
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    assert lab.front.counters.connections == 0


async def test_an_upgrade_that_the_member_declines_is_an_ordinary_answer(lab: Lab) -> None:
    client, voice = await exchange(lab, UPGRADE, OK)
    assert (await client.hears_message()).body == b"ok"
    await client.says(GET)
    await voice.hears_head()


async def test_an_upgrade_behind_an_answer_still_being_written_loses_no_byte(lab: Lab) -> None:
    size = 8 * MIB
    client, endpoint = await lab.converses()
    client.listens_little()
    await client.says(GET + UPGRADE)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(answer_and_switch, voice, size)
    await client.hears_head()
    assert len(await client.hears_count(size)) == size
    assert (await client.hears_message(bodiless=True)).status == 101


async def answer_and_switch(voice: Voice, size: int) -> None:
    await say_much(voice, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, size)
    await voice.hears_head()
    await voice.says(SWITCH)


async def test_h2c_is_not_asked_for(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert "upgrade" not in request
    assert "connection" not in request


# What the endpoint's answers say of the endpoint.

REPORT = OrcaReport(application=0.5, rps=50.0, named={"slots": 3.0})
LOADS = {
    "text": b"endpoint-load-metrics: " + encode(REPORT, Orca.TEXT),
    "json": b"endpoint-load-metrics: " + encode(REPORT, Orca.JSON),
    "bin": b"endpoint-load-metrics: " + encode(REPORT, Orca.BIN),
    "grpc": b"endpoint-load-metrics-bin: " + encode(REPORT, Orca.BIN)[4:],
}


def loaded(field: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + field + b"\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("field", LOADS.values(), ids=LOADS)
async def test_an_endpoints_load_is_heeded_and_not_passed_on(lab: Lab, field: bytes) -> None:
    client, _ = await exchange(lab, GET, loaded(field))
    answer = await client.hears_message()
    assert [name for name, _ in answer.fields] == ["content-length"]
    estimate = lab.host(lab.endpoints[0]).estimate
    assert estimate.slots == 3
    assert estimate.capacity(lab.plane.reactor.now, None) == pytest.approx(100)


async def test_a_load_that_cannot_be_read_changes_nothing_and_is_not_passed_on(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, loaded(b"endpoint-load-metrics: TEXT slots=many"))
    answer = await client.hears_message()
    assert (answer.body, [name for name, _ in answer.fields]) == (b"ok", ["content-length"])
    assert lab.host(lab.endpoints[0]).estimate.slots == SLOTS
    assert lab.front.replies.orca.bad == 1


@pytest.mark.parametrize(("status", "failed"), [(200, 0), (404, 0), (429, 1), (500, 1), (501, 0), (503, 1)])
async def test_errors_that_are_the_members_lie_in_its_queue(lab: Lab, status: int, failed: int) -> None:
    client, _ = await exchange(lab, GET, b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)
    assert (await client.hears_message()).status == status
    load = lab.plane.load()
    assert (load.hosts[0].done, load.hosts[0].failed, load.errors) == (1, failed, 0)
    assert (lab.host(lab.endpoints[0]).estimate.error_penalty(lab.plane.reactor.now) > 0) is bool(failed)


async def test_a_member_that_fails_fast_gets_next_to_nothing(lab: Lab) -> None:
    good, bad = await lab.endpoint(), await lab.endpoint()
    lab.background.start_soon(good.answers_all, OK)
    lab.background.start_soon(bad.answers_all, b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
    await lab.serves(l7(good, bad, balance=Policy.LOAD_AWARE))
    client = await lab.connects()
    statuses = [(await client.asks(GET)).status for _ in range(300)]
    assert 1 <= statuses.count(500) <= 6


async def test_a_slow_answer_is_remembered_by_the_policy_that_goes_by_it(lab: Lab, clock: Clock) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(one, two, balance=Policy.PEAK_EWMA))
    client = await lab.connects()
    took_s = {}
    for seconds in (0.3, 0.01):
        await client.says(GET)
        endpoint, voice = await lab.accepts(one, two)
        await voice.hears_head()
        clock.now += seconds
        await voice.says(OK)
        await client.hears_message()
        took_s[endpoint.spec.name] = seconds
    costs = {each.name: each.peak.cost for each in lab.front.registry.hosts}
    assert costs == pytest.approx(took_s, rel=0.01)
    for _ in range(5):
        await client.says(GET)
        await voice.hears_head()
        await voice.says(OK)
        await client.hears_message()


# What the node counts.


async def test_every_exchange_is_counted_once(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, OK)
    await client.hears_message()
    load = lab.plane.load()
    assert (load.items, load.errors, load.rejected, load.in_flight, load.connections) == (1, 0, 0, 0, 1)
    assert (load.bytes_in, load.bytes_out) == (len(GET), len(OK))
    (endpoint,) = load.hosts
    assert (endpoint.done, endpoint.failed, endpoint.in_flight, endpoint.availability) == (1, 0, 0, "available")


async def test_a_request_under_way_is_in_flight(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    await (await endpoint.accepts()).hears_head()
    load = lab.plane.load()
    assert (load.in_flight, load.hosts[0].in_flight) == (1, 1)


@pytest.mark.parametrize(("long", "waited", "kept"), [(True, 9, 0), (True, 0, 1), (False, 9, 1)])
async def test_the_time_of_a_request_that_began_parked_counts_if_its_kind_answers_soon(
    lab: Lab, long: bool, waited: int, kept: int
) -> None:
    client, endpoint = await lab.converses()
    kinds = lab.front.registry.kinds
    kinds._swept_at = lab.front.reactor.now
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_up_to(b"ok")
    (host,) = lab.front.registry.hosts

    def told() -> int:
        return sum(map(len, host.times.values())) + sum(kinds._answered)

    kinds.long[:] = [long] * len(kinds.long)
    kinds._answered = [2] * len(kinds.long)
    kinds._waited = [waited] * len(kinds.long)
    before = told()
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_up_to(b"ok")
    assert told() - before == kept
    assert (host.in_flight, host.parked) == (0, 0)


# Hosts that fall silent.


class Looks:
    """Stands in for looking at a connection: counts, and finds what it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.found = NEVER

    def __call__(self, sock: socket.socket) -> float:
        self.count += 1
        return self.found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr(peer_liveness, "next_look_s", looks)
    return looks


def passes(lab: Lab, clock: Clock, seconds: float) -> None:
    """So much time, without the reactor's having to wait for it."""
    clock.now += seconds
    lab.plane.reactor.wheel.advance(lab.plane.reactor.look())


async def test_a_member_that_is_looked_at_has_all_its_time_to_answer(lab: Lab, clock: Clock, looks: Looks) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(response=60.0))
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    passes(lab, clock, LOOK_S + TICK_S)
    assert looks.count == 1
    passes(lab, clock, 60.0 - LOOK_S - 2 * TICK_S)
    assert lab.host(endpoint).in_flight == 1
    passes(lab, clock, 3 * TICK_S)
    answer = await client.hears_message()
    assert answer.status == 504
    assert b"took too long to answer\n" in answer.body
    assert looks.count == 1, "nothing of ours was on its way, so nothing could change"


async def test_a_member_that_is_looked_at_may_answer(lab: Lab, clock: Clock, looks: Looks) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    looks.found = 2.0
    for _ in range(3):
        passes(lab, clock, LOOK_S + TICK_S)
    assert looks.count == 3
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"


async def test_a_member_that_answers_soon_is_not_looked_at(lab: Lab, clock: Clock, looks: Looks) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    for _ in range(4):
        await voice.hears_head()
        passes(lab, clock, LOOK_S - 2 * TICK_S)
        await voice.says(OK)
        assert (await client.hears_message()).status == 200
        await client.says(GET)
    assert looks.count == 0


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
    passes(lab, clock, LOOK_S + TICK_S)
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
    passes(lab, clock, LOOK_S + TICK_S)
    looks.found = GONE
    passes(lab, clock, LOOK_S)
    looks.found = NEVER
    other, again = await lab.accepts(*endpoints)
    await again.hears_head()
    passes(lab, clock, 30.0 - TICK_S)
    assert lab.host(other).in_flight == 1
    passes(lab, clock, 2 * TICK_S)
    assert (await client.hears_message()).status == 504


async def test_a_post_to_a_silent_host_is_502_and_says_why(lab: Lab, clock: Clock, looks: Looks) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(one, two))
    client = await lab.connects()
    await client.says(POST)
    silent, voice = await lab.accepts(one, two)
    await voice.hears_head()
    await voice.hears(b"body")
    looks.found = GONE
    passes(lab, clock, LOOK_S + TICK_S)
    answer = await client.hears_message()
    assert answer.status == 502
    assert b" is silent, as if its host were gone\n" in answer.body
    assert lab.host(silent).errors == 1
    await (two if silent is one else one).is_left_alone()


async def test_a_silent_host_is_found_while_its_member_does_not_read_the_body(
    lab: Lab, clock: Clock, looks: Looks
) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    lab.background.start_soon(client.says, bytes(16 * MIB))
    await (await endpoint.accepts()).hears_head()
    (served,) = lab.front.clients
    await lab.until(lambda: served.exchange.connection.backlog is not None and served.paused)
    looks.found = LOOK_S
    passes(lab, clock, LOOK_S + TICK_S)
    assert looks.count == 1
    assert served.exchange is not None
    looks.found = GONE
    passes(lab, clock, LOOK_S + TICK_S)
    assert (await client.hears_message()).status == 502


async def test_a_silent_host_is_found_while_the_client_is_slow_with_the_body(
    lab: Lab, clock: Clock, looks: Looks
) -> None:
    client, endpoint = await lab.converses()
    await client.says(POST[:-2])
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.hears(b"bo")
    looks.found = GONE
    passes(lab, clock, LOOK_S + TICK_S)
    assert (await client.hears_message()).status == 502


async def trickles(lab: Lab, clock: Clock, every_s: float, seconds: float) -> tuple[Voice, float]:
    """A client sends its body byte by byte until the exchange ends, at most for so long. That client, and how long."""
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60.0), limits=Limits(body_rate=0))
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    (served,) = lab.front.clients
    took_s = 0.0
    while took_s < seconds and served.exchange is not None:
        await client.says(b"x")
        await voice.hears(b"x")
        passes(lab, clock, every_s)
        took_s += every_s
    return client, took_s


@pytest.mark.parametrize("every_s", [LOOK_S / 20, LOOK_S / 2, LOOK_S - 2 * TICK_S])
async def test_a_body_that_trickles_does_not_hide_that_the_members_host_is_gone(
    lab: Lab, clock: Clock, looks: Looks, every_s: float
) -> None:
    looks.found = GONE
    client, took_s = await trickles(lab, clock, every_s, 4 * LOOK_S)
    assert 2 * LOOK_S <= took_s < 4 * LOOK_S, "what was sent lately has had its time to be answered"
    assert looks.count >= 2
    assert (await client.hears_message()).status == 502


async def test_a_body_that_trickles_goes_on_where_the_host_is_there(lab: Lab, clock: Clock, looks: Looks) -> None:
    looks.found = LOOK_S
    _, took_s = await trickles(lab, clock, 1.0, 5 * LOOK_S)
    assert took_s == 5 * LOOK_S
    assert looks.count == pytest.approx(5, abs=1)
    (served,) = lab.front.clients
    assert served.exchange is not None


async def test_a_body_that_trickles_goes_on_where_the_host_was_doubted_and_is_there(
    lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = itertools.cycle((GONE, LOOK_S))
    monkeypatch.setattr(peer_liveness, "next_look_s", lambda sock: next(found))
    _, took_s = await trickles(lab, clock, 1.0, 5 * LOOK_S)
    assert took_s == 5 * LOOK_S
    (served,) = lab.front.clients
    assert served.exchange is not None


async def test_a_client_that_sends_no_more_is_told_so_though_the_member_was_looked_at(
    lab: Lab, clock: Clock, looks: Looks
) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60.0), limits=Limits(body_rate=0))
    await client.says(POST[:-2])
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.hears(b"bo")
    passes(lab, clock, LOOK_S + TICK_S)
    assert looks.count == 1
    (served,) = lab.front.clients
    assert served.exchange.connection.deadline is NEVER, "the member owes nothing"
    passes(lab, clock, 60.0 - LOOK_S + TICK_S)
    assert (await client.hears_message()).status == 408


async def test_an_answer_whose_member_falls_silent_is_cut(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK)
    await client.hears_head()
    (served,) = lab.front.clients
    served.exchange.connection.on_broken(vanished())
    with pytest.raises(AssertionError, match="the connection ended"):
        await client.hears_up_to(b"0\r\n\r\n")
    (event,) = [event for event in lab.log.events if "response cut" in str(event)]
    assert "fell silent" in str(event)


# What this machine lacks, and connections that reach nobody.


@pytest.mark.parametrize("code", LACKS)
async def test_what_this_machine_lacks_is_blamed_on_no_member_and_answered_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    endpoints = [await lab.endpoint(), await lab.endpoint()]
    await lab.serves(l7(*endpoints))
    lacking(monkeypatch, code, endpoints)
    client = await lab.connects()
    for _ in range(10):
        answer = await client.asks(GET)
        assert (answer.status, answer["retry-after"]) == (503, "1")
    assert [load.availability for load in lab.front.registry.loads()] == ["available"] * 2
    assert [(load.failed, load.in_flight) for load in lab.front.registry.loads()] == [(0, 0)] * 2
    assert lab.log.count("resource_exhausted") == 1
    assert lab.log.count("request_failed") == 0
    assert lab.plane.load().short_connects == lab.front.registry.shortages.count >= 10
    assert lab.plane.load().shortages[-1].startswith("out of ")


async def test_a_lack_towards_one_member_sends_requests_to_another(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    full, free = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(full, free))
    lacking(monkeypatch, errno.EADDRNOTAVAIL, [full])
    lab.background.start_soon(free.answers_all, OK)
    client = await lab.connects()
    for _ in range(6):
        assert (await client.asks(POST)).status == 200
    assert [load.availability for load in lab.front.registry.loads()] == ["available"] * 2


async def test_an_epoll_set_that_takes_no_more_is_a_lack(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = await lab.converses()
    await lab.until(lambda: lab.front.clients)

    def add(self: Reactor, fd: int, mask: int, handler: object) -> None:
        raise OSError(errno.ENOSPC, "no more watches")

    monkeypatch.setattr(Reactor, "add", add)
    assert (await client.asks(GET)).status == 503
    assert lab.log.count("resource_exhausted") == 1


async def test_a_connect_that_reached_itself_is_refused_and_goes_elsewhere(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = await lab.nobody(), await lab.endpoint()
    await lab.serves(l7(dead, alive))
    reaching_itself(monkeypatch, dead)
    lab.background.start_soon(alive.answers_all, OK)
    client = await lab.connects()
    for _ in range(4):
        assert (await client.asks(GET)).body == b"ok"
    assert [load.availability for load in lab.front.registry.loads()] == ["ejected", "available"]
    assert lab.front.counters.errors == 0


# What clients are told of failures.


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
