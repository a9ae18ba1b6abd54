"""An exchange serves whatever keeps the promises of a downstream, and knows nothing of how its request was framed."""

import errno
import inspect

import pytest

from tests.dataplane.conftest import Lab, Voice, l7
from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.http1 import Http1Downstream
from tierlb.dataplane.l7.reply import Reply
from tierlb.dataplane.pipe import Pipe
from tierlb.net.dial import dial
from tierlb.net.layer import Layer
from tierlb.net.wheel import NEVER
from tierlb.wire.http_fields import Header

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Stream(Downstream):
    """One stream of a protocol without framing: notes what it is given."""

    def __init__(self, lab: Lab) -> None:
        front = lab.front
        self.identity = ClientIdentity(
            "192.0.2.1", front.counters.tallies.outside, front.exchanges.ids.prefix, trusted=False
        )
        self.has_left = False
        self.events: list[object] = []
        self.behind = False

    def serves(self, exchange: object) -> bool:
        return True

    def pause(self) -> None:
        self.events.append("pause")

    def resume(self) -> None:
        self.events.append("resume")

    def expect(self, seconds: float) -> None:
        self.events.append("nothing due" if seconds == NEVER else "due")

    def pass_interim(self, reply: Reply) -> None:
        self.events.append(reply.status)

    def pass_head(self, reply: Reply, body: bytes, ended: bool, trailers: tuple[Header, ...] = ()) -> None:
        self.events += [reply.status, *((body,) if body else ()), *trailers, *(("end",) if ended else ())]

    def pass_body(self, piece: bytes) -> None:
        self.events.append(piece)

    def pass_end(self, piece: bytes, trailers: tuple[Header, ...]) -> None:
        self.events += [piece, *trailers, "end"]

    @property
    def is_behind(self) -> bool:
        return self.behind

    def answer_error(self, status: int, reason: str, *, retry_after: bool, extra: bytes) -> None:
        self.events.append(("error", status))

    def refuse(self, status: int, reason: str, extra: bytes = b"") -> None:
        self.events.append(("refused", status))

    def cut(self) -> None:
        self.events.append("cut")

    def crash(self, error: Exception) -> None:
        raise error

    def detach(self) -> tuple[int, bytes, bytes, float, Layer | None]:
        raise NotImplementedError

    @property
    def demands_switch(self) -> bool:
        return False

    def on_joined(self, pipe: Pipe) -> None:
        raise NotImplementedError

    def on_tunnel_over(self, *, broken: bool) -> None:
        raise NotImplementedError


def begin(lab: Lab, head: bytes) -> tuple[Stream, Exchange]:
    """An exchange for a request with this head, which has not begun."""
    config, stream = lab.front.config, Stream(lab)
    plan = config.books[0].plan(head)
    action = config.action(plan)
    return stream, Exchange(lab.front, stream, plan, action)


async def asked(lab: Lab) -> tuple[Stream, Exchange, Voice]:
    """A request without a body that came to an endpoint, which has not answered yet."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    stream, exchange = begin(lab, GET)
    exchange.start()
    voice = await endpoint.accepts()
    await voice.hears_head()
    return stream, exchange, voice


async def test_a_response_is_handed_over_as_values(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    stream, exchange = begin(lab, GET)
    exchange.start()
    voice = await endpoint.accepts()
    head = await voice.hears_head()
    assert head["x-forwarded-for"] == "192.0.2.1"
    await voice.says(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    await lab.until(lambda: "end" in stream.events)
    assert stream.events == [103, 200, b"ok", "end"]
    assert lab.front.registry.loads()[0].in_flight == 0


async def test_a_chunked_response_is_handed_over_without_its_framing(lab: Lab) -> None:
    stream, _, voice = await asked(lab)
    await voice.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await lab.until(lambda: b"abc" in stream.events)
    await voice.says(b"1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n")
    await lab.until(lambda: "end" in stream.events)
    assert stream.events == [200, b"abc", b"d", (b"X-Sum", b"1"), "end"]


async def test_a_chunked_response_that_comes_whole_is_handed_over_at_once(lab: Lab) -> None:
    stream, _, voice = await asked(lab)
    await voice.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
    await lab.until(lambda: "end" in stream.events)
    assert stream.events == [200, b"abc", (b"X-Sum", b"1"), "end"]


@pytest.mark.parametrize(
    ("head", "framed"), [(POST, b"body"), (CHUNKED_POST, b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n")], ids=["sized", "chunked"]
)
async def test_a_body_is_taken_in_plain_pieces(lab: Lab, head: bytes, framed: bytes) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    lab.front.registry.context.dial = lambda *to, **how: (dial(*to, **how)[0], errno.EINPROGRESS)  # as to afar
    stream, exchange = begin(lab, head)
    exchange.start()
    assert stream.events == ["pause"], "nothing more is taken before a host can have it"
    voice = await endpoint.accepts()
    await voice.hears_head()
    await lab.until(lambda: "resume" in stream.events)
    exchange.request.take(b"bo", (), ended=False, raw_bytes=2)
    exchange.request.take(b"dy", (), ended=True, raw_bytes=2)
    await voice.hears(framed)
    await voice.says(OK)
    await lab.until(lambda: "end" in stream.events)


async def test_a_downstream_that_is_behind_stops_the_host(lab: Lab) -> None:
    stream, exchange, voice = await asked(lab)
    stream.behind = True
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    await lab.until(lambda: b"abc" in stream.events)
    assert exchange.connection.paused
    assert stream.events[-1] == "due"
    await voice.says(b"def")
    stream.behind = False
    exchange.on_downstream_drained()
    await lab.until(lambda: "end" in stream.events)
    assert stream.events[-2:] == [b"def", "end"]


async def test_a_response_that_breaks_off_is_cut(lab: Lab) -> None:
    stream, _, voice = await asked(lab)
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    await voice.leaves()
    await lab.until(lambda: "cut" in stream.events)


async def test_where_no_host_answers_there_is_an_error(lab: Lab) -> None:
    await lab.serves(l7(await lab.nobody()))
    stream, exchange = begin(lab, GET)
    exchange.start()
    await lab.until(lambda: ("error", 502) in stream.events)


def test_http_1_keeps_every_promise() -> None:
    promised = {
        name for name, value in vars(Downstream).items() if inspect.isfunction(value) or type(value) is property
    }
    for downstream in (Http1Downstream, Stream):
        assert [name for name in promised if getattr(downstream, name) is getattr(Downstream, name)] == []
