"""Clients of HTTP/2 that ask without pause and lose nothing by GOAWAY: what they get while a cluster is changed.

`python -m scripts.benchmarks.http2_load HOST:PORT SECONDS [tls]` prints a JSON object of `Record`. Each client has one
connection with STREAMS requests under way. At GOAWAY it asks no more there, waits for the answers that are still to
come, and connects again. Requests that GOAWAY or REFUSED_STREAM call unprocessed are asked again and count once (RFC
9113 §6.8 and §8.7). All else but an answer of 200 is a failure. `h2` keeps the protocol.
"""

import json
import ssl
import sys
import time

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import trio

from scripts.benchmarks.handshakes import client_context

CONNECTIONS = 10
STREAMS = 4
PER_SECOND = 40.0
"""Requests of each client: what is measured is loss, and not speed."""
REFRESH = 50
"""Requests on a connection, after which a client takes a new one: connections that never end see no new certificate."""
ANSWER_S = 20.0
PAUSE_S = 0.02
"""At most between two looks whether to ask, or to stop."""
FIELDS = ((":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/"))
FAILED = 0


@attrs.define
class Record:
    """Requests: when each was first asked, in seconds since `begun_s` of CLOCK_MONOTONIC, how long it took, and its
    status, FAILED where there was none. `reasons`: of failures. `again`: requests that were asked once more.
    `serials`: certificates that were seen."""

    begun_s: float = attrs.field(factory=time.monotonic)
    at_s: list[float] = attrs.field(factory=list)
    latency_s: list[float] = attrs.field(factory=list)
    status: list[int] = attrs.field(factory=list)
    reasons: list[str] = attrs.field(factory=list)
    again: int = 0
    connections: int = 0
    serials: list[str] = attrs.field(factory=list)

    @property
    def failed(self) -> int:
        return sum(status != 200 for status in self.status)

    def note(self, asked_s: float, status: int, reason: str = "") -> None:
        self.at_s.append(asked_s - self.begun_s)
        self.latency_s.append(time.monotonic() - asked_s)
        self.status.append(status)
        if reason:
            self.reasons.append(reason)


class Conversation:
    """One connection. `asked`: when each request under way was first asked. `owed`: requests to be asked again."""

    def __init__(self, stream: trio.abc.Stream, record: Record, owed: list[float]) -> None:
        self._stream = stream
        self._record = record
        self._owed = owed
        self._engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="ascii"))
        self._asked: dict[int, float] = {}
        self._statuses: dict[int, int] = {}
        self._count = 0
        self.is_parting = False

    async def run(self, stop: trio.Event) -> None:
        """Ask until then, or until it is time for another connection. Raises trio.BrokenResourceError,
        trio.TooSlowError or h2.exceptions.ProtocolError."""
        self._engine.initiate_connection()
        next_s = time.monotonic()
        while True:
            now = time.monotonic()
            if (stop.is_set() and not self._owed) or self._count >= REFRESH:
                self.is_parting = True
            if not self.is_parting and now >= next_s and len(self._asked) < STREAMS:
                next_s = max(next_s + 1 / PER_SECOND, now)
                self._ask()
            if self.is_parting and not self._asked:
                return
            with trio.fail_after(ANSWER_S):
                await self._stream.send_all(self._engine.data_to_send())
                with trio.move_on_after(PAUSE_S):
                    self._take(await self._stream.receive_some(65536))

    def _ask(self) -> None:
        number = self._engine.get_next_available_stream_id()
        self._asked[number] = self._owed.pop() if self._owed else time.monotonic()
        self._engine.send_headers(number, FIELDS, end_stream=True)
        self._count += 1

    def _take(self, data: bytes) -> None:
        if not data:
            raise trio.BrokenResourceError("the connection ended")
        while data:  # frame by frame, as `h2` gives up at GOAWAY what is still to come
            size = 9 + int.from_bytes(data[:3]) if len(data) >= 9 else len(data)
            for event in self._engine.receive_data(data[:size]):
                self._note(event)
            data = data[size:]

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._statuses[event.stream_id] = int(dict(event.headers)[":status"])
            case h2.events.DataReceived():
                self._engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded() if event.stream_id in self._asked:
                status = self._statuses.pop(event.stream_id)
                self._record.note(self._asked.pop(event.stream_id), status, "" if status == 200 else f"status {status}")
            case h2.events.StreamReset() if event.stream_id in self._asked:
                asked_s = self._asked.pop(event.stream_id)
                if event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM:
                    self._again(asked_s)
                else:
                    self._record.note(asked_s, FAILED, f"reset with {event.error_code}")
            case h2.events.ConnectionTerminated():
                self.is_parting = True
                for number in [each for each in self._asked if each > event.last_stream_id]:
                    self._again(self._asked.pop(number))
                self._engine.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    def _again(self, asked_s: float) -> None:
        self._owed.append(asked_s)
        self._record.again += 1

    def lose(self, reason: str) -> None:
        """The connection is gone, with what was under way."""
        for asked_s in self._asked.values():
            self._record.note(asked_s, FAILED, reason)
        self._asked.clear()


async def client(host: str, port: int, stop: trio.Event, record: Record, context: ssl.SSLContext | None = None) -> None:
    """One client: a connection after the other."""
    owed: list[float] = []
    while owed or not stop.is_set():
        begun_s = time.monotonic()
        try:
            with trio.fail_after(ANSWER_S):
                stream = await _connect(host, port, context, record)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            record.note(owed.pop() if owed else begun_s, FAILED, f"no connection: {error!r}")
            await trio.sleep(1 / PER_SECOND)
            continue
        record.connections += 1
        conversation = Conversation(stream, record, owed)
        try:
            await conversation.run(stop)
        except (trio.BrokenResourceError, trio.TooSlowError, h2.exceptions.ProtocolError) as error:
            conversation.lose(f"lost: {error!r} {error.__cause__!r}")
        await trio.aclose_forcefully(stream)


def tls_context() -> ssl.SSLContext:
    """For clients that speak HTTP/2 over TLS, whatever the certificate."""
    context = client_context()
    context.set_alpn_protocols(["h2"])
    return context


async def _connect(host: str, port: int, context: ssl.SSLContext | None, record: Record) -> trio.abc.Stream:
    plain = await trio.open_tcp_stream(host, port)
    if context is None:
        return plain
    secured = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
    await secured.do_handshake()
    serial = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))
    if serial not in record.serials:
        record.serials.append(serial)
    return secured


async def load(target: str, seconds: float, *, tls: bool) -> Record:
    """All clients, for so long."""
    host, _, port = target.rpartition(":")
    record, stop = Record(), trio.Event()
    context = tls_context() if tls else None
    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(client, host, int(port), stop, record, context)
        await trio.sleep(seconds)
        stop.set()
    return record


def main() -> None:
    """From the command line."""
    target, seconds, *tls = sys.argv[1:]
    print(json.dumps(attrs.asdict(trio.run(lambda: load(target, float(seconds), tls=bool(tls))))))


if __name__ == "__main__":
    main()
