"""Counts an app's requests from inside it, for ASGI and WSGI: middleware with nothing but the standard library.

    app = AsgiReporter(app, slots=4)                  app = WsgiReporter(app, slots=threads)

What is counted is served as JSON at `/.tierlb/load`, for `tierlb agent --url`, and with `orca=True` added to each
response as `endpoint-load-metrics`, for any parent that reads ORCA. Counters are cumulative, and time integrals come
with the clock they were taken by, so a reader gets exact means between any two readings however late it is.

`slots` is how many requests the app works on at the same time (threads, workers' permits; 0: not known, or as many as
come): what is beyond waits, and full slots are full use. One process counts for itself: give each worker process a
port of its own, or read a cgroup's processor time instead. The path is answered only to those that ask directly; what
came through a proxy (it has a forwarding header) goes to the app. WebSockets and lifespan pass through uncounted.
"""

import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, Generic, TypeVar

DEFAULT_PATH = "/.tierlb/load"
ORCA_FIELD = "endpoint-load-metrics"
FRESH_S = 0.1
"""For so long the same ORCA value is sent, so that making it costs little and a parent's memory of it helps."""
REPORTER_WINDOW_S = 1.0
RECENT = 50
"""The mean response time is that of about so many last responses."""

Message = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[Message]]
AsgiSend = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, AsgiReceive, AsgiSend], Awaitable[None]]
Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]
App = TypeVar("App")


