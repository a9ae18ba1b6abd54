"""Bodies of requests: how they are framed, how fast they come, and what stops them."""

import collections
import itertools
from typing import Any

import pytest
import trio
import trio.testing

from tests.dataplane.conftest import Clock, Lab, Voice
from tests.dataplane.l7.conversations import Looks, passes
from tierlb.model.topology import Limits, Timeouts
from tierlb.net.peer_liveness import GONE, LOOK_S
from tierlb.net.reactor import WRITE
from tierlb.net.wheel import NEVER, WHEEL_TICK_S

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


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
    assert lab.host(lab.endpoints[0]).errors == 0
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
    upstream = connection.downstream.exchange.connection
    upstream.backlog = collections.deque([b"x"])
    upstream.mask |= WRITE
    await client.says(b"y")
    await lab.until(lambda: connection.paused)
    clock.now += 50
    lab.plane.reactor.look()
    upstream.reactor.modify(upstream.fd, upstream.mask)
    await voice.hears_count(1)
    await lab.until(lambda: not connection.paused)
    passes(lab, clock, 8.0 - 2 * WHEEL_TICK_S)
    assert lab.front.counters.rejected == 0, "two of ten seconds had passed before the host stopped reading"
    passes(lab, clock, 4 * WHEEL_TICK_S)
    assert (await client.hears_message()).status == 408


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


async def test_a_silent_host_is_found_while_its_member_does_not_read_the_body(
    lab: Lab, clock: Clock, looks: Looks
) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    lab.background.start_soon(client.says, bytes(16 * MIB))
    await (await endpoint.accepts()).hears_head()
    (served,) = lab.front.clients
    await lab.until(lambda: served.downstream.exchange.connection.backlog is not None and served.paused)
    looks.found = LOOK_S
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    assert looks.count == 1
    assert served.downstream.exchange is not None
    looks.found = GONE
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    assert (await client.hears_message()).status == 502


async def test_a_silent_host_is_found_while_the_client_is_slow_with_the_body(
    lab: Lab, clock: Clock, looks: Looks
) -> None:
    client, endpoint = await lab.converses(limits=Limits(body_rate=0))  # else both may be late in one tick
    await client.says(POST[:-2])
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.hears(b"bo")
    looks.found = GONE
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    assert (await client.hears_message()).status == 502


async def trickles(lab: Lab, clock: Clock, every_s: float, seconds: float) -> tuple[Voice, float]:
    """A client sends its body byte by byte until the exchange ends, at most for so long. That client, and how long."""
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60.0), limits=Limits(body_rate=0))
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    (served,) = lab.front.clients
    took_s = 0.0
    while took_s < seconds and served.downstream.exchange is not None:
        await client.says(b"x")
        await voice.hears(b"x")
        passes(lab, clock, every_s)
        took_s += every_s
    return client, took_s


@pytest.mark.parametrize("every_s", [LOOK_S / 20, LOOK_S / 2, LOOK_S - 2 * WHEEL_TICK_S])
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
    assert served.downstream.exchange is not None


async def test_a_body_that_trickles_goes_on_where_the_host_was_doubted_and_is_there(lab: Lab, clock: Clock) -> None:
    found = itertools.cycle((GONE, LOOK_S))
    lab.next_look_s = lambda sock: next(found)
    _, took_s = await trickles(lab, clock, 1.0, 5 * LOOK_S)
    assert took_s == 5 * LOOK_S
    (served,) = lab.front.clients
    assert served.downstream.exchange is not None


async def test_a_client_that_sends_no_more_is_told_so_though_the_member_was_looked_at(
    lab: Lab, clock: Clock, looks: Looks
) -> None:
    client, endpoint = await lab.converses(timeouts=Timeouts(stream=60.0), limits=Limits(body_rate=0))
    await client.says(POST[:-2])
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.hears(b"bo")
    passes(lab, clock, LOOK_S + WHEEL_TICK_S)
    assert looks.count == 1
    (served,) = lab.front.clients
    assert served.downstream.exchange.connection.deadline == NEVER, "the member owes nothing"
    passes(lab, clock, 60.0 - LOOK_S + WHEEL_TICK_S)
    assert (await client.hears_message()).status == 408
