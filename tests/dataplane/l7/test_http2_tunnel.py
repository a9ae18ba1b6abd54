"""WebSocket over HTTP/2: streams that are joined with tunnels to endpoints of HTTP/1.1."""

import base64
import contextlib
import hashlib
from functools import partial

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message

from tests.dataplane.conftest import Clock, FakeEndpoint, Lab, Voice, below, l7
from tests.dataplane.l7.http2 import GET, Http2Voice, connects_http2, converses_http2
from tests.descriptors import descriptors_left
from tierlb.dataplane.l7.http2_upload import STREAM_WINDOW
from tierlb.model.address import Address
from tierlb.model.snapshot import HostSpec, Rule
from tierlb.model.topology import ClientAbort, Limits, Match, Respond, Timeouts
from tierlb.wire.http2_frames import CANCEL, INTERNAL_FAILURE, PING, PROTOCOL_ERROR, frame

CONNECT = (
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":authority", b"a"),
    (b":path", b"/chat"),
    (b"sec-websocket-version", b"13"),
)
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def switches(endpoint: FakeEndpoint, *, accept: str | None = None, more: bytes = b"") -> Voice:
    """The endpoint accepts."""
    voice = await endpoint.accepts()
    head = await voice.hears_head()
    assert head.first == "GET /chat HTTP/1.1"
    assert (head["host"], head["upgrade"], head["via"]) == ("a", "websocket", "2 tierlb")
    digest = hashlib.sha1((head["sec-websocket-key"] + GUID).encode(), usedforsecurity=False).digest()
    value = (accept or base64.b64encode(digest).decode()).encode()
    fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n" % value
    await voice.says(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"Sec-WebSocket-Protocol: chat\r\n\r\n" + more)
    return voice


async def opens(lab: Lab, **options: object) -> tuple[Http2Voice, int, Voice]:
    """A client, the stream of its tunnel, and the endpoint at the other end."""
    client, endpoint = await converses_http2(lab, **options)
    number = await client.asks(CONNECT, ends=False)
    voice = await switches(endpoint)
    while not client.answers[number].fields:
        await client.hears_more()
    return client, number, voice


async def says(client: Http2Voice, number: int, data: bytes, *, ends: bool = False) -> None:
    client.engine.send_data(number, data, end_stream=ends)
    await client.flush()


async def hears(client: Http2Voice, number: int, count: int) -> bytes:
    while len(client.answers[number].body) < count:
        await client.hears_more()
    return client.answers[number].body


async def test_a_tunnel_opens_with_200_and_bytes_go_both_ways(lab: Lab) -> None:
    client, number, voice = await opens(lab)
    answer = client.answers[number]
    assert (answer.status, answer["sec-websocket-protocol"]) == (200, b"chat")
    assert not {b"sec-websocket-accept", b"connection", b"upgrade"} & {name for name, _ in answer.fields}
    await says(client, number, b"hello")
    await voice.hears(b"hello")
    await voice.says(b"welcome")
    assert await hears(client, number, 7) == b"welcome"
    assert lab.plane.load().tunnels == 1


async def test_each_side_ends_by_itself(lab: Lab) -> None:
    client, number, voice = await opens(lab)
    await says(client, number, b"the last word", ends=True)
    assert await voice.hears_rest() == b"the last word"
    await voice.says(b"an answer to it")
    await voice.ends()
    answer = await client.hears(number)
    assert (answer.body, answer.reset) == (b"an answer to it", None)
    await lab.until(lambda: lab.plane.load().tunnels == lab.plane.load().in_flight == 0)


async def test_an_endpoint_that_ends_first_still_hears_the_client(lab: Lab) -> None:
    client, number, voice = await opens(lab)
    await voice.says(b"bye")
    await voice.ends()
    while not client.answers[number].ended:
        await client.hears_more()
    await says(client, number, b"bye too", ends=True)
    assert await voice.hears_rest() == b"bye too"
    await lab.until(lambda: lab.plane.load().tunnels == 0)
    assert client.answers[number].reset is None


async def test_a_stream_that_is_reset_breaks_the_tunnel(lab: Lab) -> None:
    client, number, voice = await opens(lab)
    client.engine.reset_stream(number, CANCEL)
    await client.flush()
    await voice.hears_reset()
    await lab.until(lambda: lab.plane.load().tunnels == lab.plane.load().in_flight == 0)


