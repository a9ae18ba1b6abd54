"""The client's side of a connection: heads in, answers in order, refusals that arrive, and when it is closed."""

import itertools
import socket
from functools import partial

import pytest
import trio

from tests.dataplane.conftest import (
    ANY_PORT,
    CLIENT,
    DATA_KEY,
    DEADLINE_S,
    INNER,
    Clock,
    Lab,
    Voice,
    l4_parent,
    l7,
    l7_parent,
    send,
)
from tierlb.balance.drain import GRACE_S, SPREAD_S
from tierlb.balance.guidance import Reason
from tierlb.dataplane.l7.client import HEADS_A_TURN
from tierlb.dataplane.l7.front import AGE_JITTER, LONGEST_AGE_S
from tierlb.dataplane.l7.plan import Plan
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Admin, Limits, Match, Respond, Timeouts
from tierlb.net.wheel import NEVER
from tierlb.wire.http_body import CHUNKS_A_CALL
from tierlb.wire.proxy_protocol import encode_local

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
PATIENT = Timeouts(idle=1e6)
BIG = (Rule(Match(), Respond(200, "x" * 100_000)),)


# Keeping and closing.


async def test_http_1_0_is_closed_after_its_answer(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    voice = await endpoint.accepts()
    assert (await voice.hears_head()).first == "GET / HTTP/1.1"
    await voice.says(OK)
    answer = await client.hears_message()
    assert (answer["connection"], answer.body) == ("close", b"ok")
    await client.hears_end()


async def test_http_1_0_is_kept_if_it_asks_for_that(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    voice = await endpoint.accepts()
    for _ in range(2):
        await voice.hears_head()
        await voice.says(OK)
        answer = await client.hears_message()
        assert (answer["connection"], answer.body) == ("keep-alive", b"ok")
        await client.says(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")


async def test_a_client_that_says_close_is_closed_and_the_member_is_kept(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    voice = await endpoint.accepts()
    assert "connection" not in await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears_message())["connection"] == "close"
    await client.hears_end()
    await voice.hears_nothing()


async def test_a_half_closed_client_still_gets_its_answer(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    await client.ends()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    answer = await client.hears_message()
    assert answer.body == b"ok"
    await client.hears_end()


async def test_a_half_closed_client_gets_all_answers_it_asked_for(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET * 3 + b"GET / unfinis")
    await client.ends()
    voice = await endpoint.accepts()
    for _ in range(3):
        await voice.hears_head()
        await voice.says(OK)
        assert (await client.hears_message()).body == b"ok"
    unfinished = await client.hears_message()
    assert (unfinished.status, unfinished["connection"]) == (400, "close")
    await client.hears_end()


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_client_that_ends_in_the_middle_of_a_head_is_answered(lab: Lab, data: bytes) -> None:
    client, _ = await lab.converses()
    await client.says(data)
    await client.ends()
    answer = await client.hears_message()
    assert (answer.status, b"middle of its head" in answer.body) == (400, True)
    await client.hears_end()


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


async def test_a_half_closed_client_that_reads_late_gets_all_answers(lab: Lab) -> None:
    await lab.serves(l7(rules=BIG))
    client = await lab.connects()
    client.listens_little()
    await client.says(GET * 100)
    await client.ends()
    await lab.until(lambda: all(c.eof for c in lab.front.clients))
    for _ in range(100):
        assert len((await client.hears_message()).body) == 100_000
    await client.hears_end()


async def test_a_request_cut_short_by_its_clients_end_is_not_passed_on_as_whole(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    voice = await endpoint.accepts()
    await voice.hears_up_to(b"half")
    await client.ends()
    await voice.hears_end()
    await client.hears_end()


async def test_a_client_that_never_asks_is_closed_when_the_time_for_a_head_is_over(lab: Lab) -> None:
    client, _ = await lab.converses(timeouts=Timeouts(head=0.1))
    await client.hears_end()
    assert lab.front.counters.rejected == 0


async def test_a_kept_client_is_closed_when_the_idle_time_is_over(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, timeouts=Timeouts(idle=0.1)))
    client = await lab.connects()
    assert (await client.asks(GET)).body == b"hello\n"
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
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
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


# Behind a parent.


async def introduced(lab: Lab, header: bytes, **options: object) -> tuple[Voice, Voice]:
    """A parent's connection that has served one request, and the endpoint's end of it."""
    client, endpoint = await lab.converses(listener=INNER, **options)
    await client.says(header + GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    return client, voice


async def test_the_client_is_who_an_l4_parent_says(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    await client.says(l4_parent() + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == [CLIENT[0]]


async def test_a_trusted_client_of_an_l4_parent_is_believed(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER, trusted_peers=("192.0.2.0/24",))
    await client.says(l4_parent() + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == ["6.6.6.6, 192.0.2.7"]


async def test_a_proxy_header_may_come_in_pieces(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    for byte in l4_parent(("2001:db8::7", 1234)) + GET:
        await client.says(bytes([byte]))
        await trio.lowlevel.checkpoint()
    assert (await (await endpoint.accepts()).hears_head())["x-forwarded-for"] == "2001:db8::7"


async def test_an_l7_parent_is_believed_about_its_client(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    await client.says(l7_parent() + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == ["192.0.2.7, 127.0.0.1"]


STRANGERS = {
    "no header": GET,
    "the header in text": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GET,
    "another version": l7_parent()[:12] + b"\x11" + GET,
    "no key": encode_local() + GET,
    "a wrong key": l7_parent(key=b"guessed") + GET,
    "a wrong key at l4": l4_parent(key=b"guessed") + GET,
    "the right key cut short": l4_parent(key=DATA_KEY[:-1]) + GET,
}


@pytest.mark.parametrize("start", STRANGERS.values(), ids=STRANGERS)
async def test_who_does_not_show_that_it_is_a_parent_is_turned_away_unanswered_and_counted(
    lab: Lab, start: bytes
) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    await client.says(start)
    await client.hears_no_word()
    await endpoint.is_left_alone()
    load = lab.plane.load()
    assert (load.rejected, load.items, load.connections) == (1, 0, 0)
    assert lab.log.count("connection refused") == 1


async def test_a_proxy_header_that_does_not_come_is_not_waited_for_long(lab: Lab) -> None:
    client, _ = await lab.converses(listener=INNER, timeouts=Timeouts(head=0.1))
    await client.says(l4_parent()[:10])
    await client.hears_end()


async def test_what_comes_from_a_parent_is_counted_as_its(lab: Lab) -> None:
    client, _ = await introduced(lab, l4_parent(name="edge-1"))
    other = await lab.connects()
    await other.says(l7_parent(name="web-9") + GET)
    await lab.until(lambda: lab.plane.load().in_flight == 1)
    assert lab.plane.echo("edge-1") == Echo(0, 1, 1)
    assert lab.plane.echo("web-9") == Echo(1, 1, 1)
    assert lab.plane.echo("edge-2") == Echo()
    subtree = lab.plane.subtree()
    assert (subtree.in_flight, subtree.arrivals, subtree.done, subtree.connections) == (1, 2, 1, 2)
    await client.leaves()
    await lab.until(lambda: lab.plane.load().connections == 1)
    assert lab.plane.echo("edge-1") == Echo(0, 1, 0)


async def test_who_comes_without_a_parent_is_no_parents(lab: Lab) -> None:
    client, _ = await lab.converses(rules=HELLO)
    await client.asks(GET)
    assert lab.plane.subtree().arrivals == 1
    assert lab.plane.echo("") == Echo()


# Connections that are to move.


async def is_closed_with_its_answer(client: Voice, voice: Voice) -> bool:
    """Ask again, and whether the answer says goodbye and the end follows it."""
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    answer = await client.hears_message()
    assert answer.status == 200
    if "connection" not in answer:
        return False
    assert answer["connection"] == "close"
    await client.hears_end()
    return True


async def test_a_connection_that_an_l4_parent_placed_ends_at_its_age(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(), timeouts=PATIENT)
    clock.now += LONGEST_AGE_S * (1 - AGE_JITTER) - 1
    assert not await is_closed_with_its_answer(client, voice)
    clock.now += LONGEST_AGE_S * 2 * AGE_JITTER + 2
    assert await is_closed_with_its_answer(client, voice)


@pytest.mark.parametrize("parent", [b"", l7_parent()], ids=["a client", "an l7 parent"])
async def test_other_connections_are_kept_whatever_their_age(lab: Lab, clock: Clock, parent: bytes) -> None:
    client, voice = await introduced(lab, parent, timeouts=PATIENT) if parent else await direct(lab, timeouts=PATIENT)
    clock.now += 10 * LONGEST_AGE_S
    assert not await is_closed_with_its_answer(client, voice)


async def direct(lab: Lab, **options: object) -> tuple[Voice, Voice]:
    """As `introduced`, for a client that comes without a parent."""
    client, endpoint = await lab.converses(**options)
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    return client, voice


async def test_a_connection_that_a_former_parent_placed_ends_soon_and_politely(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(name="edge-1", boot_id="b1"), timeouts=PATIENT)
    (endpoint,) = lab.endpoints
    again = partial(l7, endpoint, listener=INNER, timeouts=PATIENT)
    lab.plane.apply(again(revision=2, parents=("edge-1/b1", "edge-1/b2")))
    clock.now += SPREAD_S
    assert not await is_closed_with_its_answer(client, voice)
    lab.plane.apply(again(revision=3, parents=("edge-1/b2",)))
    clock.now += SPREAD_S
    assert await is_closed_with_its_answer(client, voice)


async def test_a_former_node_further_above_counts_as_well(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(boot_id="b1", way=b"top-1/b0"), timeouts=PATIENT)
    again = partial(l7, *lab.endpoints, listener=INNER, timeouts=PATIENT)
    lab.plane.apply(again(revision=2, parents=("edge-1/b1", "top-1/b0")))
    clock.now += SPREAD_S
    assert not await is_closed_with_its_answer(client, voice)
    lab.plane.apply(again(revision=3, parents=("edge-1/b1",)))
    clock.now += SPREAD_S
    assert await is_closed_with_its_answer(client, voice)


async def test_what_a_former_parent_still_places_ends_with_its_first_answer(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(boot_id="b2"), timeouts=PATIENT, parents=("edge-1/b1", "edge-1/b2"))
    again = partial(l7, *lab.endpoints, listener=INNER, timeouts=PATIENT)
    lab.plane.apply(again(revision=2, parents=("edge-1/b2",)))
    late = await lab.connects()
    await late.says(l4_parent(boot_id="b1"))
    assert await is_closed_with_its_answer(late, voice)
    assert not await is_closed_with_its_answer(client, voice)
    lab.plane.apply(again(revision=3, parents=("edge-1/b1", "edge-1/b2")))
    back = await lab.connects()
    await back.says(l4_parent(boot_id="b1"))
    assert not await is_closed_with_its_answer(back, voice)


async def test_a_parent_that_the_snapshot_does_not_know_yet_may_place_connections(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(boot_id="new"), timeouts=PATIENT, parents=("edge-1/b1",))
    assert not await is_closed_with_its_answer(client, voice)


async def test_a_connection_of_a_former_parent_on_which_nothing_is_asked_ends_too(lab: Lab, clock: Clock) -> None:
    client, _ = await introduced(lab, l4_parent(), timeouts=PATIENT)
    lab.plane.apply(l7(*lab.endpoints, listener=INNER, timeouts=PATIENT, revision=2))
    clock.now += SPREAD_S + GRACE_S + 0.5
    await client.hears_end()


@pytest.mark.parametrize(
    "parent", [b"", l4_parent(), l7_parent()], ids=["a client", "through an l4 parent", "an l7 parent"]
)
@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINTENANCE])
async def test_in_drain_all_connections_end_soon_and_politely(
    lab: Lab, clock: Clock, parent: bytes, admin: Admin
) -> None:
    client, voice = await introduced(lab, parent, timeouts=PATIENT) if parent else await direct(lab, timeouts=PATIENT)
    drained = {"parents": ("edge-1/boot",), "admin": admin}
    listener = INNER if parent else ANY_PORT
    lab.plane.apply(l7(*lab.endpoints, listener=listener, timeouts=PATIENT, revision=2, **drained))
    clock.now += SPREAD_S
    assert await is_closed_with_its_answer(client, voice)


async def test_in_drain_a_connection_on_which_nothing_is_asked_ends_after_a_moment(lab: Lab, clock: Clock) -> None:
    client, _ = await direct(lab, timeouts=PATIENT)
    lab.plane.apply(l7(*lab.endpoints, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += SPREAD_S + GRACE_S + 0.5
    await client.hears_end()


async def test_an_answer_that_had_promised_to_stay_is_followed_by_a_moment_for_one_more(lab: Lab, clock: Clock) -> None:
    client, voice = await direct(lab, timeouts=PATIENT)
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK[:-1])
    assert "connection" not in await client.hears_head()
    lab.plane.apply(l7(*lab.endpoints, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += SPREAD_S
    await voice.says(OK[-1:])
    await client.hears(b"ok")
    await client.hears_nothing()
    assert await is_closed_with_its_answer(client, voice)


@pytest.mark.parametrize("parent", [b"", l7_parent()], ids=["a client", "an l7 parent"])
async def test_whoever_is_a_parent_now_other_connections_stay(lab: Lab, clock: Clock, parent: bytes) -> None:
    client, voice = await introduced(lab, parent, timeouts=PATIENT) if parent else await direct(lab, timeouts=PATIENT)
    listener = INNER if parent else ANY_PORT
    lab.plane.apply(l7(*lab.endpoints, listener=listener, timeouts=PATIENT, revision=2, parents=("edge-2/b",)))
    clock.now += 10 * SPREAD_S
    lab.plane.reactor.wheel.advance(clock.now)
    assert not await is_closed_with_its_answer(client, voice)


def grows_hot(lab: Lab, clock: Clock) -> None:
    """The node is at 90 %, its siblings at 30 %, and a second passes."""
    lab.upkeep.account.subtree = lambda now, draining, unfound: SubtreeLoad(utilisation=0.9)
    lab.plane.heed("edge-1", Guidance(0.3))
    for _ in range(2):
        clock.now += 1.0
        lab.ticks()


async def test_a_node_hotter_than_its_siblings_closes_a_few_connections_politely(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent())
    clients = [client]
    for _ in range(9):
        clients.append(await lab.connects())
        await clients[-1].says(l4_parent())
        assert not await is_closed_with_its_answer(clients[-1], voice)
    grows_hot(lab, clock)
    owed = int(lab.front.closing.rate_per_s)
    assert 0 < owed < len(clients)
    closed = [await is_closed_with_its_answer(client, voice) for client in clients]
    assert closed == [True] * owed + [False] * (len(clients) - owed)
    assert lab.front.movable == len(clients) - owed


async def test_a_slow_node_closes_those_first_that_wait_and_ask_most_and_keeps_one(lab: Lab, clock: Clock) -> None:
    first, endpoint = await lab.converses(listener=INNER)
    await first.says(l4_parent() + GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await first.hears_message()
    second = await lab.connects()
    await second.says(l4_parent())
    for _ in range(3):
        assert not await is_closed_with_its_answer(second, voice)
    lab.front.closing.set_rate(clock.now, 1.0, Reason.SLOW)
    clock.now += 10.0
    lab.front.move(clock.now)
    assert not await is_closed_with_its_answer(first, voice), "it did not wait, so it was not chosen"
    for client in (first, second):
        await client.says(GET)
    heads = [voice, await endpoint.accepts()]
    for each in heads:
        await each.hears_head()
    lab.front.closing.set_rate(clock.now, 100.0, Reason.SLOW)
    clock.now += 1.0
    lab.front.move(clock.now)
    for each in heads:
        await each.says(OK)
    answers = [await client.hears_message() for client in (first, second)]
    assert ["connection" in answer for answer in answers] == [False, True]


async def test_a_node_as_hot_as_its_siblings_closes_nothing(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent())
    grows_hot(lab, clock)
    lab.plane.heed("edge-1", Guidance(0.95, all_hot=True))
    clock.now += 1.0
    lab.ticks()
    clock.now += 100.0
    assert not await is_closed_with_its_answer(client, voice)


@pytest.mark.parametrize("parent", [b"", l7_parent()], ids=["a client", "an l7 parent"])
async def test_a_hot_node_leaves_connections_alone_that_nobody_would_place_better(
    lab: Lab, clock: Clock, parent: bytes
) -> None:
    client, voice = await introduced(lab, parent) if parent else await direct(lab)
    for _ in range(10):
        grows_hot(lab, clock)
    assert lab.front.movable == 0
    lab.front.closing.set_rate(clock.now, 100.0)
    clock.now += 1.0
    assert not await is_closed_with_its_answer(client, voice)


# Work per turn.


def notes_actions(lab: Lab) -> list[bytes]:
    """The targets of requests, in the order in which the node begins them."""
    order: list[bytes] = []
    action = lab.front.action

    def noting(plan: Plan) -> object:
        order.append(plan.head.target)
        return action(plan)

    lab.front.action = noting
    return order


async def test_who_pipelines_many_requests_waits_for_others_after_a_few(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    order = notes_actions(lab)
    clients = [await lab.connects() for _ in range(3)]
    await lab.until(lambda: len(lab.front.clients) == 3)
    for number, client in enumerate(clients):
        client.stream.socket._sock.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number * 5 * HEADS_A_TURN)
    for client in clients:
        for _ in range(5 * HEADS_A_TURN):
            assert (await client.hears_message()).body == b"hello\n"
    runs = [(target, len(list(run))) for target, run in itertools.groupby(order)]
    assert {length for _, length in runs} == {HEADS_A_TURN}
    assert [target for target, _ in runs] == 5 * [target for target, _ in runs[:3]]


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
    await lab.serves(l7(rules=HELLO))
    order = notes_actions(lab)
    clients = [await lab.connects() for _ in range(2)]
    await lab.until(lambda: len(lab.front.clients) == 2)
    for number, client in enumerate(clients):
        client.stream.socket._sock.send(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (number, b"x" * 4096) * 3)
    await lab.until(lambda: len(order) == 6)
    assert max(len(list(run)) for _, run in itertools.groupby(order)) == 2


async def test_the_end_after_many_pipelined_requests_waits_for_their_answers(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    await lab.until(lambda: len(lab.front.clients) == 1)
    client.stream.socket._sock.send(GET * 6 * HEADS_A_TURN)
    client.stream.socket._sock.shutdown(socket.SHUT_WR)  # both before the node looks
    for _ in range(6 * HEADS_A_TURN):
        assert (await client.hears_message()).body == b"hello\n"
    await client.hears_end()


async def test_nothing_is_answered_for_a_pipelining_client_that_is_gone(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    order = notes_actions(lab)
    client = await lab.connects()
    await lab.until(lambda: len(lab.front.clients) == 1)
    client.stream.socket._sock.send(GET * 100 * HEADS_A_TURN)
    client.resets()
    await lab.until(lambda: not lab.front.clients)
    assert len(order) < 100 * HEADS_A_TURN


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
