"""The counters by a clock that the test turns; the middleware bare, and under real servers of each kind."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.apps import plain
from tierlb.agent.reporter import DEFAULT_PATH, FRESH_S, AsgiReporter, Counts, OrcaField, WsgiReporter, orca_text
from tierlb.wire.orca import parse_orca

DEADLINE_S = 60.0


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["begin", "end", "fail"])), max_size=30),
)
def test_the_integrals_are_those_of_a_slow_sum(slots, steps):
    clock = Clock()
    counts, running, area, busy, errors, done = Counts(slots, clock), [], 0.0, 0.0, 0, 0
    for wait_s, step in steps:
        area += len(running) * wait_s
        busy += (min(len(running), slots) if slots else len(running)) * wait_s
        clock.now_s += wait_s
        if step == "begin":
            running.append(counts.begin())
        elif running:
            counts.end(running.pop(0), failed=step == "fail")
            errors += step == "fail"
            done += 1
    figures = counts.figures()
    assert (figures["in_flight"], figures["done"], figures["errors"]) == (len(running), done, errors)
    assert figures["arrivals"] == done + len(running)
    assert (figures["area_s"], figures["busy_s"]) == pytest.approx((area, busy), abs=1e-4)
    assert figures["uptime_s"] == pytest.approx(clock.now_s - 100.0, abs=1e-4)


def test_the_response_time_is_the_mean_first_and_a_recent_mean_later():
    clock = Clock()
    counts = Counts(clock=clock)
    for lasted_s in (1.0, 2.0, 3.0):
        began_s = counts.begin()
        clock.now_s += lasted_s
        counts.end(began_s, failed=False)
    assert counts.figures()["response_s"] == pytest.approx(2.0)
    for _ in range(500):
        began_s = counts.begin()
        clock.now_s += 0.1
        counts.end(began_s, failed=False)
    assert counts.figures()["response_s"] == pytest.approx(0.1, rel=0.01)


def test_threads_lose_no_count():
    counts = Counts()

    def work():
        for _ in range(2000):
            counts.end(counts.begin(), failed=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    figures = counts.figures()
    assert (figures["done"], figures["errors"], figures["in_flight"]) == (8000, 8000, 0)


def test_the_orca_text_is_what_the_wire_module_reads():
    before = {"uptime_s": 1.0, "done": 0, "errors": 0, "busy_s": 0.0, "cpu_s": 0.5, "in_flight": 0, "slots": 4}
    now = {"uptime_s": 3.0, "done": 12000, "errors": 3, "busy_s": 4.0, "cpu_s": 1.5, "in_flight": 3, "slots": 4}
    report = parse_orca(orca_text(before, now).encode())
    assert (report.cpu, report.application, report.rps, report.eps) == (0.5, 0.5, 6000.0, 1.5)
    assert (report.busy, report.slots, report.named["in_flight"]) == (0.5, 4, 3.0)


def test_the_orca_value_is_made_anew_only_after_a_moment():
    clock = Clock()
    counts = Counts(2, clock)
    field = OrcaField(counts, clock)
    first = field.value()
    counts.begin()
    assert field.value() == first
    clock.now_s += 2 * FRESH_S
    assert "in_flight=1" in field.value()


def test_the_orca_figures_are_those_of_the_last_seconds_not_of_all_time():
    clock = Clock()
    counts = Counts(1, clock)
    field = OrcaField(counts, clock)
    counts.begin()
    for _ in range(100):
        clock.now_s += 0.5
        field.value()
    assert parse_orca(field.value().encode()).application == 1.0
    counts.end(100.0, failed=False)
    for _ in range(6):
        clock.now_s += 0.5
        field.value()
    assert parse_orca(field.value().encode()).application == 0.0


async def ask(app, path="/", headers=(), method="GET", kind="http"):
    """What an ASGI app sends for one request."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app({"type": kind, "path": path, "method": method, "headers": list(headers)}, receive, send)
    return sent


async def test_asgi_requests_are_counted_and_read_back():
    app = AsgiReporter(plain)
    await ask(app, "/a")
    await ask(app, "/status/503")
    with pytest.raises(RuntimeError, match="asked for"):
        await ask(app, "/fail")
    start, body = await ask(app, DEFAULT_PATH)
    figures = json.loads(body["body"])
    assert (start["status"], dict(start["headers"])[b"content-type"]) == (200, b"application/json")
    assert (figures["arrivals"], figures["done"], figures["errors"], figures["in_flight"]) == (3, 3, 2, 0)


