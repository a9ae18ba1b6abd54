"""What forwarding in the kernel leaves of the throughput between two machines: `forward: nftables` beside the rules of
kube-proxy's nftables mode, relay, and no load balancer at all.

Client, edge and host are network namespaces that virtual cables join, on this machine. One nginx with one worker serves
all. *direct*: the client asks the host, and the edge only routes, without any rule; so it tracks no connection either.

* bulk: responses of 1 MiB over 8 kept connections. The rate of bytes is what the way carries.
* small: responses of 100 bytes over 32 kept connections. Each packet passes the edge by itself.
* new: each response has a connection of its own, so the rules are passed each time.

*its rules* are those of tierlb and *kube-proxy* those of kube-proxy, both without a process that keeps them in step.

The ways take turns within every round, in another order each time. All share the processors, so a ratio shows what a
way costs beside all that client and host do. *CPU µs* is that of client, host and edge processes for each response. The
kernel's work for a packet mostly counts for the process that sent it, so on a machine with other work this is the
figure to go by.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import click

from scripts.benchmarks import table
from scripts.benchmarks.cpu import cpu_ns
from scripts.benchmarks.load import parse_wrk
from scripts.benchmarks.machines import Machines, lacking
from scripts.benchmarks.results import brief, finish, machine, need
from scripts.benchmarks.table import Sample, Target

HOST, EDGE = "10.77.1.2:80", "10.77.0.1:8443"
BULK_BYTES, SMALL_BYTES = 1 << 20, 100
START_S = 30.0
SETTLE_S = 5.0
WARM_UP_S = 1

NGINX = """\
daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  server {{ listen {host}; root {directory}; }}
}}
"""
TIERLB = """\
cluster: bench
admin: {{listen: "127.0.0.1:7900"}}
tiers:
  edge: {{kind: l4, listen: "0.0.0.0:8443", forward: {forward}, to: app}}
pools:
  app: {{endpoints: ["{host}"]}}