class Counts:
    """The counters of one process; any thread may call."""

    def __init__(self, slots: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = self._noted_s = clock()
        self._boot = os.urandom(8).hex()
        self._in_flight = self._arrivals = self._errors = 0
        self._busy_s = self._area_s = self._response_s = 0.0

    def begin(self) -> float:
        """A request came; give what this returns to `end`."""
        with self._lock:
            now = self._advance()
            self._in_flight += 1
            self._arrivals += 1
        return now

    def end(self, began_s: float, *, failed: bool) -> None:
        """It is answered, or given up."""
        with self._lock:
            now = self._advance()
            self._in_flight -= 1
            self._errors += failed
            done = self._arrivals - self._in_flight
            self._response_s += (now - began_s - self._response_s) / min(done, RECENT)

    def figures(self) -> dict[str, Any]:
        """What is served as JSON. `area_s` is the time integral of `in_flight`, `busy_s` that of its part within the
        slots, `cpu_s` the process's processor time."""
        with self._lock:
            now = self._advance()
            return {
                "boot": self._boot,
                "uptime_s": round(now - self._started_s, 6),
                "in_flight": self._in_flight,
                "arrivals": self._arrivals,
                "done": self._arrivals - self._in_flight,
                "errors": self._errors,
                "response_s": round(self._response_s, 6),
                "slots": self.slots,
                "busy_s": round(self._busy_s, 6),
                "area_s": round(self._area_s, 6),
                "cpu_s": round(time.process_time(), 6),
            }

    def _advance(self) -> float:
        now = self._clock()
        passed_s = now - self._noted_s
        self._noted_s = now
        self._area_s += self._in_flight * passed_s
        self._busy_s += (min(self._in_flight, self.slots) if self.slots else self._in_flight) * passed_s
        return now


class OrcaField:
    """The response field's value, made from the growth of the counters over the last one or two seconds."""

    def __init__(self, counts: Counts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock
        self._before = self._between = counts.figures()
        self._value = ""
        self._made_s = clock() - FRESH_S

    def value(self) -> str:
        """`TEXT ...`, no older than `FRESH_S`."""
        now_s = self._clock()
        if now_s - self._made_s >= FRESH_S or not self._value:
            now = self._counts.figures()
            self._value = orca_text(self._before, now)
            self._made_s = now_s
            if now["uptime_s"] - self._between["uptime_s"] >= REPORTER_WINDOW_S:
                self._before, self._between = self._between, now
        return self._value


def orca_text(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Two readings as an ORCA report in TEXT form. One Python process can use one core: that is its 100 %."""
    passed_s = now["uptime_s"] - before["uptime_s"]
    parts = {"named_metrics.in_flight": now["in_flight"], "named_metrics.slots": now["slots"]}
    if passed_s > 0:
        parts["cpu_utilization"] = (now["cpu_s"] - before["cpu_s"]) / passed_s
        parts["rps_fractional"] = (now["done"] - before["done"]) / passed_s
        parts["eps"] = (now["errors"] - before["errors"]) / passed_s
        if now["slots"]:
            parts["application_utilization"] = (now["busy_s"] - before["busy_s"]) / passed_s / now["slots"]
    return "TEXT " + ",".join(f"{name}={value:.4g}" for name, value in parts.items() if value > 0)


class _Reporter(Generic[App]):
    """What both kinds share. `path=None` serves no JSON."""

    def __init__(
        self,
        app: App,
        *,
        slots: int = 0,
        path: str | None = DEFAULT_PATH,
        orca: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts(slots, clock)
        self._app = app
        self._path = path
        self._orca = OrcaField(self.counts, clock) if orca else None

    def _json(self) -> bytes:
        return json.dumps(self.counts.figures()).encode() + b"\n"


class AsgiReporter(_Reporter[AsgiApp]):
    """Wraps an ASGI 3 app, under any event loop."""

    async def __call__(self, scope: Message, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == self._path and scope["method"] == "GET" and not _is_forwarded(scope):
            await _answer(send, self._json())
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Message, receive: AsgiReceive, send: AsgiSend) -> None:
        failed = False

        async def note(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start":
                failed = message["status"] >= 500
                if self._orca is not None:
                    field = (ORCA_FIELD.encode(), self._orca.value().encode())
                    message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        began_s = self.counts.begin()
        try:
            await self._app(scope, receive, note)
        except Exception:
            failed = True
            raise
        finally:
            self.counts.end(began_s, failed=failed)


def _is_forwarded(scope: Message) -> bool:
    return any(name.lower() in (b"x-forwarded-for", b"forwarded") for name, _ in scope["headers"])


async def _answer(send: AsgiSend, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class WsgiReporter(_Reporter[WsgiApp]):
    """Wraps a WSGI app (PEP 3333), in any number of threads. A request lasts until the server closes the response."""

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        direct = "HTTP_X_FORWARDED_FOR" not in environ and "HTTP_FORWARDED" not in environ
        if environ.get("PATH_INFO") == self._path and environ["REQUEST_METHOD"] == "GET" and direct:
            body = self._json()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        return self._count(environ, start_response)

    def _count(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = _WsgiRequest(self.counts)

        def note(status: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
            request.failed = status.startswith("5")
            if self._orca is not None:
                headers = [*headers, (ORCA_FIELD, self._orca.value())]
            return start_response(status, headers, *more)

        try:
            result = self._app(environ, note)
        except BaseException:
            request.failed = True
            request.end()
            raise
        return _SizedResponse(request, result) if hasattr(result, "__len__") else _Response(request, result)


class _WsgiRequest:
    """A request that is counted as ended once, whatever the server calls how often."""

    def __init__(self, counts: Counts) -> None:
        self.failed = False
        self._counts = counts
        self._ended = False
        self._began_s = counts.begin()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._counts.end(self._began_s, failed=self.failed)


class _Response:
    """The app's iterable, passed through, that notices its end."""

    def __init__(self, request: _WsgiRequest, result: Iterable[bytes]) -> None:
        self._request = request
        self._result = result

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._result
        except Exception:
            self._request.failed = True
            raise

    def close(self) -> None:
        try:
            if hasattr(self._result, "close"):
                self._result.close()
        finally:
            self._request.end()


class _SizedResponse(_Response):
    """One whose length is known: a server may derive Content-Length from a list of one part."""

    def __len__(self) -> int:
        return len(self._result)  # type: ignore[arg-type]
