"""Connections to endpoints: kept, looked at, thrown away."""

import errno
import fcntl
import socket
import termios
from array import array

import attrs
import pytest

from tests.dataplane.conftest import FakeEndpoint, Lab, Voice, l7, taking_nothing
from tierlb.dataplane.l7 import pooled
from tierlb.model.topology import Admin
from tierlb.net.bulk import READ_BYTES
from tierlb.net.peer_liveness import vanished

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def kept(lab: Lab) -> tuple[Voice, Voice]:
    """A client and an endpoint's connection that has served one exchange."""
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    return client, voice


def idle_count(lab: Lab) -> int:
    return sum(len(host.idle) for host in lab.front.registry.hosts)


async def test_a_kept_connection_that_the_member_closes_leaves_the_pool(lab: Lab) -> None:
    _, voice = await kept(lab)
    assert idle_count(lab) == 1
    await voice.leaves()
    await lab.until(lambda: idle_count(lab) == 0)
    assert lab.front.counters.errors == 0


async def test_a_kept_connection_that_the_member_resets_leaves_the_pool(lab: Lab) -> None:
    _, voice = await kept(lab)
    voice.resets()
    await lab.until(lambda: idle_count(lab) == 0)


async def kept_twice(lab: Lab) -> list[pooled.PooledConnection]:
    """The kept connections of an endpoint."""
    first, endpoint = await lab.converses()
    second = await lab.connects()
    for client in (first, second):
        await client.says(GET)
        await (await endpoint.accepts()).hears_head()
    for client, voice in zip((first, second), endpoint.voices, strict=True):
        await voice.says(OK)
        await client.hears_message()
    return list(lab.host(endpoint).idle)


async def test_with_a_silent_host_all_kept_connections_to_it_are_given_up(lab: Lab) -> None:
    connections = await kept_twice(lab)
    assert len(connections) == 2
    connections[0].on_broken(vanished())
    assert idle_count(lab) == 0
    assert all(connection.closed for connection in connections)


async def test_a_reset_says_nothing_of_the_other_kept_connections(lab: Lab) -> None:
    connections = await kept_twice(lab)
    connections[0].on_broken(ConnectionResetError(errno.ECONNRESET, "reset"))
    assert lab.host(lab.endpoints[0]).idle == connections[1:]


async def test_bytes_that_nobody_asked_for_end_a_kept_connection(lab: Lab) -> None:
    client, voice = await kept(lab)
    await voice.says(OK)
    await lab.until(lambda: idle_count(lab) == 0)
    await client.says(GET)
    again = await lab.endpoints[0].accepts()
    await again.hears_head()
    await again.says(OK.replace(b"ok", b"no"))
    assert (await client.hears_message()).body == b"no"


async def test_the_freshest_connection_is_used_first(lab: Lab) -> None:
    first, endpoint = await lab.converses()
    second = await lab.connects()
    voices = []
    for client in (first, second):
        await client.says(GET)
        voices.append(await endpoint.accepts())
        await voices[-1].hears_head()
    for client, voice in zip((first, second), voices, strict=True):
        await voice.says(OK)
        await client.hears_message()
    await first.says(GET)
    await voices[1].hears_head()
    await voices[0].hears_nothing()


async def test_a_kept_connection_is_given_up_after_its_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "IDLE_S", 0.1)
    _, voice = await kept(lab)
    await voice.hears_end()
    assert idle_count(lab) == 0


async def test_no_more_connections_are_kept_than_the_cap(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "IDLE_PER_HOST", 1)
    first, endpoint = await lab.converses()
    second = await lab.connects()
    voices = []
    for client in (first, second):
        await client.says(GET)
        voices.append(await endpoint.accepts())
        await voices[-1].hears_head()
    for client, voice in zip((first, second), voices, strict=True):
        await voice.says(OK)
        await client.hears_message()
    await voices[1].hears_end()
    assert idle_count(lab) == 1


async def test_a_request_that_must_not_be_repeated_looks_before_it_uses_a_connection(lab: Lab) -> None:
    """The request and the endpoint's close are there in one batch, the request first."""
    client, voice = await kept(lab)
    client.says_now(POST)
    voice.stream.socket.shutdown(socket.SHUT_WR)
    again = await lab.endpoints[0].accepts()
    await again.hears_head()
    await again.says(OK)
    assert (await client.hears_message()).status == 200
    assert await voice.hears_rest() == b""


async def test_the_end_of_a_node_closes_what_is_kept(lab: Lab) -> None:
    _, voice = await kept(lab)
    lab.plane.drain()
    await voice.hears_end()


async def test_a_member_that_left_the_snapshot_has_no_kept_connection(lab: Lab) -> None:
    _, voice = await kept(lab)
    lab.plane.apply(l7(revision=2))
    await voice.hears_end()


