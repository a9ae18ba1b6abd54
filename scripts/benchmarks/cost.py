"""What a request and a connection cost: tierlb beside nginx, HAProxy and Envoy, on this machine, in one run.

Peers take turns within every round, because absolute figures drift from minute to minute on a shared machine.
Each cell is a fresh proxy with one worker before four nginx backends, warmed up, then loaded by wrk, over HTTP/2 by
h2load, and by a client of our own where each connection is to have a full handshake. CPU time is that of the processes
that carry data: a supervisor, a controller or an nginx master does not count. A run in which a load saw an error or
another status than 2xx makes its cell invalid.

Certificates are P-256. wrk speaks TLS 1.2, the others TLS 1.3. nginx has no HTTP/2 to endpoints but for gRPC.
"""

import enum
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import click
import httpx
import trio

from scripts.benchmarks import configs, table
from scripts.benchmarks.configs import PLAIN, Speaks
from scripts.benchmarks.cpu import memory_kib
from scripts.benchmarks.load import (
    VARIED,
    WARM_UP_S,
    idle_connections,
    measure_h2load,
    measure_handshakes,
    measure_wrk,
    wrk,
)
from scripts.benchmarks.peers import PEERS, Peer, Proxy, Shape, Tierlb, nginx_command, scheme
from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.results import brief, finish, machine, need
from scripts.benchmarks.table import Sample, Target

BACKENDS = 4
IDLE_CONNECTIONS = 1000
SETTLE_S = 0.5
"""Between opening the idle connections and looking at the memory."""
CALL_S = 10.0
CLOSE = ("-H", "Connection: close")


class Load(enum.Enum):
    """How a measure asks. By h2load: over 8 connections of 16 streams. IDLE: once, and then memory is looked at."""

    WRK = "wrk"
    H2LOAD = "h2load"
    HANDSHAKES = "handshakes"
    IDLE = "idle"


@attrs.frozen
class Measure:
    """One line of questions to every peer."""

    name: str
    title: str
    shape: Shape
    wrk_options: tuple[str, ...] = ()
    load: Load = Load.WRK
    speaks: Speaks = PLAIN


TLS = Speaks(tls=True)
MEASURES = (
    Measure("l7", "L7 request", Shape.L7),
    Measure("l7-varied", "L7 varied request", Shape.L7, ("-s", str(VARIED))),
    Measure("tls", "TLS request", Shape.L7, speaks=TLS),
    Measure("tls-close", "TLS connection", Shape.L7, load=Load.HANDSHAKES, speaks=TLS),
    Measure("http2", "HTTP/2 request", Shape.L7, load=Load.H2LOAD),
    Measure("http2-h2c", "HTTP/2 request to h2c", Shape.L7, load=Load.H2LOAD, speaks=Speaks(h2c=True)),
    Measure("http2-tls", "HTTP/2 request over TLS", Shape.L7, load=Load.H2LOAD, speaks=TLS),
    Measure(
        "http2-tls-h2c",
        "HTTP/2 request over TLS to h2c",
        Shape.L7,
        load=Load.H2LOAD,
        speaks=Speaks(tls=True, h2c=True),
    ),
    Measure("grpc", "gRPC call", Shape.L7, load=Load.H2LOAD, speaks=Speaks(h2c=True, grpc=True)),
    Measure("l4", "L4 request", Shape.L4),
    Measure("l7-close", "L7 connection", Shape.L7, CLOSE),
    Measure("l4-close", "L4 connection", Shape.L4, CLOSE),
    Measure("l7-idle", "L7 idle connection", Shape.L7, load=Load.IDLE),
    Measure("tls-idle", "TLS idle connection", Shape.L7, load=Load.IDLE, speaks=TLS),
    Measure("l4-idle", "L4 idle connection", Shape.L4, load=Load.IDLE),
    Measure("stacked", "L4 → 2 L7 request", Shape.STACKED),
    Measure("stacked-close", "L4 → 2 L7 connection", Shape.STACKED, CLOSE),
    Measure("stacked-idle", "L4 → 2 L7 idle connection", Shape.STACKED, load=Load.IDLE),
)
STACKED_PEERS = ("nginx", "haproxy")
TARGETS = (
    Target("L7 request", "CPU µs", "nginx", 1.1),
    Target("L7 request", "CPU µs", "tierlb-rr", 1.1),
    Target("L7 varied request", "CPU µs", "nginx", 1.1),
    Target("TLS request", "CPU µs", "nginx", 1.3),
    Target("TLS connection", "CPU µs", "nginx", 1.5),
    *(Target(title, "CPU µs", "nginx", 1.8) for title in ("HTTP/2 request", "HTTP/2 request over TLS")),
    *(Target(each.title, "CPU µs", "envoy", 0.4) for each in MEASURES if each.load is Load.H2LOAD),
    Target("L4 request", "CPU µs", "haproxy", 1.1),
    Target("L4 connection", "CPU µs", "haproxy", 1.1),
    *(Target("L4 → 2 L7 request", "CPU µs", peer, 0.7) for peer in STACKED_PEERS),
    *(Target("L4 → 2 L7 connection", "CPU µs", peer, 0.6) for peer in STACKED_PEERS),
    *(Target("L4 → 2 L7 idle connection", "KiB", peer, 1.0) for peer in STACKED_PEERS),
)
BEFORE = "before"
LEVEL = 1.02
"""What a change that is said to cost nothing may cost."""
WAYS = ("auto", "handoff", "relay")
BOTH = "both"
NAMES = [*(peer.name for peer in PEERS), *(measure.name for measure in MEASURES)]


