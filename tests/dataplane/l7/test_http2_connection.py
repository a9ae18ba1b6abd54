"""The socket of a connection over HTTP/2: its deadlines, and how it gives way and ends."""

import contextlib
import gc

import pytest
import trio

from tests.dataplane.conftest import CLIENT, INNER, Lab, l4_parent, l7
from tests.dataplane.l7.http2 import OK, Http2Voice, connects_http2, connects_raw, converses_http2
from tierlb.model.snapshot import Rule
from tierlb.model.topology import ClientAbort, Limits, Match, Respond, Timeouts
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import CONTINUATION, GOAWAY, HEADERS, PREFACE, frame
from tierlb.wire.http2_reader import FrameReader

HELLO = (Rule(Match(), Respond(200, "hello\n")),)


async def test_an_idle_connection_ends_with_goaway(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(idle=0.2)))
    client = await connects_http2(lab)
    assert (await client.hears(await client.asks())).status == 200
    assert await client.hears_end() == 0


async def test_a_request_may_take_longer_than_the_idle_time(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, timeouts=Timeouts(idle=0.2))
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await trio.sleep(0.7)
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"


@pytest.mark.parametrize("said", [PREFACE[:20], PREFACE], ids=["half a preface", "no settings"])
async def test_a_preface_that_does_not_end_in_time_ends_the_connection(lab: Lab, said: bytes) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(head=0.2)))
    client = await lab.connects()
    await client.says(said)
    await client.hears_rest()
    assert lab.front.counters.rejected == 1


async def test_a_header_block_that_does_not_end_in_time_ends_the_connection(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(head=0.2)))
    raw = await connects_raw(lab, frame(HEADERS, 1, 1, encode_field(b":method", b"GET")))
    await raw.hears_kind(GOAWAY)
    await raw.voice.hears_rest()


async def test_a_client_that_reads_nothing_is_dropped_in_time(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, timeouts=Timeouts(stream=0.3))
    client.voice.listens_little()
    client.engine.increment_flow_control_window(2**30)
    await client.flush()
    client.engine.update_settings({4: 2**30})
    await client.flush()
    await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()

    async def says() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000))

    lab.background.start_soon(says)
    await lab.until(lambda: not lab.front.clients)
    assert lab.plane.load().in_flight == 0


async def test_at_the_cap_an_idle_connection_gives_way_with_goaway(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=1)))
    client = await connects_http2(lab)
    assert (await client.hears(await client.asks())).status == 200
    other = await connects_http2(lab)
    assert (await other.hears(await other.asks())).status == 200
    assert await client.hears_end() == 0


async def test_behind_an_l4_parent_the_client_is_the_one_it_names(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, listener=INNER))
    client = Http2Voice(await lab.connects())
    await client.voice.says(l4_parent())
    await client.begins()
    number = await client.asks()
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-for"] == CLIENT[0]
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"
    assert lab.front.relocation.movable == 1
    await client.voice.leaves()
    await lab.until(lambda: lab.front.relocation.movable == 0)


async def test_a_connection_that_is_to_move_parts_with_its_next_response(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, listener=INNER))
    client = Http2Voice(await lab.connects())
    await client.voice.says(l4_parent())
    await client.begins()
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    (connection,) = lab.front.clients
    assert connection.candidate().waits
    connection.lifetime.moves = True
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"
    assert await client.hears_end() == 0


async def test_with_client_abort_finish_the_end_of_a_client_finishes_its_requests(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, client_abort=ClientAbort.FINISH)
    await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await client.voice.ends()
    await voice.hears_nothing()
    await voice.says(OK)
    await lab.until(lambda: not lab.front.clients)


async def test_the_bytes_of_both_directions_are_counted(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await connects_http2(lab)
    await client.hears(await client.asks())
    await client.voice.leaves()
    await lab.until(lambda: not lab.front.clients)
    counters = lab.front.counters
    assert counters.bytes_in > 24
    assert counters.bytes_out > 6


async def test_a_handler_that_fails_ends_the_connection_and_harms_no_other(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    (connection,) = lab.front.clients
    lab.plane.reactor.crashed(connection, RuntimeError("injected"))
    assert await client.hears_end() == 2
    await voice.hears_no_word()
    assert lab.plane.load().in_flight == 0
    lab.log.events.clear()


@pytest.mark.parametrize("is_rude", [True, False])
async def test_of_a_header_block_that_is_never_finished_nothing_is_kept(lab: Lab, is_rude: bool) -> None:
    """Objects of a connection that is over may wait for the search for cycles."""
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello\n")),)))
    half = frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(16_000))
    gc.disable()
    try:
        raw = await connects_raw(lab, half, frame(GOAWAY, 0, 0) * is_rude)
        if is_rude:
            await raw.hears_kind(GOAWAY)
        else:
            await lab.until(lambda: any(reader.kept_bytes for reader in readers()))
        await raw.voice.leaves()
        await lab.until(lambda: not lab.front.clients)
        assert not any(reader.kept_bytes for reader in readers())
    finally:
        gc.enable()


def readers() -> list[FrameReader]:
    return [each for each in gc.get_objects() if isinstance(each, FrameReader)]