@pytest.mark.parametrize("how", ["reset", "idle", "cut", "connection"])
async def test_a_tunnel_that_breaks_resets_the_stream(lab: Lab, how: str) -> None:
    options = {"timeouts": Timeouts(idle=0.3)} if how == "idle" else {}
    client, number, voice = await opens(lab, **options)
    if how == "connection":
        await client.voice.leaves()
        await voice.hears_reset()
    else:
        if how == "reset":
            voice.resets()
        elif how == "cut":
            lab.front.exchanges.tunnels.cut()
        assert (await client.hears(number)).reset == INTERNAL_FAILURE
    await lab.until(lambda: lab.plane.load().tunnels == lab.plane.load().in_flight == 0)


async def test_what_the_client_sends_before_the_switch_is_kept(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(CONNECT, b"early ", b"bird", ends=False)
    voice = await switches(endpoint, more=b"right behind")
    await voice.hears(b"early bird")
    assert await hears(client, number, 12) == b"right behind"


async def test_what_neither_side_reads_is_bounded_and_arrives_later(lab: Lab) -> None:
    client, number, voice = await opens(lab)
    client.gives_credit = False
    much = bytes(range(256)) * 4 * 8192

    async def answers() -> None:
        await voice.says(much)
        await voice.ends()

    lab.background.start_soon(answers)
    assert len(await hears(client, number, 65535)) == 65535  # the window of the client
    sent = 0
    with trio.move_on_after(0.5):
        while True:
            room = min(client.engine.local_flow_control_window(number), 16384)
            if room:
                await says(client, number, much[sent : sent + room])
                sent += room
            else:
                await client.hears_more()
    assert STREAM_WINDOW <= sent < len(much)
    client.gives_credit = True
    client.engine.acknowledge_received_data(65535, number)
    await client.flush()
    heard = 0
    while heard < sent or len(client.answers[number].body) < len(much):
        if heard < sent:
            piece = await voice.hears_some()
            assert piece == much[heard : heard + len(piece)]
            heard += len(piece)
        else:
            await client.hears_more()
    assert client.answers[number].body == much


async def test_a_piece_of_several_frames_sets_no_deadline_for_the_tunnel(lab: Lab, clock: Clock) -> None:
    client, number, voice = await opens(lab, timeouts=Timeouts(stream=10.0))
    await voice.says(bytes(40_000))
    await hears(client, number, 40_000)
    clock.now += 11.0
    await says(client, number, b"still here")
    await voice.hears(b"still here")
    await voice.says(b"here too")
    assert (await hears(client, number, 40_008))[40_000:] == b"here too"
    assert lab.plane.load().tunnels == 1


async def test_with_client_abort_finish_a_tunnel_that_has_not_begun_is_nothing_to_finish(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, client_abort=ClientAbort.FINISH)
    number = await client.asks(CONNECT, ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    client.engine.reset_stream(number, CANCEL)
    await client.flush()
    assert await voice.hears_rest() == b""
    await lab.until(lambda: lab.plane.load().in_flight == 0)


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content"])
async def test_an_answer_that_switches_nothing_opens_no_tunnel(lab: Lab, status: bytes) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(CONNECT, ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    assert (await client.hears(number)).status == 502
    load = lab.plane.load()
    assert (load.rejected, load.errors, [host.failed for host in load.hosts]) == (1, 0, [0]), "the client is to blame"


async def test_a_client_that_reads_nothing_after_the_end_is_left(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, timeouts=Timeouts(stream=10.0)))
    client = await connects_http2(lab, INITIAL_WINDOW_SIZE=0)
    number = await client.asks(CONNECT, ends=False)
    voice = await switches(endpoint)
    await says(client, number, b"", ends=True)
    await voice.says(bytes(60_000))
    await voice.ends()
    await lab.until(lambda: lab.plane.load().tunnels == 0)
    clock.now += 11.0
    await client.voice.says(frame(PING, 0, 0, bytes(8)))
    assert (await client.hears(number)).reset == CANCEL


async def test_without_descriptors_there_is_no_tunnel(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(CONNECT, ends=False)
    voice = await endpoint.accepts()
    digest = (await voice.hears_head())["sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1((digest + GUID).encode(), usedforsecurity=False).digest())
    with descriptors_left(1):
        await voice.says(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        assert (await client.hears(number)).status == 503


async def test_an_endpoint_may_refuse(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(CONNECT, ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    answer = await client.hears(number)
    assert (answer.status, answer.body) == (403, b"no")


async def test_an_endpoint_that_accepts_something_else_gets_no_tunnel(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(CONNECT, ends=False)
    await switches(endpoint, accept="bm90IHRoaXM=")
    assert (await client.hears(number)).reset == PROTOCOL_ERROR
    await lab.until(lambda: lab.plane.load().tunnels == 0)


async def test_this_node_ends_no_tunnel_itself(lab: Lab) -> None:
    client, _ = await converses_http2(lab, rules=(Rule(Match(), Respond(200, "hello")),))
    assert (await client.hears(await client.asks(CONNECT, ends=False))).status == 501


@pytest.mark.parametrize(
    ("fields", "ends", "status"),
    [
        (((b":method", b"GET"), *CONNECT[1:]), False, None),
        ((*CONNECT[:2], *CONNECT[3:]), False, None),
        ((*CONNECT[:3], *CONNECT[4:], (b"host", b"a")), False, None),
        (CONNECT, True, None),
        ((*CONNECT, (b"content-length", b"3")), False, None),
        ((*CONNECT, (b"upgrade", b"h2c")), False, None),
        ((*CONNECT, (b"connection", b"upgrade")), False, None),
        ((CONNECT[0], (b":protocol", b"connect-udp"), *CONNECT[2:]), False, 501),
        ((CONNECT[0], (b":protocol", b"websocket\r\nx: y"), *CONNECT[2:]), False, None),
    ],
)
async def test_bad_forms_reach_no_endpoint(
    lab: Lab, fields: tuple[tuple[bytes, bytes], ...], ends: bool, status: int | None
) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(fields, ends=ends)
    answer = await client.hears(number)
    assert (answer.status if answer.fields else None, answer.reset) == (status, answer.reset)
    assert status is not None or answer.reset == PROTOCOL_ERROR
    await endpoint.is_left_alone()


async def test_a_key_of_the_client_goes_no_further(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    await client.asks((*CONNECT, (b"sec-websocket-key", b"mine")), ends=False)
    assert len((await (await endpoint.accepts()).hears_head()).all("sec-websocket-key")) == 1


async def test_a_real_endpoint_of_websocket_answers(lab: Lab) -> None:
    async def echo(request: WebSocketRequest) -> None:
        websocket = await request.accept()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await websocket.send_message(await websocket.get_message())

    found = await lab.background.start(partial(serve_websocket, echo, "127.0.0.1", 0, ssl_context=None))
    at = Address("127.0.0.1", found.port)
    endpoint = below(at, "real")
    endpoint.spec = HostSpec("app/real", "app", at)
    await lab.serves(l7(endpoint, limits=Limits()))
    client = await connects_http2(lab)
    number = await client.asks(CONNECT, ends=False)
    while not client.answers[number].fields:
        await client.hears_more()
    engine, heard, read = Connection(ConnectionType.CLIENT), [], 0
    for size in (0, 5, 70_000):
        await says_all(client, number, engine.send(BytesMessage(bytes(size))))
        got = b""
        while True:
            while len(client.answers[number].body) == read:
                await client.hears_more()
            data, read = client.answers[number].body[read:], len(client.answers[number].body)
            engine.receive_data(data)
            messages = [event for event in engine.events() if isinstance(event, Message)]
            got += b"".join(bytes(message.data) for message in messages)
            if messages and messages[-1].message_finished:
                break
        heard.append(len(got))
    assert heard == [0, 5, 70_000]
    await says(client, number, engine.send(CloseConnection(1000)))
    assert (await client.hears(number)).reset in (None, 0)


async def says_all(client: Http2Voice, number: int, data: bytes) -> None:
    """However small the windows are."""
    while data:
        room = min(client.engine.local_flow_control_window(number), 16384)
        if not room:
            await client.hears_more()
            continue
        await says(client, number, data[:room])
        data = data[room:]


async def test_clients_learn_that_tunnels_are_offered(lab: Lab) -> None:
    client, _ = await converses_http2(lab)
    await client.asks(GET)
    while client.engine.remote_settings.enable_connect_protocol != 1:
        await client.hears_more()