forward_option = click.option(
    "--forward",
    type=click.Choice([*WAYS, BOTH]),
    default=WAYS[0],
    show_default=True,
    help="How tierlb's edge gets connections to its nodes; both: by handoff, and by relay as `tierlb-relay`.",
)


def _names(context: click.Context, parameter: click.Parameter, value: str) -> frozenset[str]:
    """Read a comma-separated list of peers and measures."""
    chosen = frozenset(filter(None, value.split(",")))
    if unknown := sorted(chosen - set(NAMES)):
        known = ", ".join(NAMES)
        raise click.BadParameter(f"no peer or measure is named {', '.join(unknown)}; there are {known}")
    return chosen


@click.command(help="CPU, throughput, latency and memory beside nginx, HAProxy and Envoy.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=4, show_default=True, help="Of each measurement.")
@click.option(
    "--only", callback=_names, default="", metavar="NAME,...", help=f"Peers and measures: {', '.join(NAMES)}."
)
@forward_option
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of another state, with its .venv: takes part as `before`, with the policy of `tierlb`.",
)
def main(rounds: int, seconds: int, only: frozenset[str], forward: str, before: Path | None) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    peers = present([peer for peer in PEERS if _chosen(peer.name, only, [p.name for p in PEERS])])
    peers = [attrs.evolve(peer, forward=way_of(forward)) if isinstance(peer, Tierlb) else peer for peer in peers]
    if forward == BOTH:
        peers.append(Tierlb("tierlb-relay", "load-aware", frozenset({Shape.STACKED}), forward="relay"))
    if before is not None:
        peers.append(_of_checkout(before))
    measures = [each for each in MEASURES if _chosen(each.name, only, [m.name for m in MEASURES])]
    need("nginx", "wrk", *(["h2load", "nghttp"] if any(each.load is Load.H2LOAD for each in measures) else []))
    subtitle = f"{rounds} rounds of {seconds} s, {machine()}"
    samples = trio.run(_measure_all, peers, measures, rounds, seconds)
    lines = table.rows(samples)
    targets = [*TARGETS, *table.better_than("envoy", lines)]
    targets += [Target(measure.title, "CPU µs", BEFORE, LEVEL) for measure in measures if measure.load is not Load.IDLE]
    verdicts = table.target_lines(targets, lines)
    sys.exit(finish("cost", subtitle, samples, table.markdown(lines), verdicts))


def way_of(forward: str) -> str:
    """The one by which `tierlb` itself forwards."""
    return "handoff" if forward == BOTH else forward


def _of_checkout(checkout: Path) -> Tierlb:
    """The tierlb that is installed there. Raises click.BadParameter."""
    python = checkout.resolve() / ".venv" / "bin" / "python"
    if not python.exists():
        raise click.BadParameter(
            f"{checkout} has no .venv: run its scripts/test or scripts/up once", param_hint="--before"
        )
    return Tierlb(BEFORE, "load-aware", python=str(python))


def _chosen(name: str, only: frozenset[str], family: Sequence[str]) -> bool:
    """Whether `only` names it, or names none of its family."""
    return name in only or not only.intersection(family)


def present(peers: Sequence[Peer]) -> list[Peer]:
    """Those that are installed; a line on stderr about each other one."""
    for peer in peers:
        if how := peer.missing():
            click.echo(f"{peer.name} is not installed and is left out; to have it: {how}", err=True)
    return [peer for peer in peers if peer.missing() is None]


