"""One request and its response, told from both ends: what the endpoint hears, what the client hears."""

import contextlib
from typing import Any

import pytest
import trio
import trio.testing

from tests.dataplane.conftest import DATA_KEY, DEADLINE_S, INNER, Clock, Lab, Reset, Voice, below, l7, taking_nothing
from tests.dataplane.l7.conversations import (
    Looks,
    backlog_bytes,
    begins,
    exchange,
    is_parked_by_a_tick,
    parked,
    passes,
    say_much,
)
from tierlb.balance.kind_places import ANSWER_FORMS
from tierlb.balance.pool_slots import GUESSED_SLOTS
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.response_half import MOST_INTERIMS
from tierlb.model.load import Echo
from tierlb.model.topology import Limits, Orca, Policy, Timeouts
from tierlb.net.peer_liveness import GONE, LOOK_S, vanished
from tierlb.net.wheel import NEVER, WHEEL_TICK_S
from tierlb.wire.http_body import CHUNKS_A_CALL, STRETCH_CHUNKS
from tierlb.wire.orca import encode_orca
from tierlb.wire.orca_report import OrcaReport
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, PROCESS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


# Bodies in very many chunks.

ONES = b"1\r\nx\r\n"


async def test_tiny_chunks_of_an_answer_arrive_as_few_large_ones(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, CHUNKED_OK + ONES * 4000 + b"0\r\n\r\n")
    await client.hears_head()
    framed = await client.hears_up_to(b"\r\n0\r\n\r\n")
    assert framed.count(b"x") == 4000
    assert len(framed) < 4000 + 20 * 4000 // CHUNKS_A_CALL + 100
    await client.says(GET)
    await voice.hears_head()


async def test_an_answer_of_far_too_many_tiny_chunks_is_cut(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK + ONES * (STRETCH_CHUNKS + CHUNKS_A_CALL))
    await client.hears_head()
    assert b"0\r\n\r\n" not in await client.hears_rest()
    assert lab.front.counters.errors == 1


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


async def test_a_child_hears_once_on_each_connection_who_its_parent_is(lab: Lab) -> None:
    client, endpoint = await lab.converses(says={"child": True})
    other = await lab.connects()
    voices = []
    for each in (client, other):
        await each.says(GET)
        voices.append(await endpoint.accepts())
        header = await voices[-1].hears_proxy_header()
        assert header.source is None
        assert header.tlvs == {PARENT: b"node-1", DATA_KEY_TLV: DATA_KEY, PROCESS: b"boot-1"}
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

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
PATIENT = Timeouts(response=1000.0, stream=1000.0, idle=1000.0)


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
    lab.front.config.replies.known[OK[:-2]] = "no reply"
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
    assert all(
        each.in_flight == 0 and not each.under_way and not each.parked_items for each in lab.front.registry.hosts
    )


async def test_a_tunnel_is_parked_from_the_moment_it_is_one(lab: Lab, clock: Clock) -> None:
    client, voice = await begins(lab, UPGRADE)
    assert parked(lab) == (0,) * 5
    await voice.says(SWITCHED)
    await client.hears_message(bodiless=True)
    assert parked(lab) == (1,) * 5
    assert (lab.plane.load().tunnels, lab.plane.load().in_flight) == (1, 1)


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
        for _ in range(MOST_INTERIMS + 1):
            await voice.says(HINTS)
            await trio.testing.wait_all_tasks_blocked()
    if version == b"1.1":
        for _ in range(MOST_INTERIMS):
            assert (await client.hears_message(bodiless=True)).status == 103
    assert (await client.hears_message()).status == 502
    assert lab.front.counters.errors == 1


async def test_as_many_interim_answers_as_are_allowed_pass(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, HINTS * MOST_INTERIMS + OK)
    for _ in range(MOST_INTERIMS):
        assert (await client.hears_message(bodiless=True)).status == 103
    assert (await client.hears_message()).status == 200


@pytest.mark.parametrize("request_head", [GET, CHUNKED_POST])
async def test_interim_answers_wait_for_a_client_that_does_not_read(lab: Lab, request_head: bytes) -> None:
    client, endpoint = await lab.converses()
    await client.says(request_head)
    voice = await endpoint.accepts()
    await voice.hears_head()
    (connection,) = lab.front.clients
    with taking_nothing(connection.fd):
        await voice.says(HINTS * 3)
        await lab.until(lambda: connection.downstream.exchange.connection.response.interims)
        upstream = connection.downstream.exchange.connection
        assert connection.downstream.exchange.connection.response.interims == 1
        assert upstream.paused
        assert upstream.deadline == NEVER
        assert connection.deadline != NEVER
    if request_head is not GET:
        await client.says(b"0\r\n\r\n")
    for _ in range(3):
        assert (await client.hears_message(bodiless=True)).status == 103
    assert upstream.deadline != NEVER
    await voice.says(OK)
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


