"""Clients that end their side while they wait: those that half-close and those that left."""

import pytest

from tests.dataplane.conftest import Clock, FakeEndpoint, Lab, Voice
from tierlb.dataplane.l7.abort import HALF_CLOSE_S, has_left
from tierlb.model.topology import ClientAbort

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_end_that_comes_with_the_request_is_a_half_close() -> None:
    assert not has_left(10.0, 10.0)
    assert not has_left(10.0 + HALF_CLOSE_S / 2, 10.0)
    assert has_left(10.0 + HALF_CLOSE_S * 2, 10.0)


async def waits(lab: Lab, clock: Clock, request: bytes = GET, **options: object) -> tuple[Voice, FakeEndpoint, Voice]:
    """A client whose request has been with the endpoint for a second."""
    client, endpoint = await lab.converses(**options)
    await client.says(request)
    voice = await endpoint.accepts()
    await voice.hears_up_to(b"\r\n\r\n")
    clock.now += 1.0
    return client, endpoint, voice


async def test_a_request_whose_client_left_is_cancelled(lab: Lab, clock: Clock) -> None:
    client, _, voice = await waits(lab, clock)
    await client.ends()
    await voice.hears_end()
    await client.hears_end()
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    assert lab.front.counters.connections == 0


async def test_with_finish_it_is_finished(lab: Lab, clock: Clock) -> None:
    client, _, voice = await waits(lab, clock, client_abort=ClientAbort.FINISH)
    await client.ends()
    await lab.until(lambda: all(c.downstream.has_left for c in lab.front.clients))
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    await client.hears_end()


async def test_it_is_never_sent_again(lab: Lab, clock: Clock) -> None:
    client, endpoint, voice = await waits(lab, clock, client_abort=ClientAbort.FINISH)
    await client.ends()
    await lab.until(lambda: all(c.downstream.has_left for c in lab.front.clients))
    await voice.leaves()
    assert (await client.hears_message()).status == 502
    await endpoint.is_left_alone()


async def test_for_a_client_that_half_closed_it_is(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    await client.ends()
    await lab.until(lambda: all(c.eof for c in lab.front.clients))
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.leaves()
    again = await endpoint.accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).body == b"ok"


@pytest.mark.parametrize("last", [b"dy", GET])
async def test_the_end_counts_from_the_last_byte_of_the_request_or_behind_it(
    lab: Lab, clock: Clock, last: bytes
) -> None:
    client, _, voice = await waits(lab, clock, request=POST if last == b"dy" else GET)
    before = sum(c.front.counters.bytes_in for c in lab.front.clients)
    await client.says(last)
    await lab.until(lambda: lab.front.counters.bytes_in == before + len(last))
    await client.ends()
    await lab.until(lambda: all(c.eof for c in lab.front.clients))
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"


async def test_once_its_answer_began_a_client_may_end_its_side(lab: Lab, clock: Clock) -> None:
    client, _, voice = await waits(lab, clock)
    await voice.says(OK[:-1])
    await client.hears_head()
    await client.hears(b"o")
    await client.ends()
    await lab.until(lambda: all(c.eof for c in lab.front.clients))
    await voice.says(OK[-1:])
    await client.hears(b"k")
    await client.hears_end()