async def _measure_all(peers: Sequence[Peer], measures: Sequence[Measure], rounds: int, seconds: int) -> list[Sample]:
    samples = []
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-") as directory:
        async with backends(Path(directory)) as endpoints:
            for number in range(rounds):
                for measure in measures:
                    for peer in _turn(peers, number):
                        if measure.shape in peer.shapes and peer.can(measure.speaks):
                            sample = await _sample(measure, peer, endpoints, seconds)
                            samples.append(sample)
                            click.echo(f"round {number + 1}/{rounds}  {brief(sample)}", err=True)
    return samples


def _turn(peers: Sequence[Peer], number: int) -> list[Peer]:
    """Another one starts each round, so that none always follows the same one."""
    first = number % len(peers) if peers else 0
    return [*peers[first:], *peers[:first]]


@attrs.frozen
class Endpoints:
    """Where the same ones speak HTTP/1.1, and HTTP/2 without TLS."""

    http1: tuple[str, ...]
    http2: tuple[str, ...]


@asynccontextmanager
async def backends(directory: Path) -> AsyncIterator[Endpoints]:
    """Four endpoints that answer at once."""
    addresses = free_addresses(2 * BACKENDS)
    endpoints = Endpoints(tuple(addresses[:BACKENDS]), tuple(addresses[BACKENDS:]))
    async with AsyncExitStack() as stack:
        for number, (listen, http2) in enumerate(zip(endpoints.http1, endpoints.http2, strict=True)):
            place = directory / f"backend-{number}"
            place.mkdir()
            command = nginx_command(configs.backend(listen, place, http2), place)
            started = await stack.enter_async_context(running(command, place / "log"))
            await started.serves(f"http://{listen}/")
        yield endpoints


async def _sample(measure: Measure, peer: Peer, endpoints: Endpoints, seconds: int) -> Sample:
    """One cell of one round, on a fresh proxy; a failure becomes the sample's problem."""
    to = endpoints.http2 if measure.speaks.h2c else endpoints.http1
    try:
        with tempfile.TemporaryDirectory(prefix=f"tierlb-bench-{peer.name}-") as directory:
            async with peer.serving(measure.shape, to, Path(directory), measure.speaks) as proxy:
                values, problem = await _ask(measure, proxy, seconds, Path(directory))
    except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError, subprocess.CalledProcessError) as error:
        values, problem = {}, f"{type(error).__name__}: {error}"
    return Sample(measure.title, peer.name, values, problem)


async def _ask(measure: Measure, proxy: Proxy, seconds: int, directory: Path) -> tuple[dict[str, float], str | None]:
    """Figures by name, and why they must not be used."""
    speaks = measure.speaks
    match measure.load:
        case Load.IDLE:
            return await _idle(proxy, speaks)
        case Load.HANDSHAKES:
            return await measure_handshakes(proxy.listen, proxy.pids, seconds)
        case Load.WRK:
            return await measure_wrk(f"{scheme(speaks)}://{proxy.listen}/", proxy.pids, seconds, measure.wrk_options)
        case Load.H2LOAD if speaks.grpc:
            return await _calls(proxy, seconds, directory)
        case Load.H2LOAD:
            return await measure_h2load(f"{scheme(speaks)}://{proxy.http2}/", proxy.pids, seconds)


async def _calls(proxy: Proxy, seconds: int, directory: Path) -> tuple[dict[str, float], str | None]:
    """Calls of gRPC. h2load does not look at their status, which is in the trailers: one call is asked for it."""
    url, body = f"http://{proxy.http2}{configs.CALL}", directory / "call"
    body.write_bytes(configs.CALLED)
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    with trio.fail_after(CALL_S):
        seen = await trio.run_process(["nghttp", "-v", "-d", str(body), *headers, url], capture_stdout=True)
    if b" grpc-status: 0\n" not in seen.stdout:
        return {}, "a call of gRPC did not end with status 0"
    return await measure_h2load(url, proxy.pids, seconds, ["-d", str(body), *headers])


async def _idle(proxy: Proxy, speaks: Speaks) -> tuple[dict[str, float], str | None]:
    """Memory per connection. One connection warms up: more would leave a heap for the idle ones to fill."""
    warm = await wrk(f"{scheme(speaks)}://{proxy.listen}/", WARM_UP_S, connections=1)
    before = memory_kib(proxy.pids)
    with idle_connections(proxy.listen, IDLE_CONNECTIONS, tls=speaks.tls):
        await trio.sleep(SETTLE_S)
        grown = memory_kib(proxy.pids) - before
    return {"KiB": grown / IDLE_CONNECTIONS}, warm.problem


if __name__ == "__main__":
    main()