# Backpressure.


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


# What the endpoint's answers say of the endpoint.

REPORT = OrcaReport(application=0.5, rps=50.0, named={"slots": 3.0})
LOADS = {
    "text": b"endpoint-load-metrics: " + encode_orca(REPORT, Orca.TEXT),
    "json": b"endpoint-load-metrics: " + encode_orca(REPORT, Orca.JSON),
    "bin": b"endpoint-load-metrics: " + encode_orca(REPORT, Orca.BIN),
    "grpc": b"endpoint-load-metrics-bin: " + encode_orca(REPORT, Orca.BIN)[4:],
}


def loaded(field: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + field + b"\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("field", LOADS.values(), ids=LOADS)
async def test_an_endpoints_load_is_heeded_and_not_passed_on(lab: Lab, field: bytes) -> None:
    client, _ = await exchange(lab, GET, loaded(field))
    answer = await client.hears_message()
    assert [name for name, _ in answer.fields] == ["content-length"]
    estimate = lab.host(lab.endpoints[0]).estimate
    assert estimate.slots.value == 3
    assert estimate.capacity(lab.plane.reactor.now, None) == pytest.approx(100)


async def test_a_load_that_cannot_be_read_changes_nothing_and_is_not_passed_on(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, loaded(b"endpoint-load-metrics: TEXT slots=many"))
    answer = await client.hears_message()
    assert (answer.body, [name for name, _ in answer.fields]) == (b"ok", ["content-length"])
    assert lab.host(lab.endpoints[0]).estimate.slots.value == GUESSED_SLOTS
    assert lab.front.config.replies.orca.bad == 1


@pytest.mark.parametrize(("status", "failed"), [(200, 0), (404, 0), (429, 1), (500, 1), (501, 0), (503, 1)])
async def test_errors_that_are_the_members_lie_in_its_queue(lab: Lab, status: int, failed: int) -> None:
    client, _ = await exchange(lab, GET, b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)
    assert (await client.hears_message()).status == status
    load = lab.plane.load()
    assert (load.hosts[0].done, load.hosts[0].failed, load.errors) == (1, failed, 0)
    assert (lab.host(lab.endpoints[0]).estimate.penalties.value(lab.plane.reactor.now) > 0) is bool(failed)


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
    kinds.learn(lab.front.reactor.now)  # the next sweep is far off
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_up_to(b"ok")
    (host,) = lab.front.registry.hosts

    def counted() -> int:
        return sum(map(len, host.times.values())) + sum(count for _, count, _ in kinds.counts.value())

    kinds.long[:] = [long] * len(kinds.long)
    for number in range(0, len(kinds.long), ANSWER_FORMS):
        kinds.judge({number: [0.01, 0.01]})
        for _ in range(waited):
            kinds.note_waited(number)
    before = counted()
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_up_to(b"ok")
    assert counted() - before == kept
    assert (host.in_flight, host.parked) == (0, 0)


# Hosts that fall silent.


async def test_a_member_that_is_looked_at_has_all_its_time_to_answer(lab: Lab, clock: Clock, looks: Looks) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(response=60.0))
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    assert looks.count == 1
    passes(lab, clock, 60.0 - LOOK_S - 2 * WHEEL_TICK_S)
    assert lab.host(endpoint).in_flight == 1
    passes(lab, clock, 3 * WHEEL_TICK_S)
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
        passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    assert looks.count == 3
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"


async def test_a_member_that_answers_soon_is_not_looked_at(lab: Lab, clock: Clock, looks: Looks) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    for _ in range(4):
        await voice.hears_head()
        passes(lab, clock, LOOK_S - 2 * WHEEL_TICK_S)
        await voice.says(OK)
        assert (await client.hears_message()).status == 200
        await client.says(GET)
    assert looks.count == 0


async def test_a_post_to_a_silent_host_is_502_and_says_why(lab: Lab, clock: Clock, looks: Looks) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l7(one, two))
    client = await lab.connects()
    await client.says(POST)
    silent, voice = await lab.accepts(one, two)
    await voice.hears_head()
    await voice.hears(b"body")
    looks.found = GONE
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    answer = await client.hears_message()
    assert answer.status == 502
    assert b" is silent, as if its host were gone\n" in answer.body
    assert lab.host(silent).errors == 1
    await (two if silent is one else one).is_left_alone()


async def test_an_answer_whose_member_falls_silent_is_cut(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK)
    await client.hears_head()
    (served,) = lab.front.clients
    served.downstream.exchange.connection.on_broken(vanished())
    with pytest.raises(AssertionError, match="the connection ended"):
        await client.hears_up_to(b"0\r\n\r\n")
    (event,) = [event for event in lab.log.events if "response_cut" in str(event)]
    assert "fell silent" in str(event)
