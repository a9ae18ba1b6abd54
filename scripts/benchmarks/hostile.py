"""What a well-behaved client and the memory of a proxy notice of clients and endpoints that mean harm.

One l7 proxy of one process that admits CONNECTIONS clients, an nginx endpoint, and an endpoint whose answers are
hostile under /hostile. A well-behaved client asks by an open-loop schedule over kept connections, which speak TLS where
the attack is on that: quiet seconds, then the attack, then quiet again. For each attack and proxy: p99 before, during
and after, requests that failed during and after it, the share of a core that the proxy used during it, how much larger
it was at most during it and at the end than before (its proportional set size), and how many connections the attack
opened. Of those over HTTP/2 the code of GOAWAY with which most ended (-1: without one; nan: none ended, or it is not
looked at). All processes share the machine, so compare with the quiet seconds.
"""

import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import click
import httpx
import trio

from scripts.benchmarks import attacks, configs, openloop, table
from scripts.benchmarks.arrivals import Rate, poisson
from scripts.benchmarks.attacks import ATTACKS, Outcome, Port
from scripts.benchmarks.certificate import make_certificate
from scripts.benchmarks.cpu import children, cpu_ns, memory_kib
from scripts.benchmarks.openloop import Lane, Plan, Result
from scripts.benchmarks.peers import (
    envoy_command,
    envoy_missing,
    haproxy_command,
    haproxy_missing,
    itself,
    nginx_command,
    nginx_missing,
    node_pids,
)
from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.results import brief, finish, machine
from scripts.benchmarks.table import SUBJECT, Sample
from scripts.benchmarks.windows import OK, Seen, Window

CONNECTIONS = 1000
QUIET_S = 5.0
LEAD_S = 1.5
SETTLE_S = 1.0
LANES = 16
PER_SECOND = 200.0
LOOK_S = 0.25
P99_MS = 50.0
GROWTH_MIB = 16.0

TIERLB = """\
cluster: hostile
admin: {{listen: {admin}}}
tiers:
  web:
    kind: l7
    listen: {listen}
    limits: {{connections: {connections}}}{secured}
    routes:
      - {{match: {{path_prefix: /hostile}}, to: hostile}}
      - to: app
pools:
  app: {{endpoints: [{endpoint}]}}
  hostile: {{endpoints: [{hostile}]}}
"""
SECURED = """
    tls: {{certificates: [{{certificate: {pem}, key: {pem}}}], alpn: [h2, http/1.1]}}"""
