"""Bodies of requests as HTTP/1 frames them, in very many chunks above all."""

from tests.dataplane.conftest import Lab
from tierlb.wire.http_body import CHUNKS_A_CALL, STRETCH_CHUNKS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ONES = b"1\r\nx\r\n"


async def test_tiny_chunks_of_a_request_arrive_as_few_large_ones(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED_POST + ONES * 4000 + b"0\r\nX-Sum: 1\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    framed = await voice.hears_up_to(b"0\r\nX-Sum: 1\r\n\r\n")
    assert framed.count(b"x") == 4000
    assert len(framed) < 4000 + 20 * 4000 // CHUNKS_A_CALL + 100


async def test_a_request_body_of_far_too_many_tiny_chunks_is_400(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED_POST + ONES * (STRETCH_CHUNKS + CHUNKS_A_CALL))
    voice = await endpoint.accepts()
    await voice.hears_head()
    assert (await client.hears_message()).status == 400
    assert lab.front.counters.rejected == 1
    assert lab.host(endpoint).errors == 0


async def test_others_are_served_between_the_turns_of_a_body_in_many_chunks(lab: Lab) -> None:
    """Two bodies are sent before the node looks; each is worked through in turns, the other's in between."""
    client, endpoint = await lab.converses()
    clients = [client, await lab.connects()]
    voices = []
    for each in clients:
        await each.says(CHUNKED_POST)
        voices.append(await endpoint.accepts())
        await voices[-1].hears_head()
    watch = Watch(lab)
    for each in clients:
        each.says_now(ONES * 4 * CHUNKS_A_CALL)
    for voice in voices:
        assert (await voice.hears_up_to(b"x" * 9)).startswith(b"100\r\n")
    await lab.until(lambda: watch.turns[-1] == (4, 4))
    assert all(max(turns) - min(turns) <= 1 for turns in watch.turns)
    assert {1, 2, 3} <= {min(turns) for turns in watch.turns}


class Watch:
    """Waits for its turn like the clients, and notes then how many turns the body of each has had."""

    queued = False

    def __init__(self, lab: Lab) -> None:
        self.front = lab.front
        self.turns: list[tuple[int, ...]] = []
        self.front.reactor.ready.add(self)

    def on_turn(self) -> None:
        bodies = [client.downstream.exchange.request.body_bytes for client in self.front.clients]
        self.turns.append(tuple(body_bytes // CHUNKS_A_CALL for body_bytes in bodies))
        if min(self.turns[-1]) < 4:
            self.front.reactor.ready.add(self)


async def test_a_body_in_many_chunks_that_came_before_the_end_of_the_client_arrives(lab: Lab) -> None:
    """The client has ended before its request's turn comes, and the request's body takes several turns."""
    client, endpoint = await lab.converses()
    chunks = b"1\r\nx\r\n" * 5 * CHUNKS_A_CALL
    await client.says(GET + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    await client.ends()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    assert (await voice.hears_message()).body == b"x" * 5 * CHUNKS_A_CALL
    await voice.says(OK)
    for _ in range(2):
        assert (await client.hears_message()).body == b"ok"
    await client.hears_end()


async def test_a_body_in_many_chunks_that_lacks_its_end_is_given_up(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    chunks = b"1\r\nx\r\n" * 5 * CHUNKS_A_CALL
    await client.says(GET + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    await client.ends()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await voice.hears_head()
    await lab.until(lambda: not lab.front.clients)
    assert lab.plane.load().in_flight == 0
