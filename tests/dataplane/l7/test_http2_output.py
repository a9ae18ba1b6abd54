"""What goes out over HTTP/2: within the windows of both levels, in turns, the urgent first."""

from collections.abc import Iterator

import pytest

from tests.dataplane.conftest import Lab, l7
from tests.dataplane.l7.http2 import GET, Answer, connects_http2, connects_raw, converses_http2
from tierlb.dataplane.l7.http2_output import Output, SendingStream
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond, Timeouts
from tierlb.net.reactor import Reactor
from tierlb.net.stream import Stream
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import DATA, FRAME_BYTES, HEADERS, frame, settings_frame, window_frame

BIG = 200_000
RULES = (Rule(Match(), Respond(200, "x" * BIG)),)


async def test_a_body_longer_than_the_windows_comes_as_the_client_reads(lab: Lab) -> None:
    await lab.serves(l7(rules=RULES))
    client = await connects_http2(lab)
    numbers = [await client.asks() for _ in range(3)]
    for number in numbers:
        assert len((await client.hears(number)).body) == BIG


async def test_windows_are_kept_to_and_the_host_waits(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    client.gives_credit = False
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(voice.says, b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000))
    while len(client.answers[number].body) < 65535:
        await client.hears_more()
    await client.voice.hears_nothing()
    (connection,) = lab.front.clients
    (exchange,) = connection.under_way()
    assert exchange.connection.paused
    client.gives_credit = True
    client.engine.acknowledge_received_data(65535, number)
    await client.flush()
    assert len((await client.hears(number)).body) == 2_000_000
    assert lab.plane.reactor.bulk.backlogs == 0


async def test_a_stream_without_a_window_does_not_stop_others(lab: Lab) -> None:
    await lab.serves(
        l7(rules=(Rule(Match(path="/big"), Respond(200, "x" * BIG)), Rule(Match(), Respond(200, "small"))))
    )
    raw = await connects_raw(lab, settings_frame(((4, 10),)))
    blocks = [b"".join(encode_field(*field) for field in (*GET[:3], (b":path", path))) for path in (b"/big", b"/")]
    await raw.voice.says(frame(HEADERS, 5, 1, blocks[0]), frame(HEADERS, 5, 3, blocks[1]))
    assert [await raw.hears_kind(DATA) for _ in range(2)] == [(0, 1, b"x" * 10), (1, 3, b"small")]
    await raw.voice.says(window_frame(1, 20))
    assert await raw.hears_kind(DATA) == (0, 1, b"x" * 20)
    await raw.voice.says(settings_frame(((4, 50),)))
    assert await raw.hears_kind(DATA) == (0, 1, b"x" * 40)


async def test_a_client_that_gives_no_window_is_reset_in_time(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, timeouts=Timeouts(stream=0.2))
    client.gives_credit = False
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(voice.says, b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
    assert (await client.hears(number)).reset == 8
    assert lab.plane.load().in_flight == 0
    assert lab.plane.reactor.bulk.backlogs == 0


class Ended(SendingStream):
    """A stream whose end is of no interest."""

    def on_sent_all(self) -> None:
        pass

    def on_sent_end(self) -> None:
        pass


class Wire(Stream):
    """A connection that keeps what is sent."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, -1)
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def order(self) -> list[int]:
        """The streams of the DATA frames that were sent."""
        found, at = [], 0
        while at < len(self.sent):
            length = int.from_bytes(self.sent[at : at + 3])
            if self.sent[at + 3] == DATA:
                found.append(int.from_bytes(self.sent[at + 5 : at + 9]))
            at += 9 + length
        return found


@pytest.fixture
def wire() -> Iterator[Wire]:
    failures: list[BaseException] = []
    reactor = Reactor(failures.append)
    yield Wire(reactor)
    reactor.dispose()
    assert failures == []


@pytest.mark.parametrize(
    ("urgencies", "order"),
    [((3, 3), [1, 3, 1, 3]), ((3, 1), [3, 3, 1, 1]), ((0, 7), [1, 1, 3, 3])],
)
def test_streams_take_turns_and_urgent_ones_come_first(
    wire: Wire, urgencies: tuple[int, int], order: list[int]
) -> None:
    output = Output(wire)
    output.window = 0
    for number, urgency in zip((1, 3), urgencies, strict=True):
        stream = Ended(number, 10 * FRAME_BYTES)
        stream.urgency = urgency
        output.send(stream, bytes(2 * FRAME_BYTES), ended=True)
    output.grow(10 * FRAME_BYTES)
    output.pump()
    output.flush()
    assert wire.order() == order


def test_a_stream_whose_urgency_changes_keeps_what_it_has(wire: Wire) -> None:
    output = Output(wire)
    output.window = 0
    streams = [Ended(number, 10 * FRAME_BYTES) for number in (1, 3)]
    for stream in streams:
        output.send(stream, bytes(FRAME_BYTES), ended=True)
    output.prioritise(streams[1], 0)
    output.grow(10 * FRAME_BYTES)
    output.pump()
    output.flush()
    assert wire.order() == [3, 1]


async def test_requests_of_one_batch_are_answered_with_one_write(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "small")),)))
    client = await connects_http2(lab)
    await client.hears(await client.asks())
    numbers = []
    for _ in range(5):
        number = client.engine.get_next_available_stream_id()
        client.answers[number] = Answer()
        client.engine.send_headers(number, GET, end_stream=True)
        numbers.append(number)
    await client.flush()
    await client.hears_more()
    assert [client.answers[number].body for number in numbers] == [b"small"] * 5
