"""Any bytes in any chunking, from clients and from endpoints, leave a node that still answers."""

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dataplane.conftest import ANY_PORT, INNER, FakeEndpoint, Lab, Reset, l4_parent, l7, l7_parent, send
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Limits, Match, Respond, Timeouts

GET = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"GET /ok HTTP/1.1\r\n",
    b"POST / HTTP/1.0\r\n",
    b"HEAD http://a/ HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.0 204 No Content\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"X: a\r\n b\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"5;x\r\n",
    b"hello",
    GET,
]
NOISE = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=30)), max_size=12)
"""Chunks as they are sent; grammar mixed up rather than only bytes, so that it gets past the first line."""


class NoisyEndpoint:
    """Answers every connection with the same noise, then closes."""

    def __init__(self, played: FakeEndpoint) -> None:
        self.played = played
        self.noise: list[bytes] = []

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                sock, _ = await self.played.sock.accept()
                nursery.start_soon(self._answer, trio.SocketStream(sock))

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(0.5):
                try:
                    await stream.receive_some(100_000)
                    for chunk in self.noise:
                        if chunk:
                            await stream.send_all(chunk)
                except trio.BrokenResourceError:
                    return


async def shout(lab: Lab, chunks: list[bytes]) -> None:
    """Say all of it, half-close, and listen to whatever comes until the node ends the connection."""
    client = await lab.connects()
    try:
        for chunk in chunks:
            if chunk:
                await client.says(chunk)
                await trio.lowlevel.checkpoint()
        await client.ends()
        await client.hears_rest()
    except (Reset, trio.BrokenResourceError):
        pass
    finally:
        await client.leaves()


async def still_answers(lab: Lab, first: bytes) -> None:
    client = await lab.connects()
    answer = await client.asks(first + GET)
    assert (answer.status, answer.body) == (200, b"ok")
    await client.leaves()
    await lab.until(lambda: lab.front.counters.connections == 0)
    load = lab.plane.load()
    assert load.in_flight == 0
    assert all(endpoint.in_flight == 0 for endpoint in load.hosts)
    assert lab.log.count("internal_error") == 0


def fuzzed(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def run(noise: list[bytes], answer: list[bytes], requests: int = 1, parent: bytes = b"") -> None:
    """`parent`: what opens a connection where one is demanded first."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            lab = Lab(nursery)
            endpoint = NoisyEndpoint(await lab.endpoint())
            endpoint.noise = answer
            nursery.start_soon(endpoint.run)
            rules = (Rule(Match(path="/ok"), Respond(200, "ok")), Rule(Match(), send(endpoint.played)))
            timeouts = Timeouts(head=0.2, idle=0.2, connect=0.2, response=0.2, stream=0.2)
            listener = INNER if parent else ANY_PORT
            await lab.serves(l7(rules=rules, timeouts=timeouts, limits=Limits(head=500, body=100), listener=listener))
            for _ in range(requests):
                await shout(lab, noise)
            await still_answers(lab, parent)
            nursery.cancel_scope.cancel()
        lab.close()

    trio.run(main)


@fuzzed(200)
@given(NOISE)
def test_any_bytes_of_a_client_leave_a_node_that_answers(noise: list[bytes]) -> None:
    run(noise, [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])


@fuzzed(200)
@given(NOISE, st.sampled_from([b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET / HTTP/1.0"]))
def test_any_bytes_of_a_member_leave_a_node_that_answers(answer: list[bytes], line: bytes) -> None:
    run([line + b"\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"], answer)


@fuzzed(100)
@given(NOISE, NOISE)
def test_any_bytes_of_both_leave_a_node_that_answers(noise: list[bytes], answer: list[bytes]) -> None:
    run([b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", *noise], answer, requests=2)


OPENINGS = [
    l4_parent(),
    l4_parent(("2001:db8::7", 1), way=b"\xff\n\n", explained=b"\x00\r\n"),
    l7_parent(),
    l7_parent(key=b"guessed"),
    l7_parent()[:20],
    l7_parent()[:12],
]


@fuzzed(200)
@given(st.lists(st.sampled_from(OPENINGS), max_size=2), NOISE)
def test_any_bytes_where_a_parent_speaks_first_leave_a_node_that_answers(
    opens: list[bytes], noise: list[bytes]
) -> None:
    run([*opens, *noise], [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], parent=l7_parent())
