"""The loads: wrk, h2load, full handshakes, and many connections that are idle after one request each."""

import contextlib
import http.client
import json
import re
import select
import ssl
import statistics
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from scripts.benchmarks import handshakes
from scripts.benchmarks.configs import HTTP2_STREAMS
from scripts.benchmarks.cpu import cpu_ns

VARIED = Path(__file__).with_name("varied.lua")
GRACE_S = 20.0
"""wrk ends by itself after its duration; this long after that it is stuck."""
WARM_UP_S = 1
SOCKET_TIMEOUT_S = 5.0
MOVES_PER_CONNECTION = 3
HTTP2_CONNECTIONS = 8
PERCENT = 100
UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@attrs.frozen
class WrkResult:
    """What one run of wrk printed. `problem`: why its figures must not be used."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    problem: str | None


async def wrk(url: str, seconds: float, options: Sequence[str] = (), connections: int = 64) -> WrkResult:
    """Run wrk with one thread. Raises trio.TooSlowError if it does not end."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *options, url]
    with trio.fail_after(seconds + GRACE_S):
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        return WrkResult(0, 0.0, 0.0, 0.0, f"wrk ended with {done.returncode}: {done.stdout.decode()[-200:]}")
    return parse_wrk(done.stdout.decode())


async def measure_wrk(
    url: str, pids: Sequence[int], seconds: float, options: Sequence[str] = (), connections: int = 64
) -> tuple[dict[str, float], str | None]:
    """Warm up, then load and see what `pids` used. Returns figures by name, and why they must not be used."""
    await wrk(url, WARM_UP_S, options, connections)
    before = cpu_ns(pids)
    result = await wrk(url, seconds, options, connections)
    used_us = (cpu_ns(pids) - before) / 1000
    values = {
        "CPU µs": used_us / max(1, result.requests),
        "per second": result.per_second,
        "p50 ms": result.p50_ms,
        "p99 ms": result.p99_ms,
    }
    return values, result.problem


def parse_wrk(output: str) -> WrkResult:
    """Read what `wrk --latency` prints. Raises ValueError if a figure is not there."""
    problems = re.findall(r"^\s*(Socket errors: .*|Non-2xx or 3xx responses: .*)$", output, re.MULTILINE)
    requests = int(_figure(r"^\s*(\d+) requests in", output))
    if requests == 0:
        problems.append("no request was answered")
    return WrkResult(
        requests=requests,
        per_second=float(_figure(r"^Requests/sec:\s+([\d.]+)", output)),
        p50_ms=_milliseconds(_figure(r"^\s*50%\s+(\S+)", output)),
        p99_ms=_milliseconds(_figure(r"^\s*99%\s+(\S+)", output)),
        problem="; ".join(problems) or None,
    )


async def measure_h2load(
    url: str, pids: Sequence[int], seconds: float, options: Sequence[str] = ()
) -> tuple[dict[str, float], str | None]:
    """As `measure_wrk`, over HTTP/2. Raises trio.TooSlowError."""
    with tempfile.NamedTemporaryFile("r", prefix="tierlb-bench-h2load-") as log:
        await h2load(url, WARM_UP_S, options)
        before = cpu_ns(pids)
        output = await h2load(url, seconds, [*options, f"--log-file={log.name}"])
        used_us = (cpu_ns(pids) - before) / 1000
        times_ms = h2load_times_ms(log)
    requests, per_second, problem = parse_h2load(output)
    values = {"CPU µs": used_us / max(1, requests), "per second": per_second, **percentiles(times_ms)}
    return values, problem


