"""What a datagram through an l4 tier over UDP costs: tierlb beside nginx stream and no proxy at all.

* one-shot: each question comes from a new client socket and has one answer (`responses: 1`, `proxy_responses 1`), so
  each makes a session and ends it.
* flow: 32 clients go on in their sessions, with datagrams of 1,200 bytes, as QUIC has them.
* dns: dnsperf asks two unbound servers from 64 sockets.

CPU time is that of the process that carries data. Peers take turns within every round. A run in which something was
answered wrongly, or more than LOST_SHARE was not answered, is invalid.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import click
import trio

from scripts.benchmarks import configs, table
from scripts.benchmarks.cpu import children, cpu_ns
from scripts.benchmarks.peers import nginx_command, nginx_missing, node_pids
from scripts.benchmarks.processes import RETRY_S, START_S, DidNotStartError, free_addresses, running
from scripts.benchmarks.results import brief, finish, machine
from scripts.benchmarks.table import Sample, Target

ENDPOINTS = 2
WARM_UP_S = 1.0
LOST_SHARE = 0.001
LOAD = Path(__file__).with_name("udp_load.py")
NAME = "www.bench.test"


@attrs.frozen
class Front:
    """Where clients ask, and the processes that carry data."""

    listen: str
    pids: tuple[int, ...]


@attrs.frozen
class Measure:
    """`responses`: whether one datagram answers one. `ask`: the command of the clients."""

    name: str
    responses: bool
    dns: bool
    ask: Callable[[str, float], list[str]]


def _asking(*options: str) -> Callable[[str, float], list[str]]:
    return lambda to, seconds: [sys.executable, str(LOAD), "ask", to, "--seconds", str(seconds), *options]


def _dnsperf(to: str, seconds: float) -> list[str]:
    host, _, port = to.rpartition(":")
    queries = Path(tempfile.gettempdir()) / "tierlb-bench-queries"
    queries.write_text(f"{NAME} A\n")
    options = ["-c", "64", "-q", "64", "-t", "1", "-l", str(round(seconds)), "-d", str(queries)]
    return ["dnsperf", "-s", host, "-p", port, *options]


MEASURES = (
    Measure("one-shot", True, False, _asking("--clients", "64", "--new-each")),
    Measure("flow", False, False, _asking("--clients", "32", "--bytes", "1200")),
    Measure("dns", True, True, _dnsperf),
)


@click.command(help="CPU and throughput of datagrams beside nginx stream and no proxy.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=4, show_default=True, help="Of each measurement.")
@click.option("--only", default="", metavar="NAME,...", help=f"Measures: {', '.join(m.name for m in MEASURES)}.")
@click.option(
    "--tierlb",
    "binaries",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="PATH",
    help="The tierlb command of another environment (a compiled one): takes part beside this one. Repeatable.",
)
def main(rounds: int, seconds: int, only: str, binaries: Sequence[Path]) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    chosen = set(filter(None, only.split(","))) or {each.name for each in MEASURES}
    measures = [each for each in MEASURES if each.name in chosen and not _missing(each)]
    fronts: dict[str, Callable[..., object]] = {"direct": _direct}
    if (how := nginx_missing()) is None:
        fronts["nginx"] = _nginx
    else:
        click.echo(f"nginx is left out; to have it: {how}", err=True)
    commands = {"tierlb": [sys.executable, "-m", "tierlb"]}
    commands |= {f"tierlb-{number}": [str(path.resolve())] for number, path in enumerate(binaries, start=2)}
    for name, command in commands.items():
        fronts[name] = _tierlb_by(command)
    subtitle = f"{rounds} rounds of {seconds} s, {machine()}"
    samples = trio.run(_measure_all, measures, fronts, rounds, seconds)
    lines = table.rows(samples)
    targets = [Target(measure.name, "CPU µs", "nginx", 1.3) for measure in measures]
    sys.exit(finish("udp", subtitle, samples, table.markdown(lines), table.target_lines(targets, lines)))


def _missing(measure: Measure) -> bool:
    missing = [program for program in ("unbound", "dnsperf") if measure.dns and shutil.which(program) is None]
    if missing:
        click.echo(f"{measure.name} is left out: apt-get install {' '.join(missing)}", err=True)
    return bool(missing)


async def _measure_all(
    measures: Sequence[Measure], fronts: dict[str, Callable[..., object]], rounds: int, seconds: int
) -> list[Sample]:
    samples = []
    for measure in measures:
        with tempfile.TemporaryDirectory(prefix="tierlb-bench-") as directory:
            async with _endpoints(measure, Path(directory)) as endpoints:
                for number in range(rounds):
                    names = list(fronts)
                    for name in names[number % len(names) :] + names[: number % len(names)]:
                        sample = await _sample(measure, name, fronts[name], endpoints, seconds)
                        samples.append(sample)
                        click.echo(f"round {number + 1}/{rounds}  {brief(sample)}", err=True)
    return samples


@asynccontextmanager
async def _endpoints(measure: Measure, directory: Path) -> AsyncIterator[list[str]]:
    addresses = free_addresses(ENDPOINTS)
    async with AsyncExitStack() as stack:
        for number, address in enumerate(addresses):
            place = directory / f"endpoint-{number}"
            place.mkdir()
            command = [sys.executable, str(LOAD), "echo", address]
            if measure.dns:
                (place / "unbound.conf").write_text(unbound_config(address, place))
                command = ["unbound", "-d", "-c", str(place / "unbound.conf")]
            await stack.enter_async_context(running(command, place / "log"))
        await _answers(measure, addresses[-1])
        yield addresses


def unbound_config(address: str, directory: Path) -> str:
    """An unbound that knows one name, and asks nobody."""
    host, _, port = address.rpartition(":")
    return f"""server:
  interface: {host}@{port}
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/pid"
  use-syslog: no
  num-threads: 1
  do-daemonize: no
  module-config: "iterator"
  access-control: 127.0.0.0/8 allow
  local-zone: "bench.test." static
  local-data: "{NAME}. A 192.0.2.1"
