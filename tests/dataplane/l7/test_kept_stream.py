"""Connections that are kept for another request, and those that are not."""

import pytest

from tests.dataplane.conftest import (
    Lab,
    l7,
)
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond, Timeouts

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
BIG = (Rule(Match(), Respond(200, "x" * 100_000)),)


async def test_http_1_0_is_closed_after_its_answer(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    voice = await endpoint.accepts()
    assert (await voice.hears_head()).first == "GET / HTTP/1.1"
    await voice.says(OK)
    answer = await client.hears_message()
    assert (answer["connection"], answer.body) == ("close", b"ok")
    await client.hears_end()


async def test_http_1_0_is_kept_if_it_asks_for_that(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    voice = await endpoint.accepts()
    for _ in range(2):
        await voice.hears_head()
        await voice.says(OK)
        answer = await client.hears_message()
        assert (answer["connection"], answer.body) == ("keep-alive", b"ok")
        await client.says(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")


async def test_a_client_that_says_close_is_closed_and_the_member_is_kept(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    voice = await endpoint.accepts()
    assert "connection" not in await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears_message())["connection"] == "close"
    await client.hears_end()
    await voice.hears_nothing()


async def test_a_half_closed_client_still_gets_its_answer(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    await client.ends()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    answer = await client.hears_message()
    assert answer.body == b"ok"
    await client.hears_end()


async def test_a_half_closed_client_gets_all_answers_it_asked_for(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET * 3 + b"GET / unfinis")
    await client.ends()
    voice = await endpoint.accepts()
    for _ in range(3):
        await voice.hears_head()
        await voice.says(OK)
        assert (await client.hears_message()).body == b"ok"
    unfinished = await client.hears_message()
    assert (unfinished.status, unfinished["connection"]) == (400, "close")
    await client.hears_end()


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_client_that_ends_in_the_middle_of_a_head_is_answered(lab: Lab, data: bytes) -> None:
    client, _ = await lab.converses()
    await client.says(data)
    await client.ends()
    answer = await client.hears_message()
    assert (answer.status, b"middle of its head" in answer.body) == (400, True)
    await client.hears_end()


async def test_a_half_closed_client_that_reads_late_gets_all_answers(lab: Lab) -> None:
    await lab.serves(l7(rules=BIG))
    client = await lab.connects()
    client.listens_little()
    await client.says(GET * 100)
    await client.ends()
    await lab.until(lambda: all(c.eof for c in lab.front.clients))
    for _ in range(100):
        assert len((await client.hears_message()).body) == 100_000
    await client.hears_end()


async def test_a_request_cut_short_by_its_clients_end_is_not_passed_on_as_whole(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    voice = await endpoint.accepts()
    await voice.hears_up_to(b"half")
    await client.ends()
    await voice.hears_end()
    await client.hears_end()


async def test_a_client_that_never_asks_is_closed_when_the_time_for_a_head_is_over(lab: Lab) -> None:
    client, _ = await lab.converses(timeouts=Timeouts(head=0.1))
    await client.hears_end()
    assert lab.front.counters.rejected == 0


async def test_a_kept_client_is_closed_when_the_idle_time_is_over(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(idle=0.1)))
    client = await lab.connects()
    assert (await client.asks(GET)).body == b"hello\n"
    await client.hears_end()
