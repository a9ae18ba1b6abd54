"""A client of HTTP/2 in the hands of a test: `h2` keeps it to the protocol, unless it sends raw frames."""

import attrs
import h2.config
import h2.connection
import h2.events
import h2.settings

from tests.dataplane.conftest import FakeEndpoint, Lab, Voice, l7
from tierlb.wire.http2_frames import PREFACE, settings_frame

GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"))
POST = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@attrs.define
class Answer:
    """What came on one stream."""

    fields: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    interims: list[bytes] = attrs.field(factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])

    def __getitem__(self, name: str) -> bytes:
        return dict(self.fields)[name.encode()]

    @property
    def is_over(self) -> bool:
        return self.ended or self.reset is not None


class Http2Voice:
    """One connection. `gives_credit`: what comes is acknowledged at once, so that windows stay open."""

    def __init__(self, voice: Voice, *, gives_credit: bool = True) -> None:
        config = h2.config.H2Configuration(
            client_side=True, header_encoding=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.voice = voice
        self.engine = h2.connection.H2Connection(config)
        self.gives_credit = gives_credit
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pongs: list[bytes] = []
        self.is_over = False

    async def flush(self) -> None:
        data = self.engine.data_to_send()
        if data:
            await self.voice.says(data)

    async def begins(self, **settings: int) -> None:
        self.engine.initiate_connection()
        if settings:
            self.engine.update_settings({getattr(h2.settings.SettingCodes, key): settings[key] for key in settings})
        await self.flush()

    async def asks(
        self,
        fields: tuple[tuple[bytes, bytes], ...] = GET,
        *pieces: bytes,
        ends: bool = True,
        trailers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> int:
        """Begin a request, with what comes of its body; its number."""
        number = self.engine.get_next_available_stream_id()
        self.answers[number] = Answer()
        whole = ends and not pieces and not trailers
        self.engine.send_headers(number, fields, end_stream=whole)
        for piece in pieces:
            self.engine.send_data(number, piece)
        if trailers:
            self.engine.send_headers(number, trailers, end_stream=True)
        elif ends and not whole:
            self.engine.end_stream(number)
        await self.flush()
        return number

    async def says_raw(self, *frames: bytes) -> None:
        """Frames of which the engine does not know."""
        await self.voice.says(b"".join(frames))

    async def hears_more(self) -> None:
        data = await self.voice.hears_some()
        if not data:
            self.is_over = True
            return
        while data:  # frame by frame
            size = 9 + int.from_bytes(data[:3]) if len(data) >= 9 else len(data)
            for event in self.engine.receive_data(data[:size]):
                self._note(event)
            data = data[size:]
        await self.flush()

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((event.last_stream_id, int(event.error_code)))
            self.engine.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN  # which `h2` gives up too soon
            return
        if isinstance(event, h2.events.PingAckReceived):
            self.pongs.append(event.ping_data)
        number = getattr(event, "stream_id", None)
        if not number:
            return
        answer = self.answers.setdefault(number, Answer())
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.interims.append(dict(event.headers)[b":status"])
        elif isinstance(event, h2.events.ResponseReceived):
            answer.fields = list(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.gives_credit and event.flow_controlled_length:
                self.engine.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    async def hears(self, number: int) -> Answer:
        """The answer to this request, whole or reset."""
        while not self.answers[number].is_over:
            await self.hears_more()
            assert not self.is_over or self.answers[number].is_over, "the connection ended"
        return self.answers[number]

    async def hears_end(self) -> int:
        """The connection ends; the error code of the last GOAWAY."""
        while not self.is_over:
            await self.hears_more()
        return self.goaways[-1][1]

    async def hears_goaway(self) -> tuple[int, int]:
        count = len(self.goaways)
        while len(self.goaways) == count:
            await self.hears_more()
            assert not self.is_over, "the connection ended"
        return self.goaways[-1]


async def converses_http2(lab: Lab, **options: object) -> tuple[Http2Voice, FakeEndpoint]:
    """One l7 node, one endpoint behind it, one client that has begun."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, **options))
    return await connects_http2(lab), endpoint


async def connects_http2(lab: Lab, *, gives_credit: bool = True, **settings: int) -> Http2Voice:
    client = Http2Voice(await lab.connects(), gives_credit=gives_credit)
    await client.begins(**settings)
    return client


class RawFrames:
    """Frames as they come, where the test breaks the protocol."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice

    async def begins(self, *frames: bytes) -> None:
        await self.voice.says(PREFACE + settings_frame(()) + b"".join(frames))

    async def hears_frame(self) -> tuple[int, int, int, bytes]:
        """Kind, flags, stream, payload."""
        head = await self.voice.hears_count(9)
        payload = await self.voice.hears_count(int.from_bytes(head[:3]))
        return head[3], head[4], int.from_bytes(head[5:]), payload

    async def hears_kind(self, kind: int) -> tuple[int, int, bytes]:
        """The next frame of this kind: flags, stream, payload."""
        while True:
            found, flags, stream_id, payload = await self.hears_frame()
            if found == kind:
                return flags, stream_id, payload


async def connects_raw(lab: Lab, *frames: bytes) -> RawFrames:
    raw = RawFrames(await lab.connects())
    await raw.begins(*frames)
    return raw


class Http2Host:
    """One connection of an endpoint that speaks HTTP/2, in the hands of the test."""

    def __init__(self, voice: Voice) -> None:
        config = h2.config.H2Configuration(
            client_side=False, header_encoding=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.voice = voice
        self.engine = h2.connection.H2Connection(config)
        self.requests: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, list[tuple[bytes, bytes]]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.gives_credit = True
        self.is_over = False

    async def begins(self, **settings: int) -> "Http2Host":
        values = {getattr(h2.settings.SettingCodes, key): settings[key] for key in settings}
        self.engine.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.engine.initiate_connection()
        await self.flush()
        return self

    async def flush(self) -> None:
        data = self.engine.data_to_send()
        if data:
            await self.voice.says(data)

    async def hears_more(self) -> None:
        data = await self.voice.hears_some()
        if not data:
            self.is_over = True
            return
        for event in self.engine.receive_data(data):
            number = getattr(event, "stream_id", 0) or 0
            if isinstance(event, h2.events.RequestReceived):
                self.requests[number] = dict(event.headers)
                self.bodies[number] = b""
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[number] += event.data
                if self.gives_credit and event.flow_controlled_length:
                    self.engine.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[number] = list(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(number)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[number] = int(event.error_code)
        await self.flush()

    async def hears_request(self, count: int = 1) -> int:
        """So many requests came, the last of them whole; its number."""
        while len(self.requests) < count or max(self.requests) not in self.ended:
            await self.hears_more()
            assert not self.is_over, "the connection ended"
        return max(self.requests)

    async def answers(
        self,
        number: int,
        body: bytes = b"ok",
        *fields: tuple[bytes, bytes],
        trailers: tuple[tuple[bytes, bytes], ...] = (),
        alone: bool = False,
    ) -> None:
        """`alone`: the head is all of the response."""
        self.engine.send_headers(number, ((b":status", b"200"), *fields), end_stream=alone)
        if not alone:
            if body:
                self.engine.send_data(number, body, end_stream=not trailers)
            if trailers:
                self.engine.send_headers(number, trailers, end_stream=True)
            elif not body:
                self.engine.end_stream(number)
        await self.flush()


async def accepts_http2(endpoint: FakeEndpoint, **settings: int) -> Http2Host:
    return await Http2Host(await endpoint.accepts()).begins(**settings)
