"""The client's side of a connection: heads in, answers in order, refusals that arrive, and when it is closed."""

import gc
import itertools
import socket

import pytest
import trio

from tests.dataplane.conftest import (
    DEADLINE_S,
    Lab,
    Voice,
    l7,
    send,
)
from tierlb.dataplane.l7.client import HEADS_A_TURN, ClientConnection
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Limits, Match, Respond, Timeouts
from tierlb.net.wheel import NEVER

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
BIG = (Rule(Match(), Respond(200, "x" * 100_000)),)


# Keeping and closing.


async def test_a_connection_that_is_closed_leaves_no_cycle_of_objects(lab: Lab) -> None:
    """The interpreter looks for these seldom, and then long."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    lab.background.start_soon(endpoint.answers_all, OK)
    gc.disable()
    try:
        for request in (GET, CLOSE):
            client = await lab.connects()
            assert (await client.asks(request)).status == 200
            await client.leaves()
            await lab.until(lambda: not lab.front.clients)
        assert not any(isinstance(each, ClientConnection) for each in gc.get_objects())
    finally:
        gc.enable()


async def test_a_client_that_says_nothing_before_it_ends_is_not(lab: Lab) -> None:
    client, _ = await lab.converses()
    await client.ends()
    await client.hears_end()


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"GET /\r\n", b"GET / HTTP/1.1\nHost: a\n\n", b"SSH-2.0-x\r\n", b"\x00", b"\r\n\x00"],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_what_can_be_no_request_is_answered_at_once(lab: Lab, data: bytes, bytewise: bool) -> None:
    client, _ = await lab.converses()
    for piece in [data[i : i + 1] for i in range(len(data))] if bytewise else [data]:
        await client.says(piece)
        await trio.testing.wait_all_tasks_blocked()
    answer = await client.hears_message()
    assert (answer.status, answer["connection"]) == (400, "close")
    await client.hears_end()


# Deadlines of heads.


@pytest.mark.parametrize("before", [b"", GET])
async def test_a_head_that_does_not_end_in_time_is_408(lab: Lab, before: bytes) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(head=0.2)))
    client = await lab.connects()
    await client.says(before + b"GET / HTTP/1.1\r\n")
    if before:
        await client.hears_message()
    answer = await client.hears_message()
    assert (answer.status, answer["connection"]) == (408, "close")
    assert answer.body == b"node-1: the request head did not arrive in time\n"
    await client.hears_end()


async def test_a_head_that_trickles_does_not_move_its_deadline(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(head=0.3)))
    client = await lab.connects()
    heard = []

    async def hear() -> None:
        heard.append(await client.hears_message())

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            while not heard:
                await client.says(b"a")
                await trio.sleep(0.05)
    assert heard[0].status == 408


async def test_a_head_has_its_own_time_even_where_idle_time_is_short(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(head=5, idle=0.3)))
    client = await lab.connects()
    await client.says(b"GET / HTTP/1.1\r\n")
    await trio.sleep(0.7)
    assert (await client.asks(b"Host: a\r\n\r\n")).status == 200


# Pipelining.


async def test_a_thousand_pipelined_requests_are_answered_in_order(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    lab.background.start_soon(client.says, b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(1000)))
    voice = await endpoint.accepts()
    for number in range(1000):
        assert (await voice.hears_head()).first == f"GET /{number} HTTP/1.1"
        await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%04d" % number)
    for number in range(1000):
        assert (await client.hears_message()).body == b"%04d" % number


async def test_a_thousand_pipelined_requests_answered_here_are_answered_in_order(lab: Lab) -> None:
    rules = (Rule(Match(path="/odd"), Respond(200, "odd")), Rule(Match(), Respond(200, "even")))
    await lab.serves(l7(rules=rules))
    client = await lab.connects()
    paths = [b"/even", b"/odd"] * 500
    await client.says(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths))
    assert [(await client.hears_message()).body for _ in paths] == [path[1:] for path in paths]


async def test_answers_made_here_and_elsewhere_keep_their_order(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(rules=(Rule(Match(path="/here"), Respond(200, "here")), Rule(Match(), send(endpoint)))))
    client = await lab.connects()
    await client.says(GET + GET.replace(b"/ ", b"/here ") + GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await client.hears_nothing()
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    assert (await client.hears_message()).body == b"here"
    await voice.hears_head()


@pytest.mark.parametrize("rules", [BIG, ()])
async def test_a_client_that_asks_and_never_reads_cannot_fill_the_node(lab: Lab, rules: tuple[Rule, ...]) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, rules=rules))
    client = await lab.connects()
    client.listens_little()
    if not rules:
        lab.background.start_soon(
            endpoint.answers_all, b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50000)
        )
    lab.background.start_soon(ask_for_ever, client)
    await lab.until(lambda: any(c.paused and c.backlog for c in lab.front.clients))
    (connection,) = lab.front.clients
    for _ in range(100):
        await trio.sleep(0.002)
        assert len(connection.buffer) < 512 * 1024
        assert sum(map(len, connection.backlog or ())) < 512 * 1024


async def ask_for_ever(client: Voice) -> None:
    while True:
        await client.stream.send_all(GET * 1000)


# What is refused, and that nothing of it reaches an endpoint.

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "length and coding": (HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody", 400),
    "two equal lengths": (HEAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", 400),
    "a list of lengths": (HEAD + b"Content-Length: 4, 4\r\n\r\nbody", 400),
    "a signed length": (HEAD + b"Content-Length: +4\r\n\r\nbody", 400),
    "a hexadecimal length": (HEAD + b"Content-Length: 0x4\r\n\r\nbody", 400),
    "another coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked not last": (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding in 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding with a vertical tab": (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "a folded line": (HEAD + b"X: a\r\n b\r\n\r\n", 400),
    "a line that starts with a space": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "a bare line feed": (HEAD + b"X: a\nY: b\r\n\r\n", 400),
    "a bare carriage return": (HEAD + b"X: a\rY: b\r\n\r\n", 400),
    "a zero byte": (HEAD + b"X: a\x00b\r\n\r\n", 400),
    "a zero byte in the target": (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space before the colon": (HEAD + b"Content-Length : 4\r\n\r\nbody", 400),
    "an underscore in a framing field": (HEAD + b"Content_Length: 4\r\n\r\nbody", 400),
    "two hosts": (HEAD + b"Host: b\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "an unknown version": (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "a tunnel": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "an absolute target of another scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a length named hop by hop": (HEAD + b"Connection: content-length\r\nContent-Length: 4\r\n\r\nbody", 400),
    "a chunk size that is no number": (CHUNKED + b"x\r\n", 400),
    "a chunk size with a prefix": (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", 400),
    "two words where a chunk size is": (CHUNKED + b"2 2\r\nok\r\n0\r\n\r\n", 400),
    "a negative chunk size": (CHUNKED + b"-2\r\nok\r\n0\r\n\r\n", 400),
    "an empty chunk size": (CHUNKED + b"\r\nok\r\n0\r\n\r\n", 400),
    "a chunk size too large": (CHUNKED + b"ffffffffffffffff\r\nok", 400),
    "a chunk size of many zeros": (CHUNKED + b"0" * 40 + b"2\r\nok\r\n0\r\n\r\n", 400),
    "a chunk size line with a bare line feed": (CHUNKED + b"2;a\nb\r\nok\r\n0\r\n\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"2\r\nokk\r\n0\r\n\r\n", 400),
    "a long chunk extension": (CHUNKED + b"2;" + b"x" * 2000 + b"\r\nok\r\n0\r\n\r\n", 400),
    "a TLS client": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_could_be_read_in_two_ways_is_refused_and_reaches_no_member(lab: Lab, name: str) -> None:
    request, status = REFUSED[name]
    client, endpoint = await lab.converses()
    await client.says(request + GET)
    answer = await client.hears_message()
    assert (answer.status, answer["connection"]) == (status, "close")
    assert answer.body.startswith(b"node-1: ")
    await client.hears_end()
    assert lab.front.counters.rejected == 1
    await endpoint.is_left_alone()


async def test_a_preface_of_http_2_behind_a_request_is_refused(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    await client.says(GET + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert [(await client.hears_message()).status for _ in range(2)] == [200, 505]
    await client.hears_end()


async def test_an_absolute_target_decides_the_host(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET http://right.example/x?y HTTP/1.1\r\nHost: wrong.example\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.first == "GET /x?y HTTP/1.1"
    assert request["host"] == request["x-forwarded-host"] == "right.example"


async def test_chunk_extensions_do_not_pass(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CHUNKED + b"2;a=b\r\nok\r\n0;c\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.hears(b"2\r\nok\r\n0\r\n\r\n")


async def test_one_empty_line_before_a_request_is_forgiven(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    for _ in range(2):
        assert (await client.asks(b"\r\n" + GET)).status == 200


async def test_requests_before_a_refused_one_are_answered(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    await client.says(GET + b"nonsense\r\n\r\n" + GET)
    assert [(await client.hears_message()).status for _ in range(2)] == [200, 400]
    await client.hears_end()


LARGE = [
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000, 431),
    (b"GET /" + b"a" * 2000, 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 10 + b"\r\n", 431),
]


@pytest.mark.parametrize(("head", "status"), LARGE)
async def test_large_heads_are_refused(lab: Lab, head: bytes, status: int) -> None:
    client, endpoint = await lab.converses(limits=Limits(head=1000, headers=10))
    answer = await client.asks(head)
    assert answer.status == status
    await client.hears_end()
    await endpoint.is_left_alone()


async def test_a_head_as_large_as_allowed_passes(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(head=1000)))
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    client = await lab.connects()
    assert (await client.asks(start + b"a" * (1000 - len(start) - 4) + b"\r\n\r\n")).status == 200
    assert (await client.asks(start + b"a" * (1001 - len(start) - 4) + b"\r\n\r\n")).status == 431


async def test_a_target_may_be_as_long_as_the_head(lab: Lab) -> None:
    limit = 200_000
    await lab.serves(l7(rules=HELLO, limits=Limits(head=limit)))
    rest = b" HTTP/1.1\r\nHost: a\r\n\r\n"
    fitting = b"GET /" + b"a" * (limit - len(rest) - 5) + rest
    assert len(fitting) == limit
    assert (await (await lab.connects()).asks(fitting)).status == 200
    assert (await (await lab.connects()).asks(fitting.replace(b"/a", b"/aa", 1))).status == 431
    assert (await (await lab.connects()).asks(b"GET /" + b"a" * limit)).status == 414


async def test_a_refusal_reaches_a_client_that_is_still_sending(lab: Lab) -> None:
    client, _ = await lab.converses(limits=Limits(body=10))
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n", bytes(4_000_000))
    answer = await client.hears_message()
    assert answer.status == 413
    await client.says(bytes(1_000_000))
    await client.hears_end()


# Work per turn.


class NotedRequests:
    """In the place of what decides which requests are explained: none, but `order` has what each is marked by."""

    def __init__(self) -> None:
        self.order: list[bytes] = []

    def covers(self, nonce: bytes, now: float) -> bool:
        self.order.append(nonce)
        return False


MARKED = b"GET / HTTP/1.1\r\nHost: a\r\nX-Tierlb-Explain: %d\r\n%b\r\n"


async def serves_in_order(lab: Lab) -> list[bytes]:
    """A node that answers by itself; the marks of requests, in the order in which it answers them."""
    await lab.serves(l7(rules=HELLO))
    lab.front.explaining = noted = NotedRequests()
    return noted.order


async def test_who_pipelines_many_requests_waits_for_others_after_a_few(lab: Lab) -> None:
    order = await serves_in_order(lab)
    clients = [await lab.connects() for _ in range(3)]
    await lab.until(lambda: len(lab.front.clients) == 3)
    for number, client in enumerate(clients):
        client.says_now(MARKED % (number, b"") * 5 * HEADS_A_TURN)
    for client in clients:
        for _ in range(5 * HEADS_A_TURN):
            assert (await client.hears_message()).body == b"hello\n"
    runs = [(mark, len(list(run))) for mark, run in itertools.groupby(order)]
    assert {length for _, length in runs} == {HEADS_A_TURN}
    assert [mark for mark, _ in runs] == 5 * [mark for mark, _ in runs[:3]]


async def test_a_connection_whose_requests_wait_for_their_turn_is_not_idle(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    assert (await client.asks(GET)).status == 200
    (connection,) = lab.front.clients
    assert connection.idle_since(lab.front.reactor.now) < NEVER
    connection.on_data(GET * (HEADS_A_TURN + 1))
    assert connection.queued
    assert connection.idle_since(lab.front.reactor.now) == NEVER
    for _ in range(HEADS_A_TURN + 1):
        assert (await client.hears_message()).status == 200


async def test_a_large_head_counts_as_several(lab: Lab) -> None:
    order = await serves_in_order(lab)
    clients = [await lab.connects() for _ in range(2)]
    await lab.until(lambda: len(lab.front.clients) == 2)
    for number, client in enumerate(clients):
        client.says_now(MARKED % (number, b"X: %b\r\n" % (b"x" * 4096)) * 3)
    await lab.until(lambda: len(order) == 6)
    assert max(len(list(run)) for _, run in itertools.groupby(order)) == 2


async def test_the_end_after_many_pipelined_requests_waits_for_their_answers(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    await lab.until(lambda: len(lab.front.clients) == 1)
    client.says_now(GET * 6 * HEADS_A_TURN)
    client.stream.socket.shutdown(socket.SHUT_WR)  # both before the node looks
    for _ in range(6 * HEADS_A_TURN):
        assert (await client.hears_message()).body == b"hello\n"
    await client.hears_end()


async def test_nothing_is_answered_for_a_pipelining_client_that_is_gone(lab: Lab) -> None:
    order = await serves_in_order(lab)
    client = await lab.connects()
    await lab.until(lambda: len(lab.front.clients) == 1)
    client.says_now(MARKED % (0, b"") * 100 * HEADS_A_TURN)
    client.resets()
    await lab.until(lambda: not lab.front.clients)
    assert len(order) < 100 * HEADS_A_TURN