async def h2load(url: str, seconds: float, options: Sequence[str] = ()) -> str:
    """Run h2load with one thread; what it printed."""
    load = [f"-c{HTTP2_CONNECTIONS}", f"-m{HTTP2_STREAMS // HTTP2_CONNECTIONS}", f"-D{max(1, round(seconds))}"]
    with trio.fail_after(seconds + GRACE_S):
        done = await trio.run_process(
            ["h2load", *load, *options, url], capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    return done.stdout.decode()


def parse_h2load(output: str) -> tuple[int, float, str | None]:
    """Requests, requests a second, and why these must not be used. Raises ValueError if a figure is not there."""
    done, failed = int(_figure(r"(\d+) succeeded", output)), int(_figure(r"(\d+) failed", output))
    problem = f"{failed} requests failed" if failed else None
    if re.search(r"^Application protocol: (?!h2)", output, re.MULTILINE):
        problem = "it was not HTTP/2"
    return (
        done,
        float(_figure(r"finished in [^,]+, ([\d.]+) req/s", output)),
        problem or (None if done else "no request"),
    )


def h2load_times_ms(log: Iterable[str]) -> list[float]:
    """Of the requests that succeeded, of what h2load writes into its log: when, status, microseconds."""
    rows = [line.split() for line in log]
    return [int(row[2]) / 1000 for row in rows if row[1].startswith("2")]


def percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile, where there are enough for that."""
    if len(times_ms) < PERCENT:
        return {}
    cuts = statistics.quantiles(times_ms, n=PERCENT)
    return {"p50 ms": cuts[49], "p99 ms": cuts[98]}


async def measure_handshakes(listen: str, pids: Sequence[int], seconds: float) -> tuple[dict[str, float], str | None]:
    """As `measure_wrk`, over TLS with a full handshake for each request. Raises trio.TooSlowError."""
    await _handshakes(listen, WARM_UP_S)
    before = cpu_ns(pids)
    result = await _handshakes(listen, seconds)
    used_us = (cpu_ns(pids) - before) / 1000
    times_ms = [1000 * each for each in result["times_s"]]
    values = {
        "CPU µs": used_us / max(1, len(times_ms)),
        "per second": len(times_ms) / seconds,
        **percentiles(times_ms),
    }
    failed = result["failed"]
    return values, f"{failed} connections failed: {result['first']}" if failed else None


async def _handshakes(listen: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", handshakes.__name__, listen, str(seconds)]
    with trio.fail_after(seconds + GRACE_S):
        done = await trio.run_process(command, capture_stdout=True)
    return dict(json.loads(done.stdout))


def _figure(pattern: str, output: str) -> str:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk printed nothing like {pattern!r}:\n{output}")
    return found[1]


def _milliseconds(text: str) -> float:
    number = text.rstrip(string.ascii_lowercase)
    return float(number) * UNIT_MS[text.removeprefix(number)]


@contextlib.contextmanager
def idle_connections(listen: str, count: int, *, tls: bool = False) -> Iterator[None]:
    """Hold `count` kept-alive connections, over TLS or without, that have each had one 200, so all are connected
    through. Where an answer ends the connection, as when a balancer moves the client to another node, there is another
    one.

    Raises OSError if one cannot be made, gets another answer, or is closed before the block ends.
    """
    left = MOVES_PER_CONNECTION * count
    readable = select.poll()
    context = handshakes.client_context() if tls else None
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = _connection(listen, context)
            stack.callback(connection.close)
            while not _get(connection):
                left -= 1
                if left < 0:
                    raise ConnectionError("connections are closed with their first answers")
            readable.register(connection.sock, select.POLLIN)
        yield
        if ended := readable.poll(0):
            raise ConnectionError(f"{len(ended)} of {count} idle connections were closed")


def _connection(listen: str, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if context is None:
        return http.client.HTTPConnection(listen, timeout=SOCKET_TIMEOUT_S)
    return http.client.HTTPSConnection(listen, timeout=SOCKET_TIMEOUT_S, context=context)


def _get(connection: http.client.HTTPConnection) -> bool:
    """Whether the connection stays."""
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise ConnectionError(f"a connection to be idle got {answer.status}")
    return not answer.will_close
