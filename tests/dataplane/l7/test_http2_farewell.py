"""Connections of HTTP/2 part with two GOAWAYs, and lose no request."""

import trio

from tests.dataplane.conftest import Lab, l7
from tests.dataplane.l7.http2 import GET, OK, connects_http2, converses_http2
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import LAST_ID, PREFACE, REFUSED_STREAM, frame, settings_frame

HELLO = (Rule(Match(), Respond(200, "hello\n")),)


async def test_a_drain_says_so_answers_what_is_under_way_and_ends(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.front.drain()
    assert await client.hears_goaway() == (LAST_ID, 0)
    assert await client.hears_goaway() == (number, 0), "the ping came back"
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"
    assert await client.hears_end() == 0


async def test_a_request_that_crosses_the_first_goaway_is_served(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    head = b"".join(encode_field(*field) for field in GET)
    await client.says(PREFACE + settings_frame(()) + frame(1, 5, 1, head))
    await lab.until(lambda: lab.front.counters.tallies.total().arrivals == 1)
    lab.front.drain()
    await client.hears_up_to(b"farewell")
    await client.says(frame(1, 5, 3, head))
    await client.hears_up_to(b"hello\n")
    await client.says(frame(6, 1, 0, b"farewell"))
    assert b"\0\0\0\x03\0\0\0\0" in await client.hears_rest(), "the last stream that was served"


async def test_streams_behind_the_second_goaway_are_refused_and_can_be_tried_again(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.front.drain()
    while len(client.goaways) < 2:
        await client.hears_more()
    head = b"".join(encode_field(*field) for field in GET)
    await client.says_raw(frame(1, 5, number + 2, head))
    client.answers[number + 2] = type(client.answers[number])()
    heard = await client.voice.hears_count(13)
    assert heard[3] == 3
    assert int.from_bytes(heard[9:]) == REFUSED_STREAM
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"


async def test_an_idle_connection_parts_at_once(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await connects_http2(lab)
    assert (await client.hears(await client.asks())).body == b"hello\n"
    lab.front.drain()
    assert await client.hears_end() == 0
    await lab.until(lambda: lab.front.drained)


async def test_a_client_that_answers_no_ping_is_left_after_a_moment(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    await client.says(PREFACE + settings_frame(()))
    await lab.until(lambda: lab.front.clients)
    await trio.sleep(0.05)
    lab.front.drain()
    await client.hears_up_to(b"farewell")
    await client.hears_rest()
