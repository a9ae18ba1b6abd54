"""What ends streams: their clients, the end of a drain, and how windows are given back."""

import contextlib

import pytest

from tests.dataplane.conftest import Lab, Reset
from tests.dataplane.l7.http2 import OK, POST, connects_http2, converses_http2
from tierlb.dataplane.l7.http2_streams import CONNECTION_WINDOW
from tierlb.model.topology import ClientAbort
from tierlb.wire.http2_frames import CANCEL


async def test_a_request_that_is_cancelled_is_cancelled_at_the_endpoint(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    client.engine.reset_stream(number, CANCEL)
    await client.flush()
    await voice.hears_no_word()
    assert lab.plane.load().in_flight == 0
    other = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears(other)).body == b"ok"


async def test_where_the_tier_says_so_a_cancelled_request_is_finished(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, client_abort=ClientAbort.FINISH)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    client.engine.reset_stream(number, CANCEL)
    await client.flush()
    await voice.hears_nothing()
    assert lab.plane.load().in_flight == 1
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    await client.asks()
    await voice.hears_head()


async def test_a_client_that_goes_cancels_all_of_its_requests(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    voices = []
    for _ in range(3):
        await client.asks()
        voices.append(await endpoint.accepts())
        await voices[-1].hears_head()
    await client.voice.leaves()
    for voice in voices:
        await voice.hears_no_word()
    await lab.until(lambda: not lab.front.clients)
    assert lab.plane.load().in_flight == 0


async def test_at_the_end_of_a_drain_requests_get_an_answer_and_answers_are_reset(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    waiting = await client.asks()
    await (await endpoint.accepts()).hears_head()
    begun = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
    while not client.answers[begun].body:
        await client.hears_more()
    lab.front.cut()
    assert (await client.hears(waiting)).status == 503
    assert (await client.hears(begun)).reset == CANCEL
    assert await client.hears_end() == 0


async def test_an_upload_longer_than_all_windows_goes_through(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    size = 3 * CONNECTION_WINDOW
    number = await client.asks((*POST, (b"content-length", b"%d" % size)), ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    got = sent = 0
    while sent < size:
        room = min(client.engine.local_flow_control_window(number), client.engine.max_outbound_frame_size, size - sent)
        if room:
            client.engine.send_data(number, bytes(room), end_stream=sent + room == size)
            await client.flush()
            sent += room
        else:
            got += len(await voice.hears_count(min(65536, sent - got)))
            if client.engine.local_flow_control_window(number) == 0 and got == sent:
                await client.hears_more()
    got += len(await voice.hears_count(size - got))
    assert got == size
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"


@pytest.mark.parametrize("ends", ["leaves", "resets"])
async def test_a_half_sent_body_is_not_taken_for_a_whole_one(lab: Lab, ends: str) -> None:
    client, endpoint = await converses_http2(lab)
    await client.asks(POST, b"half", ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.hears(b"4\r\nhalf\r\n")
    if ends == "leaves":
        await client.voice.leaves()
    else:
        client.voice.resets()
    with contextlib.suppress(Reset):
        assert await voice.hears_rest() == b""


async def test_another_connection_shares_nothing_but_what_is_remembered(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    lab.background.start_soon(endpoint.answers_all, OK)
    for _ in range(3):
        assert (await client.hears(await client.asks())).body == b"ok"
    other = await connects_http2(lab)
    assert (await other.hears(await other.asks())).body == b"ok"
