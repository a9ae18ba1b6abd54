"""Connections over HTTP/2 to hosts: shared by requests, made when there is no room, kept, and ended."""

import errno

import attrs
import pytest

from tests.dataplane.conftest import Lab, Voice, l7, taking_nothing
from tests.dataplane.l7.http2 import GET, accepts_http2, connects_http2
from tierlb.dataplane.l7 import shared_connection
from tierlb.model.topology import PoolProtocol, Timeouts
from tierlb.net.wheel import NEVER
from tierlb.wire.http2_frames import settings_frame

H2C = {"protocol": PoolProtocol.H2C}
ASK = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


async def asks(lab: Lab, number: int) -> Voice:
    """A client of HTTP/1.1 with one request."""
    client = await lab.connects()
    await client.says(ASK % number)
    return client


async def test_requests_of_several_clients_share_one_connection(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    clients = [await asks(lab, number) for number in range(3)]
    host = await accepts_http2(endpoint)
    await host.hears_request(3)
    for number, request in sorted(host.requests.items(), reverse=True):
        assert (request[b":method"], request[b":scheme"], request[b":authority"]) == (b"GET", b"http", b"a")
        assert request[b"x-forwarded-for"] == b"127.0.0.1"
        await host.answers(number, request[b":path"], (b"content-length", b"2"))
    assert sorted([(await client.hears_message()).body for client in clients]) == [b"/0", b"/1", b"/2"]
    assert lab.plane.load().in_flight == 0
    await endpoint.is_left_alone()


async def test_streams_are_picked_one_by_one(lab: Lab) -> None:
    endpoints = [await lab.endpoint(**H2C) for _ in range(2)]
    await lab.serves(l7(*endpoints))
    client = await connects_http2(lab)
    numbers = [await client.asks((*GET[:3], (b":path", b"/%d" % n))) for n in range(4)]
    hosts = [await accepts_http2(endpoint) for endpoint in endpoints]
    for host in hosts:
        await host.hears_request(2)
        for number in host.requests:
            await host.answers(number)
    assert [(await client.hears(number)).body for number in numbers] == [b"ok"] * 4


async def test_beyond_what_the_host_allows_there_is_another_connection(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    first = await asks(lab, 0)
    host = await accepts_http2(endpoint, MAX_CONCURRENT_STREAMS=1)
    await host.hears_request()
    await lab.until(lambda: lab.host(endpoint).idle[0].session.most == 1)
    second = await asks(lab, 1)
    other = await accepts_http2(endpoint)
    await other.answers(await other.hears_request())
    assert (await second.hears_message()).body == b"ok"
    await host.answers(1)
    assert (await first.hears_message()).body == b"ok"


async def test_requests_go_where_the_kernel_takes_its_time_to_connect(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    context = lab.host(endpoint).context
    dial = context.dial
    monkeypatch.setattr(context, "dial", lambda *given, **more: (dial(*given, **more)[0], errno.EINPROGRESS))
    client = await asks(lab, 0)
    host = await accepts_http2(endpoint)
    await host.answers(await host.hears_request())
    assert (await client.hears_message()).body == b"ok"


async def test_an_idle_connection_ends_with_goaway(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_connection, "IDLE_S", 0.2)
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await asks(lab, 0)
    host = await accepts_http2(endpoint)
    await host.answers(await host.hears_request())
    await client.hears_message()
    while not host.is_over:
        await host.hears_more()
    assert lab.host(endpoint).idle == []


async def test_where_nobody_listens_the_next_host_gets_the_request(lab: Lab) -> None:
    nobody, endpoint = await lab.endpoint(**H2C), await lab.endpoint(**H2C)
    nobody.falls()
    await lab.serves(l7(nobody, endpoint))
    clients = [await asks(lab, number) for number in range(2)]
    host = await accepts_http2(endpoint)
    await host.hears_request(2)
    for number in host.requests:
        await host.answers(number)
    assert [(await client.hears_message()).status for client in clients] == [200, 200]


async def test_a_host_that_speaks_something_else_is_502(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await asks(lab, 0)
    voice = await endpoint.accepts()
    await voice.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    again = await endpoint.accepts()
    await again.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert (await client.hears_message()).status == 502
    assert lab.plane.load().in_flight == 0


async def test_a_host_that_takes_too_long_is_504(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint, timeouts=Timeouts(response=0.2)))
    client = await asks(lab, 0)
    host = await accepts_http2(endpoint)
    await host.hears_request()
    assert (await client.hears_message()).status == 504
    while not host.resets:
        await host.hears_more()
    assert host.resets == {1: 8}


async def test_a_pool_that_changes_its_protocol_closes_what_speaks_the_other(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await asks(lab, 0)
    host = await accepts_http2(endpoint)
    await host.answers(await host.hears_request())
    await client.hears_message()
    endpoint.spec = attrs.evolve(endpoint.spec, protocol=PoolProtocol.HTTP1)
    lab.plane.apply(l7(endpoint, revision=2))
    while not host.is_over:
        await host.hears_more()
    await client.says(ASK % 1)
    voice = await endpoint.accepts()
    assert (await voice.hears_head()).first == "GET /1 HTTP/1.1"


async def test_a_connection_that_the_host_does_not_read_ends_in_time(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await asks(lab, 0)
    host = await accepts_http2(endpoint)
    await host.answers(await host.hears_request())
    await client.hears_message()
    (connection,) = lab.host(endpoint).idle
    with taking_nothing(connection.fd):
        await asks(lab, 1)
        await lab.until(lambda: connection.backlog is not None and len(connection.session.streams) == 1)
        await asks(lab, 2)
        await lab.until(lambda: len(connection.session.streams) == 2)
        assert connection.deadline < NEVER
        connection.on_deadline()
    assert connection.closed
    await accepts_http2(endpoint)


async def test_a_connection_that_allows_no_requests_is_not_kept(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await asks(lab, 0)
    host = await accepts_http2(endpoint)
    await host.hears_request()
    await host.voice.says(settings_frame(((3, 0),)))
    await host.answers(1)
    await client.hears_message()
    await lab.until(lambda: not lab.host(endpoint).idle)
