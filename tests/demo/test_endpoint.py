import os
import random
import signal

import httpx
import pytest
import trio

from tierlb.demo.endpoint import BadQuery, Instructions, Workers, read_instructions, run_backend
from tierlb.model.topology import Orca
from tierlb.wire.orca import parse_orca


@pytest.mark.parametrize(
    ("query", "wish"),
    [
        ("", Instructions()),
        ("other=1", Instructions()),
        ("delay=50ms", Instructions(delay_s=0.05)),
        ("delay=1.5s", Instructions(delay_s=1.5)),
        ("status=503&bytes=0", Instructions(status=503, size_bytes=0)),
    ],
)
def test_a_query_is_a_wish(query, wish):
    assert read_instructions(query) == wish


@pytest.mark.parametrize("query", ["delay=5", "delay=-1s", "status=99", "status=ok", "bytes=1e6", "bytes=-1"])
def test_a_wish_that_cannot_be_is_refused(query):
    with pytest.raises(BadQuery, match="write"):
        read_instructions(query)


@pytest.fixture
async def backend(nursery):
    port = await nursery.start(run_backend, "demo-1", "127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        yield http
    nursery.cancel_scope.cancel()


async def test_a_get_says_who_answered_and_what_arrived(backend):
    with trio.fail_after(30):
        response = await backend.get("/a?b=c", headers={"x-seen": "yes"})
    seen = response.json()
    assert (seen["backend"], seen["pid"], seen["method"]) == ("demo-1", os.getpid(), "GET")
    assert seen["path"] == "/a?b=c"
    assert ["x-seen", "yes"] in seen["headers"]
    assert response.headers["x-backend"] == "demo-1"


@pytest.mark.parametrize(
    ("path", "status", "size"),
    [
        ("/?status=503", 503, None),
        ("/?status=204", 204, 0),
        ("/?status=304&bytes=10", 304, 0),
        ("/?bytes=200000", 200, 200_000),
        ("/healthz", 200, 3),
        ("/?bytes=x", 400, None),
    ],
)
async def test_it_answers_as_wished(backend, path, status, size):
    with trio.fail_after(30):
        response = await backend.get(path)
    assert response.status_code == status
    assert size is None or len(response.content) == size


async def test_a_post_comes_back_and_a_put_is_counted(backend):
    async def parts():
        for _ in range(10):
            yield b"x" * 1000

    with trio.fail_after(30):
        assert (await backend.post("/", content=b"hello")).content == b"hello"
        assert len((await backend.post("/", content=parts())).content) == 10_000
        assert (await backend.put("/", content=parts())).json()["body_bytes"] == 10_000


async def test_head_has_no_body_and_the_connection_goes_on(backend):
    with trio.fail_after(30):
        head = await backend.head("/")
        assert (head.status_code, head.content) == (200, b"")
        assert (await backend.get("/healthz")).text == "ok\n"


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on(backend):
    port = backend.base_url.port
    with trio.fail_after(30):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            head = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
            await stream.send_all(head)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(b"hi")
            assert b'"body_bytes": 2' in await stream.receive_some()


async def test_sigterm_lets_a_request_finish_and_closes_idle_connections():
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(run_backend, "demo-1", "127.0.0.1", 0)
            idle = await trio.open_tcp_stream("127.0.0.1", port)
            busy = await trio.open_tcp_stream("127.0.0.1", port)
            async with idle, busy:
                await busy.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nh")
                assert (await busy.receive_some()).startswith(b"HTTP/1.1 200 ")
                os.kill(os.getpid(), signal.SIGTERM)
                assert await idle.receive_some() == b""
                await busy.send_all(b"i")
                received = b""
                while chunk := await busy.receive_some():
                    received += chunk
                assert received.endswith(b"i")


@pytest.mark.parametrize(
    ("workers", "requests", "expected_s"),
    [
        (Workers(2, 0.010, fixed=True), 6, 0.030),
        (Workers(0, 0.010, fixed=True), 6, 0.010),
        (Workers(), 6, 0.0),
    ],
)
async def test_who_finds_all_slots_taken_waits_in_turn(workers, requests, expected_s, autojump_clock):
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(requests):
            nursery.start_soon(workers.work)
    assert trio.current_time() - started_s == pytest.approx(expected_s, abs=0.001)


def test_times_are_exponential_and_the_same_for_a_seed():
    drawn = [Workers(1, 0.010, rng=random.Random(7)).draw_s() for _ in range(2)]
    assert drawn[0] == drawn[1]
    workers = Workers(1, 0.010, rng=random.Random(7))
    times = [workers.draw_s() for _ in range(20_000)]
    assert sum(times) / len(times) == pytest.approx(0.010, rel=0.03)
    assert sum(time > 0.030 for time in times) / len(times) == pytest.approx(0.0498, rel=0.1)


@pytest.mark.parametrize("form", Orca)
async def test_it_says_its_load_in_each_response_and_at_its_own_path(form, nursery):
    workers = Workers(3, 0.001, fixed=True)
    port = await nursery.start(run_backend, "demo-1", "127.0.0.1", 0, workers, form)
    with trio.fail_after(30):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            answers = [await http.get("/?status=500"), await http.get("/"), await http.get("/healthz")]
            figures = (await http.get("/.tierlb/load")).json()
    assert [parse_orca(answer.headers["endpoint-load-metrics"].encode()).slots for answer in answers] == [3, 3, 3]
    assert answers[0].headers["endpoint-load-metrics"].startswith(form.name)
    assert (figures["done"], figures["errors"], figures["in_flight"], figures["slots"]) == (2, 1, 0, 3)


async def test_without_orca_there_is_no_such_field(backend):
    with trio.fail_after(30):
        assert "endpoint-load-metrics" not in (await backend.get("/")).headers