remote-control:
  control-enable: no
"""


async def _answers(measure: Measure, at: str) -> None:
    """Wait until something answers there. Raises DidNotStartError."""
    with trio.move_on_after(START_S):
        while True:
            values, _ = await _ask(measure, at, 0.2 if not measure.dns else 1.0)
            if values["answers"]:
                return
            await trio.sleep(RETRY_S)
    raise DidNotStartError(f"nothing answers at {at}")


async def _sample(
    measure: Measure, name: str, front: Callable[..., object], endpoints: Sequence[str], seconds: int
) -> Sample:
    try:
        with tempfile.TemporaryDirectory(prefix=f"tierlb-bench-{name}-") as directory:
            async with front(measure, endpoints, Path(directory)) as started:  # type: ignore[attr-defined]
                await _answers(measure, started.listen)
                await _ask(measure, started.listen, WARM_UP_S)
                before = cpu_ns(started.pids)
                values, problem = await _ask(measure, started.listen, seconds)
                used_ns = cpu_ns(started.pids) - before
        figures = {"CPU µs": used_ns / 1000 / max(1, values["answers"])}
        figures["per second"] = values["answers"] / values["seconds"]
    except (DidNotStartError, OSError, trio.TooSlowError) as error:
        return Sample(measure.name, name, {}, f"{type(error).__name__}: {error}")
    return Sample(measure.name, name, figures, problem)


async def _ask(measure: Measure, to: str, seconds: float) -> tuple[dict[str, float], str | None]:
    done = await trio.run_process(measure.ask(to, seconds), capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode(errors="replace")
    values = dns_figures(text) if measure.dns else json.loads(text)
    lost = values["lost"] / max(1.0, values["answers"] + values["lost"])
    if values["wrong"] or lost > LOST_SHARE:
        return values, f"{values['lost']:.0f} of {values['answers'] + values['lost']:.0f} were not answered"
    return values, None


def dns_figures(text: str) -> dict[str, float]:
    """What dnsperf printed."""

    def figure(name: str) -> float:
        found = re.search(rf"^\s*{name}:\s+([0-9.]+)", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    answered = re.search(r"Response codes:\s+NOERROR ([0-9]+)", text)
    good, answers = float(answered[1]) if answered else 0.0, figure("Queries completed")
    return {
        "answers": answers,
        "lost": figure("Queries lost"),
        "wrong": answers - good,
        "seconds": figure(r"Run time \(s\)") or 1.0,
    }


@asynccontextmanager
async def _direct(measure: Measure, endpoints: Sequence[str], directory: Path) -> AsyncIterator[Front]:
    yield Front(endpoints[0], ())


@asynccontextmanager
async def _nginx(measure: Measure, endpoints: Sequence[str], directory: Path) -> AsyncIterator[Front]:
    (listen,) = free_addresses(1)
    config = configs.nginx_datagrams(listen, endpoints, directory, one_answer=measure.responses)
    async with running(nginx_command(config, directory), directory / "log") as started:
        await trio.sleep(0.5)
        yield Front(listen, children(started.pid))


def _tierlb_by(program: Sequence[str]) -> Callable[..., object]:
    @asynccontextmanager
    async def serving(measure: Measure, endpoints: Sequence[str], directory: Path) -> AsyncIterator[Front]:
        listen, admin = free_addresses(2)
        topology = directory / "topology.yaml"
        topology.write_text(configs.tierlb_datagrams(listen, admin, endpoints, one_answer=measure.responses))
        command = ["env", "PYTHONSAFEPATH=1", *program, "up", str(topology), "--state", str(directory / "state")]
        async with running(command, directory / "log") as cluster:
            await cluster.serves(f"http://{admin}/healthz")
            yield Front(listen, await node_pids(admin, 1))

    return serving


if __name__ == "__main__":
    main()