async def test_an_asgi_request_that_is_cancelled_is_over_and_no_error():
    started = trio.Event()

    async def hang(scope, receive, send):
        started.set()
        await trio.sleep_forever()

    app = AsgiReporter(hang)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, app)
        await started.wait()
        assert app.counts.figures()["in_flight"] == 1
        nursery.cancel_scope.cancel()
    figures = app.counts.figures()
    assert (figures["in_flight"], figures["done"], figures["errors"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("path", "request_of"),
    [
        (DEFAULT_PATH, {"headers": [(b"X-Forwarded-For", b"203.0.113.9")]}),
        (DEFAULT_PATH, {"headers": [(b"forwarded", b"for=203.0.113.9")]}),
        (DEFAULT_PATH, {"method": "POST"}),
        (None, {}),
    ],
)
async def test_figures_are_for_direct_questions_at_the_configured_path_only(path, request_of):
    sent = await ask(AsgiReporter(plain, path=path), DEFAULT_PATH, **request_of)
    assert json.loads(sent[-1]["body"]) == DEFAULT_PATH


async def test_what_is_not_http_passes_uncounted():
    app = AsgiReporter(plain)
    await ask(app, kind="websocket")
    assert app.counts.figures()["arrivals"] == 0


async def test_the_asgi_response_carries_orca_beside_the_apps_own_fields():
    start, _ = await ask(AsgiReporter(plain, slots=3, orca=True))
    fields = dict(start["headers"])
    assert fields[b"content-type"] == b"application/json"
    assert parse_orca(fields[b"endpoint-load-metrics"]).slots == 3


@contextlib.contextmanager
def hypercorn(worker, port):
    command = [sys.executable, "-m", "hypercorn", "-k", worker, "-b", f"127.0.0.1:{port}", "tests.agent.apps:app"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def fetch(url):
    """Status, fields and body; retried until the server is there."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            threading.Event().wait(0.05)


@pytest.mark.parametrize("worker", ["trio", "asyncio"])
def test_it_works_under_a_real_server_of_either_event_loop(worker, free_port):
    with hypercorn(worker, free_port) as url:
        status, fields, _ = fetch(f"{url}/a")
        assert (status, parse_orca(fields["endpoint-load-metrics"].encode()).slots) == (200, 4)
        assert fetch(f"{url}/fail")[0] == 500
        figures = json.loads(fetch(url + DEFAULT_PATH)[2])
    assert (figures["done"], figures["errors"], figures["in_flight"]) == (2, 1, 0)
    assert figures["cpu_s"] > 0


def test_importing_it_brings_no_event_loop_and_nothing_but_the_standard_library():
    script = "import sys, tierlb.agent.reporter; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"__main__", "tierlb"}
    assert foreign == set()
    assert "asyncio" not in done.stdout.split()


def wsgi_app(environ, start_response):
    """Says its path from a list, a generator under /stream; /fail raises at once, /late while it is read."""
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise RuntimeError("asked for")
    start_response("503 Busy" if path == "/busy" else "200 OK", [("Content-Type", "text/plain")])
    if path in ("/stream", "/late"):
        return stream(path)
    return [path.encode()]


def stream(path):
    yield b"a"
    if path == "/late":
        raise RuntimeError("asked for")
    yield b"b"


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

    def get_stderr(self):
        return io.StringIO()


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextlib.contextmanager
def wsgi_server(app):
    with make_server("127.0.0.1", 0, app, Threaded, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(DEADLINE_S)


def test_wsgi_requests_are_counted_in_threads_and_read_back():
    with wsgi_server(WsgiReporter(wsgi_app, slots=2, orca=True)) as url:
        status, fields, body = fetch(f"{url}/a")
        assert (status, body, fields["content-length"]) == (200, b"/a", "2")
        assert parse_orca(fields["endpoint-load-metrics"].encode()).slots == 2
        assert fetch(f"{url}/stream")[2] == b"ab"
        assert fetch(f"{url}/busy")[0] == 503
        threads = [threading.Thread(target=fetch, args=(f"{url}/a",)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        deadline = time.monotonic() + DEADLINE_S
        figures = json.loads(fetch(url + DEFAULT_PATH)[2])
        while figures["in_flight"] and time.monotonic() < deadline:  # its threads count an end after the client has it
            figures = json.loads(fetch(url + DEFAULT_PATH)[2])
    assert (figures["done"], figures["errors"], figures["in_flight"]) == (13, 1, 0)


def test_it_keeps_the_rules_of_wsgi_towards_server_and_app():
    with wsgi_server(validator(WsgiReporter(validator(wsgi_app), orca=True))) as url:
        assert [fetch(f"{url}{path}")[2] for path in ("/a", "/stream", "/busy")] == [b"/a", b"ab", b"/busy"]


def call(app, path, **environ):
    return app({"PATH_INFO": path, "REQUEST_METHOD": "GET", **environ}, lambda status, headers, *more: bytes)


def test_a_wsgi_request_lasts_until_its_response_is_closed():
    app = WsgiReporter(wsgi_app)
    response = call(app, "/stream")
    assert next(iter(response)) == b"a"
    assert app.counts.figures()["in_flight"] == 1
    response.close()
    response.close()
    figures = app.counts.figures()
    assert (figures["in_flight"], figures["done"], figures["errors"]) == (0, 1, 0)


def test_a_wsgi_app_that_fails_early_or_late_is_counted_as_an_error():
    app = WsgiReporter(wsgi_app)
    with pytest.raises(RuntimeError):
        call(app, "/fail")
    late = call(app, "/late")
    with pytest.raises(RuntimeError):
        list(late)
    late.close()
    figures = app.counts.figures()
    assert (figures["done"], figures["errors"]) == (2, 2)


def test_a_wsgi_question_through_a_proxy_goes_to_the_app():
    app = WsgiReporter(wsgi_app)
    assert list(call(app, DEFAULT_PATH, HTTP_X_FORWARDED_FOR="203.0.113.9")) == [DEFAULT_PATH.encode()]