"""A tier with TLS has no port without it."""
NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log /dev/null crit;
events {{ worker_connections {descriptors}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/client_body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_request_buffering off;
    proxy_buffering off;
    upstream app {{ server {endpoint}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen {listen} backlog=4096;
        listen {http2} http2 backlog=4096;
        listen {tls} ssl http2 backlog=4096;
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        location /hostile {{ proxy_pass http://{hostile}; }}
        location / {{ proxy_pass http://app; }}
    }}
}}
"""
HAPROXY = """\
global
    nbthread 1
    maxconn {connections}

defaults
    mode http
    maxconn {connections}
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout http-request 10s

frontend in
    bind {listen}
    bind {tls} ssl crt {pem} alpn h2,http/1.1
    use_backend hostile if {{ path_beg /hostile }}
    default_backend app

backend app
    http-reuse always
    server s0 {endpoint}

backend hostile
    server s0 {hostile}
"""


@attrs.frozen
class Places:
    """Addresses of one run."""

    listen: str
    admin: str
    endpoint: str
    hostile: str
    http2: str
    """Without TLS, of a proxy that has a port of its own for that."""
    tls: str

    def fill(self, text: str, directory: Path) -> str:
        """A configuration for these, with a certificate beside it."""
        return text.format(
            **attrs.asdict(self),
            directory=directory,
            pem=make_certificate(directory),
            connections=CONNECTIONS,
            descriptors=2 * CONNECTIONS + 50,
        )

    def target(self, port: Port, *, http2_apart: bool) -> str:
        """What is attacked. Where the attack is on TLS, `started` has put `listen` there."""
        return self.http2 if port is Port.HTTP2 and http2_apart else self.listen


@attrs.frozen
class Proxy:
    """One of those compared. `pids`: which processes carry data, from the process that was started. `http2_apart`: it
    speaks HTTP/2 without TLS at a port of its own. `secured_command`: for TLS,
    if it speaks that or plain HTTP, and not both at two ports."""

    name: str
    missing: Callable[[], str | None]
    command: Callable[[Places, Path], list[str]]
    pids: Callable[[int], tuple[int, ...]] | None = None
    http2_apart: bool = False
    secured_command: Callable[[Places, Path], list[str]] | None = None

    def started(self, port: Port, places: Places, directory: Path) -> tuple[list[str], Places]:
        """The command for an attack at this port, and where the proxy is then."""
        if port is not Port.TLS:
            return self.command(places, directory), places
        if self.secured_command is not None:
            return self.secured_command(places, directory), places
        return self.command(places, directory), attrs.evolve(places, listen=places.tls, tls=places.listen)


def _tierlb(places: Places, directory: Path, secured: str = "") -> list[str]:
    (directory / "topology.yaml").write_text(places.fill(TIERLB.replace("{secured}", secured), directory))
    return [sys.executable, "-m", "tierlb", "up", str(directory / "topology.yaml"), "--state", str(directory / "state")]


def _envoy(places: Places, directory: Path) -> str:
    """Two listeners, and a route for what is hostile. The cap of connections is one for all (`overload_manager`)."""
    pem = make_certificate(directory)
    plain, secured, evil = (
        json.loads(configs.envoy_http(configs.Hop(listen, (to,), certificate=certificate)))["static_resources"]
        for listen, to, certificate in (
            (places.listen, places.endpoint, None),
            (places.tls, places.endpoint, pem),
            (places.listen, places.hostile, None),
        )
    )
    [cluster], [hostile] = plain["clusters"], evil["clusters"]
    hostile["name"] = hostile["load_assignment"]["cluster_name"] = "hostile"
    listeners = [plain["listeners"][0], {**secured["listeners"][0], "name": "tls"}]
    for listener in listeners:
        [host] = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
        host["routes"].insert(0, {"match": {"prefix": "/hostile"}, "route": {"cluster": "hostile", "timeout": "0s"}})
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": configs.envoy_type("resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"),
            "max_active_downstream_connections": CONNECTIONS,
        },
    }
    static = {"listeners": listeners, "clusters": [cluster, hostile]}
    return json.dumps({"static_resources": static, "overload_manager": {"resource_monitors": [monitor]}}, indent=1)


PROXIES = (
    Proxy(SUBJECT, lambda: None, _tierlb, secured_command=lambda places, where: _tierlb(places, where, SECURED)),
    Proxy(
        "nginx", nginx_missing, lambda places, where: nginx_command(places.fill(NGINX, where), where), children, True
    ),
    Proxy(
        "haproxy", haproxy_missing, lambda places, where: haproxy_command(places.fill(HAPROXY, where), where), itself
    ),
    Proxy("envoy", envoy_missing, lambda places, where: envoy_command(_envoy(places, where), where), itself),
)


@attrs.frozen
class Sizes:
    """Proportional set size of the proxy in MiB, and the share of a core that it used during the attack, in %."""

    before: float
    most: float
    after: float
    cpu: float


@click.command(
    help="Tail latency, CPU and memory beside nginx, HAProxy and Envoy while clients and endpoints mean harm."
)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(2.0, 120.0), default=8.0, show_default=True, help="Length of an attack."
)
@click.option(
    "--attack", "only", type=click.Choice(list(ATTACKS)), multiple=True, help="Only this one; may be repeated."
)
@click.option(
    "--peer", "peers", type=click.Choice([each.name for each in PROXIES]), multiple=True, help="Only this one."
)
def main(rounds: int, seconds: float, only: Sequence[str], peers: Sequence[str]) -> None:
    """Measure, print, write JSON; exit code 1 if something could not be measured."""
    proxies = [each for each in PROXIES if each.name in (peers or [proxy.name for proxy in PROXIES])]
    for proxy in proxies:
        if missing := proxy.missing():
            click.echo(f"{proxy.name} is not installed and is left out; to have it: {missing}", err=True)
    proxies = [each for each in proxies if each.missing() is None]
    subtitle = f"{rounds} rounds, attacks of {seconds:g} s, {PER_SECOND:g} requests/s beside them, {machine()}"
    samples = []
    for number in range(rounds):
        for name in only or ATTACKS:
            for proxy in proxies:
                sample = trio.run(_measure, proxy, name, seconds, random.Random(f"hostile {number} {name}"))
                click.echo(f"round {number + 1}/{rounds}  {brief(sample)}", err=True)
                samples.append(sample)
    sys.exit(finish("hostile", subtitle, samples, _table(samples), _verdicts(samples), picture=_none))


def _none(title: str, path: Path) -> None:
    """The table says it all."""


async def _measure(proxy: Proxy, name: str, seconds: float, rng: random.Random) -> Sample:
    places = Places(*free_addresses(6))
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-hostile-") as directory:
        try:
            return await _run(proxy, name, seconds, places, Path(directory), rng)
        except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError) as error:
            return Sample(name, proxy.name, {}, f"{type(error).__name__}: {error}")


async def _run(proxy: Proxy, name: str, seconds: float, places: Places, where: Path, rng: random.Random) -> Sample:
    (where / "endpoint").mkdir()
    port = ATTACKS[name].port
    command, places = proxy.started(port, places, where)
    whole_s = 2 * QUIET_S + seconds
    backend = nginx_command(configs.backend(places.endpoint, where / "endpoint"), where / "endpoint")
    evil = [sys.executable, "-m", attacks.__name__, "endpoint", places.hostile, str(whole_s + 60.0)]
    async with (
        running(backend, where / "endpoint.log"),
        running(evil, where / "hostile.log"),
        running(command, where / "log") as started,
    ):
        await started.serves(f"{'https' if port is Port.TLS else 'http'}://{places.listen}/")
        pids = await node_pids(places.admin, 1) if proxy.pids is None else proxy.pids(started.pid)
        return await _phases(proxy, name, seconds, places, pids, where, rng)


async def _phases(
    proxy: Proxy, name: str, seconds: float, places: Places, pids: tuple[int, ...], where: Path, rng: random.Random
) -> Sample:
    whole_s = 2 * QUIET_S + seconds
    begin_s = time.monotonic() + LEAD_S
    requests = tuple(poisson(rng, (Rate(whole_s, PER_SECOND),), LANES))
    plan = Plan(begin_s, 2.0, 5.0, (Lane(places.listen, 1),) * LANES, requests, tls=ATTACKS[name].port is Port.TLS)
    source, target = where / "plan.json", where / "result.json"
    source.write_text(openloop.dump(plan))
    async with running([sys.executable, "-m", openloop.__name__, str(source), str(target)], where / "load.log") as load:
        await trio.sleep(begin_s + QUIET_S - time.monotonic())
        before, used_ns = memory_kib(pids) / 1024, cpu_ns(pids)
        target_of = places.target(ATTACKS[name].port, http2_apart=proxy.http2_apart)
        command = [sys.executable, "-m", attacks.__name__, name, target_of, str(seconds)]
        async with running(command, where / "attack.log") as attacker:
            most = await _largest(pids, begin_s + QUIET_S + seconds)
            cpu = (cpu_ns(pids) - used_ns) / seconds / 1e7
            with trio.fail_after(30.0):
                if await attacker.process.wait():
                    raise DidNotStartError(f"the attack failed: {(where / 'attack.log').read_text()[-300:]}")
        with trio.fail_after(whole_s + 60.0):
            await load.process.wait()
        after = memory_kib(pids) / 1024
    result = Result(**json.loads(target.read_text()))
    seen = Seen([each.at_s for each in requests], result.latency_s, result.status)
    outcome = Outcome(**json.loads((where / "attack.log").read_text()))
    return _sample(name, proxy.name, seconds, seen, Sizes(before, most, after, cpu), outcome)


async def _largest(pids: tuple[int, ...], until_s: float) -> float:
    most = 0.0
    while time.monotonic() < until_s:
        most = max(most, memory_kib(pids) / 1024)
        await trio.sleep(LOOK_S)
    return most


def _sample(name: str, peer: str, seconds: float, seen: Seen, sizes: Sizes, outcome: Outcome) -> Sample:
    end_s = QUIET_S + seconds
    quiet, during = Window(1.0, QUIET_S), Window(QUIET_S + SETTLE_S, end_s)
    after = Window(end_s + SETTLE_S, end_s + QUIET_S)
    values = {
        "p99 ms before": seen.percentile_ms(quiet, 99),
        "during": seen.percentile_ms(during, 99),
        "after": seen.percentile_ms(after, 99),
        "failed": _failed(seen, Window(QUIET_S, end_s + QUIET_S)),
        "CPU %": sizes.cpu,
        "MiB before": sizes.before,
        "+ during": max(0.0, sizes.most - sizes.before),
        "+ after": max(0.0, sizes.after - sizes.before),
        "opened": float(outcome.opened),
        "ended with": _code(max(outcome.ends, key=outcome.ends.__getitem__)) if outcome.ends else math.nan,
    }
    least, opened = ATTACKS[name].connections, outcome.opened
    problem = None if opened >= least else f"only {opened} of {least} connections of the attack came about"
    return Sample(name, peer, values, problem)


def _code(end: str) -> float:
    """Of GOAWAY; -1 for an end without it."""
    return float(end.removeprefix("GOAWAY ")) if end.startswith("GOAWAY ") else -1.0


def _failed(seen: Seen, window: Window) -> float:
    pairs = zip(seen.at_s, seen.status, strict=True)
    return float(sum(status != OK for at_s, status in pairs if window.from_s <= at_s < window.until_s))


def _table(samples: Sequence[Sample]) -> str:
    metrics = list(dict.fromkeys(metric for sample in samples for metric in sample.values))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.rows(samples):
        for peer, cell in row.cells.items():
            cells.setdefault((row.measure, peer), {})[row.metric] = "–" if cell is None else str(cell)
    lines = [[attack, peer, *(row.get(metric, "–") for metric in metrics)] for (attack, peer), row in cells.items()]
    return table.aligned([["attack", "proxy", *metrics], *lines])


def _verdicts(samples: Sequence[Sample]) -> list[str]:
    ours = [each for each in samples if each.peer == SUBJECT and each.problem is None]
    lines = []
    for text, metric, most in (
        ("p99 during an attack", "during", P99_MS),
        ("growth during an attack in MiB", "+ during", GROWTH_MIB),
        ("growth after it in MiB", "+ after", GROWTH_MIB),
        ("failed requests", "failed", 0.0),
    ):
        worst = max(ours, key=lambda each: each.values[metric], default=None)
        if worst is not None:
            met = "met" if worst.values[metric] <= most else "missed"
            lines.append(f"{met:8}  {text}: ≤ {most:g}, largest {worst.values[metric]:.1f} ({worst.measure})")
    return lines


if __name__ == "__main__":
    main()