"""
KUBE_PROXY = """\
table ip kube-proxy {
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain endpoint-1 {
    ip saddr 10.77.1.2 jump mark-for-masquerade
    meta l4proto tcp dnat to 10.77.1.2:80
  }
  chain service-1 { numgen random mod 1 vmap { 0 : goto endpoint-1 }; }
  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.77.0.1 . tcp . 8443 : goto service-1 }
  }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; }
  chain filter-output { type filter hook output priority -110; ct state new jump service-endpoints-check; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
"""
"""The path of a service with one endpoint, laid out as kube-proxy documents it (pkg/proxy/nftables/README.md)."""


@attrs.frozen
class Measure:
    """`options`: of wrk."""

    name: str
    path: str
    connections: int
    options: tuple[str, ...] = ()


MEASURES = (
    Measure("bulk", "bulk", 8),
    Measure("small", "small", 32),
    Measure("new", "small", 32, ("-H", "Connection: close")),
)


@contextmanager
def direct(machines: Machines, directory: Path) -> Iterator[str]:
    """The edge routes."""
    yield HOST


@contextmanager
def kube_proxy(machines: Machines, directory: Path) -> Iterator[str]:
    """Its rules, without the process that keeps them."""
    machines.runs("edge", "nft", "-f", "-", stdin=KUBE_PROXY)
    yield EDGE


def tierlb(forward: str) -> Callable[[Machines, Path], object]:
    """A whole cluster of one edge."""

    @contextmanager
    def way(machines: Machines, directory: Path) -> Iterator[str]:
        file = directory / "cluster.yaml"
        file.write_text(TIERLB.format(forward=forward, host=HOST))
        command = [sys.executable, "-m", "tierlb", "up", str(file), "--state", str(directory / "state")]
        with _process(machines.inside("edge", *command), directory / "tierlb.log"):
            _until_answered(machines, EDGE)
            if forward == "nftables":
                _until_forwarded(machines)
            time.sleep(SETTLE_S)  # noqa: TID251 (nothing announces that the processes are done with their start)
            yield EDGE

    return way


@contextmanager
def rules_alone(machines: Machines, directory: Path) -> Iterator[str]:
    """The rules of tierlb without its processes, as kube-proxy's are measured."""
    kept = directory / "rules"
    if not kept.exists():
        with BY_KERNEL(machines, directory):  # type: ignore[attr-defined]
            kept.write_text(machines.runs("edge", "nft", "list", "ruleset"))
        machines.runs("edge", "nft", "flush", "ruleset")
    machines.runs("edge", "nft", "-f", str(kept))
    yield EDGE


BY_KERNEL = tierlb("nftables")
WAYS = {
    "tierlb": BY_KERNEL,
    "its rules": rules_alone,
    "kube-proxy": kube_proxy,
    "relay": tierlb("relay"),
    "direct": direct,
}


@click.command(help="Throughput of forwarding in the kernel, beside kube-proxy's rules, relay and no balancer.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=2, show_default=True, help="Of each measurement.")
@click.option("--only", default="", metavar="NAME,...", help=f"Measures: {', '.join(m.name for m in MEASURES)}.")
def main(rounds: int, seconds: int, only: str) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    if lack := lacking():
        raise click.ClickException(lack)
    need("nginx", "wrk")
    chosen = set(filter(None, only.split(","))) or {each.name for each in MEASURES}
    measures = [each for each in MEASURES if each.name in chosen]
    samples = _measure_all(measures, rounds, seconds)
    lines = table.rows(samples)
    targets = [Target(each.name, "per second", peer, 0.97) for each in measures for peer in ("direct", "its rules")]
    subtitle = f"{rounds} rounds of {seconds} s, one nginx in a namespace, {machine()}"
    sys.exit(finish("nftables", subtitle, samples, table.markdown(lines), table.target_lines(targets, lines)))


def _measure_all(measures: Sequence[Measure], rounds: int, seconds: int) -> list[Sample]:
    samples = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tierlb-bench-")))
        machines = Machines(1)
        stack.enter_context(machines.made())
        stack.enter_context(_host(machines, directory))
        names = list(WAYS)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                for sample in _of_way(machines, directory, name, measures, seconds):
                    samples.append(sample)
                    click.echo(f"round {number + 1}/{rounds}  {brief(sample)}", err=True)
    return samples


@contextmanager
def _host(machines: Machines, directory: Path) -> Iterator[None]:
    directory.chmod(0o755)
    (directory / "bulk").write_bytes(b"x" * BULK_BYTES)
    (directory / "small").write_bytes(b"x" * SMALL_BYTES)
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, host=HOST))
    with _process(machines.inside("host1", "nginx", "-c", str(config)), directory / "nginx.log"):
        _until_answered(machines, HOST)
        yield


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_answered(machines: Machines, at: str) -> None:
    """Ask until there is an answer. Raises RuntimeError if there is none in START_S."""
    options = ["--retry", str(round(START_S / 0.5)), "--retry-delay", "0", "--retry-all-errors", "--max-time", "5"]
    machines.runs("client", "curl", "-sf", "-o", "/dev/null", *options, f"http://{at}/small")


def _until_forwarded(machines: Machines) -> None:
    """Until the rules have a host."""
    wait = "until nft list ruleset | grep -q numgen; do sleep 0.1; done"
    machines.runs("edge", "timeout", str(START_S), "sh", "-c", wait)


def _of_way(
    machines: Machines, directory: Path, name: str, measures: Sequence[Measure], seconds: int
) -> Iterator[Sample]:
    with WAYS[name](machines, directory) as at:  # type: ignore[attr-defined]
        for measure in measures:
            _wrk(machines, measure, at, WARM_UP_S)
            before = _cpu_s(machines)
            printed = _wrk(machines, measure, at, seconds)
            yield _sample(measure, name, printed, _cpu_s(machines) - before)
    machines.runs("edge", "nft", "flush", "ruleset")


def _cpu_s(machines: Machines) -> float:
    """Of all processes at edge and host, and of wrk, which has ended."""
    over = resource.getrusage(resource.RUSAGE_CHILDREN)
    pids = [int(pid) for place in ("edge", "host1") for pid in machines.pids(place)]
    return over.ru_utime + over.ru_stime + cpu_ns(pids) / 1e9


def _wrk(machines: Machines, measure: Measure, at: str, seconds: int) -> str:
    options = ["-t1", f"-c{measure.connections}", f"-d{seconds}s", "--latency", *measure.options]
    return machines.runs("client", "wrk", *options, f"http://{at}/{measure.path}")


def _sample(measure: Measure, name: str, printed: str, cpu_s: float) -> Sample:
    found = parse_wrk(printed)
    values = {"CPU µs": cpu_s * 1e6 / max(1, found.requests), "per second": found.per_second, "p50 ms": found.p50_ms}
    return Sample(measure.name, name, values, found.problem)


if __name__ == "__main__":
    main()