STALE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("batch_events", [1, 256])
@pytest.mark.parametrize("request_head", [GET, POST])
async def test_what_waits_in_a_kept_connection_answers_no_request(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, request_head: bytes, batch_events: int
) -> None:
    """Request and stale answer come before the node looks, and the request's event is the first, or the only one that
    a poll reports."""
    client, voice = await kept(lab)
    monkeypatch.setattr("tierlb.net.reactor.BATCH_EVENTS", batch_events)
    client.says_now(request_head)
    voice.says_now(STALE)
    other = await lab.endpoints[0].accepts()
    await other.hears_head()
    await other.says(OK)
    assert (await client.hears_message()).body == b"ok"
    await voice.hears_no_word()
    assert lab.front.counters.errors == 0


def of_size(head: bytes, body: bytes, size: int) -> bytes:
    """An answer of so many bytes, head included."""
    padding = size - len(head) - len(body) - len(b"X-Pad: \r\n\r\n")
    return head + b"X-Pad: " + b"x" * padding + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n", b"x" * 9000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"2328\r\n" + b"x" * 9000 + b"\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"8\r\nxxxxxxxx\r\n" * 1125 + b"0\r\n\r\n"),
    ],
)
async def test_what_waits_behind_an_answer_that_fills_a_read_answers_no_request(
    lab: Lab, head: bytes, body: bytes
) -> None:
    """The next request is here already, so that it begins in the turn in which the answer ends."""
    client, endpoint = await lab.converses()
    await client.says(GET + GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    voice.says_now(of_size(head, body, READ_BYTES) + STALE)
    assert (await client.hears_message()).body == b"x" * 9000
    other = await endpoint.accepts()
    await other.hears_head()
    await other.says(OK)
    assert (await client.hears_message()).body == b"ok"
    await voice.hears_no_word()
    assert lab.front.counters.errors == 0


@pytest.mark.parametrize(
    ("answer", "kept_after"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
    ],
)
async def test_after_an_answer_to_head_that_announces_a_body_a_connection_is_not_kept(
    lab: Lab, answer: bytes, kept_after: int
) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(answer)
    await client.hears_message(bodiless=True)
    assert idle_count(lab) == kept_after
    assert len(lab.front.clients) == 1


@pytest.mark.parametrize(
    ("answer", "kept_after"),
    [
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 0),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 1),
    ],
)
async def test_after_204_and_304_that_announce_a_body_a_connection_is_not_kept(
    lab: Lab, answer: bytes, kept_after: int
) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(answer)
    await client.hears_message(bodiless=True)
    assert idle_count(lab) == kept_after
    assert len(lab.front.clients) == 1


@pytest.mark.parametrize("whole", [True, False])
async def test_what_a_member_sent_before_it_reset_reaches_a_client_that_reads_slowly(lab: Lab, whole: bool) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    (connection,) = lab.front.clients
    upstream = connection.downstream.exchange.connection
    said = 40 * 1024  # more than one read
    with taking_nothing(connection.fd):
        await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (said if whole else said + 1) + b"x" * said)
        await lab.until(lambda: upstream.paused and not unsent(voice.stream.socket.fileno()))
        assert not upstream.is_unread(), "some of it waits in the kernel"
        voice.resets()
        await lab.until(lambda: upstream.mask == -1)
    if whole:
        assert (await client.hears_message()).body == b"x" * said
        assert len(lab.front.clients) == 1
    else:
        head, _, body = (await client.hears_rest()).partition(b"\r\n\r\n")
        assert (head[9:12], len(body)) == (b"200", said)
    await lab.until(lambda: upstream.closed)
    assert lab.host(endpoint).in_flight == 0


def unsent(fd: int) -> int:
    """The bytes in the kernel that the other end has not acknowledged."""
    counted = array("i", [0])
    fcntl.ioctl(fd, termios.TIOCOUTQ, counted)
    return counted[0]


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINTENANCE])
async def test_to_a_member_that_is_to_get_nothing_no_connection_is_kept(lab: Lab, admin: Admin) -> None:
    client, voice = await kept(lab)
    await client.says(GET)
    await voice.hears_head()
    lab.plane.apply(l7(out(lab.endpoints[0], admin), revision=2))
    await voice.says(OK)
    assert (await client.hears_message()).status == 200, "what was under way finishes"
    await voice.hears_end()
    assert (await client.asks(GET)).status == 503


async def test_what_is_kept_to_a_member_that_is_drained_closes_at_once(lab: Lab) -> None:
    _, voice = await kept(lab)
    lab.plane.apply(l7(out(lab.endpoints[0], Admin.DRAIN), revision=2))
    await voice.hears_end()


def out(endpoint: FakeEndpoint, admin: Admin) -> FakeEndpoint:
    """As an operator wants it."""
    endpoint.spec = attrs.evolve(endpoint.spec, admin=admin)
    return endpoint
