"""Connections whose protocol is switched by a 101 response."""

from tests.dataplane.conftest import (
    Clock,
    Lab,
    Voice,
    l7,
)
from tests.dataplane.l7.conversations import drains, exchange, say_much
from tierlb.model.topology import DRAIN_S, Admin, Timeouts

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MIB = 1024 * 1024
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Y: z\r\n\r\n"
PATIENT = Timeouts(*[1000.0] * 5)


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


async def test_a_tunnel_lasts_until_the_deadline_and_is_cut_then(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT)
    await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    assert (await client.hears_message(bodiless=True)).status == 101
    await drains(lab, clock, 0.9 * DRAIN_S)
    await client.says(b"still here")
    await voice.hears(b"still here")
    clock.now += 0.2 * DRAIN_S
    await client.hears_reset()
    assert ("drain_deadline_reached", {"requests": 0, "tunnels": 1, "connections": 0}) in lab.log.events


async def test_a_tunnel_of_a_node_that_stays_drained_is_cut_too(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT)
    await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    assert (await client.hears_message(bodiless=True)).status == 101
    lab.plane.apply(l7(endpoint, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += DRAIN_S
    await client.hears_reset()
    lab.plane.apply(l7(endpoint, timeouts=PATIENT, revision=3))
    again = await lab.connects()
    await again.says(GET)
    await (await endpoint.accepts()).hears_head()
