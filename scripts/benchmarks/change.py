"""What clients notice when a running cluster is changed: failed requests and tail latency, verb by verb.

An edge over three l7 nodes over four endpoints of four slots (10 ms mean), started with `tierlb up`. Clients keep their
connections and ask by an open-loop schedule; meanwhile the commands of a user are run one after the other: a tier is
put in, scaled, a node drained, tiers restarted, the tier taken out again, and the first revision brought back.

With `--http2` clients speak that over ten connections (`http2_load`), and with `--renew` over TLS, whose certificates
are renewed every second for so long before.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import click
import httpx
import trio

from scripts.benchmarks import http2_load, openloop, table
from scripts.benchmarks.arrivals import Rate, poisson
from scripts.benchmarks.http2_load import Record
from scripts.benchmarks.openloop import CUT, Lane, Plan, Result
from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.results import brief, finish, machine
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import OK, Seen, Window

STEADY_S = 6.0
PAUSE_S = 1.0
MOST_S = 150.0
LEAD_S = 1.5
CLIENTS = 64
PER_SECOND = 400.0
P99_RATIO = 3.0
STEPS: tuple[tuple[str, ...], ...] = (
    ("tier", "add", "mid", "--kind", "l7", "--between", "edge", "web", "--replicas", "2"),
    ("scale", "web=5"),
    ("drain", "web-2"),
    ("ready", "web-2"),
    ("restart", "web"),
    ("restart", "edge"),
    ("scale", "web=2"),
    ("tier", "remove", "mid"),
    ("rollback", "1"),
)
TOPOLOGY = """\
cluster: change
admin: {{listen: {admin}}}
tiers:
  edge:
    kind: l4
    listen: {listen}
    to: web
  web:
    kind: l7
    replicas: 3{tls}
    to: app
pools:
  app: {{run: {{command: "tierlb demo-backend --port {{port}} --slots 4 --service 10ms", replicas: 4}}}}
"""


TLS = "\n    tls: {certificates: [{certificate: certificate.pem, key: certificate.key}], alpn: [h2]}"


@attrs.frozen
class Clients:
    """How they ask. `renew_s`: how long certificates are renewed first, 0 without TLS."""

    http2: bool = False
    renew_s: float = 0.0

    @property
    def most_s(self) -> float:
        """How long they ask."""
        return MOST_S + self.renew_s

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """No tier goes between an edge and one that ends the TLS of clients."""
        return tuple(step for step in STEPS if step[0] != "tier") if self.renew_s else STEPS


@attrs.frozen
class Step:
    """One command: seconds from the beginning of the load, and why it did not work."""

    name: str
    window: Window
    problem: str = ""


@click.command(help="Failed requests and tail latency while a running cluster is changed.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--http2", is_flag=True, help="Clients speak HTTP/2.")
@click.option(
    "--renew",
    "renew_s",
    type=click.FloatRange(0.0, 600.0),
    default=0.0,
    metavar="SECONDS",
    help="With --http2: over TLS, with certificates that are renewed every second for so long.",
)
def main(rounds: int, seed: int, http2: bool, renew_s: float) -> None:
    """Measure, print, write JSON; exit code 1 if something did not work."""
    if renew_s and not http2:
        raise click.BadParameter("clients over HTTP/1.1 speak no TLS here: add --http2", param_hint="--renew")
    samples: list[Sample] = []
    for number in range(rounds):
        more = trio.run(_round, random.Random(f"change {seed} {number}"), Clients(http2, renew_s))
        samples += more
        for sample in more:
            click.echo(f"round {number + 1}/{rounds}  {brief(sample)}", err=True)
    rate, count = (PER_SECOND, CLIENTS)
    if http2:
        rate, count = http2_load.PER_SECOND * http2_load.CONNECTIONS, http2_load.CONNECTIONS
    subtitle = (
        f"{rounds} rounds, {rate:g} requests/s over {count} {'HTTP/2' if http2 else 'kept'} connections, {machine()}"
    )
    sys.exit(finish("change", subtitle, samples, _table(samples), _verdicts(samples), picture=_none))


def _table(samples: Sequence[Sample]) -> str:
    metrics = ("takes s", "requests", "failed", "p99 ms")
    by_measure: dict[str, dict[str, str]] = {}
    for row in table.rows(samples):
        by_measure.setdefault(row.measure, {})[row.metric] = str(row.cells[table.SUBJECT] or "–")
    lines = [[measure, *(cells.get(metric, "–") for metric in metrics)] for measure, cells in by_measure.items()]
    return table.aligned([["while", *metrics], *lines])


def _verdicts(samples: Sequence[Sample]) -> list[str]:
    good = [each for each in samples if each.problem is None]
    failed = sum(each.values["failed"] for each in good)
    steady = max((each.values["p99 ms"] for each in good if each.measure == "nothing"), default=0.0)
    worst = max((each.values["p99 ms"] for each in good if each.measure != "nothing"), default=0.0)
    ratio = worst / steady if steady else 0.0
    return [
        f"{'met' if not failed else 'missed':8}  failed requests: 0, reached {failed:g}",
        f"{'met' if ratio <= P99_RATIO else 'missed':8}  p99 ≤ {P99_RATIO:g} × that of steady seconds, "
        f"reached {ratio:.2f} ({worst:.1f} against {steady:.1f} ms)",
    ]


def _none(title: str, path: Path) -> None:
    """The table says it all."""


async def _round(rng: random.Random, clients: Clients) -> list[Sample]:
    admin, listen = free_addresses(2)
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-change-") as directory:
        place = Path(directory)
        topology = place / "topology.yaml"
        topology.write_text(TOPOLOGY.format(admin=admin, listen=listen, tls=TLS if clients.renew_s else ""))
        if clients.renew_s:
            await _renew(place)
        command = [sys.executable, "-m", "tierlb", "up", str(topology), "--state", str(place / "state")]
        try:
            async with running(command, place / "log") as cluster:
                await cluster.serves(f"http://{admin}/healthz")
                await cluster.serves(f"{'https' if clients.renew_s else 'http'}://{listen}/")
                return await _measure(rng, admin, listen, place, clients)
        except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError) as error:
            return [Sample("everything", table.SUBJECT, {}, f"{type(error).__name__}: {error}")]


async def _measure(rng: random.Random, admin: str, listen: str, place: Path, clients: Clients) -> list[Sample]:
    begin_s = time.monotonic() + LEAD_S
    requests = tuple(poisson(rng, (Rate(clients.most_s, PER_SECOND),), CLIENTS))
    plan = Plan(begin_s, 2.0, 10.0, (Lane(listen, 1),) * CLIENTS, requests)
    source, target, log = place / "plan.json", place / "result.json", place / "generator.log"
    source.write_text(openloop.dump(plan))
    generator = [sys.executable, "-m", openloop.__name__, str(source), str(target)]
    if clients.http2:
        secured = ["tls"] if clients.renew_s else []
        generator = [sys.executable, "-m", http2_load.__name__, listen, str(clients.most_s + LEAD_S), *secured]
    async with running(generator, log) as load:
        steps = [Step("nothing", Window(1.0, STEADY_S))]
        await trio.sleep(begin_s + STEADY_S - time.monotonic())
        if clients.renew_s:
            steps.append(await _renew_for(clients.renew_s, place, begin_s))
        steps += [await _carry_out(step, admin, place, begin_s) for step in clients.steps]
        end_s = time.monotonic() - begin_s
        with trio.fail_after(clients.most_s + LEAD_S + 30.0):
            await load.process.wait()
    if clients.http2:
        seen = seen_of(Record(**json.loads(log.read_text())), begin_s)
    else:
        result = Result(**json.loads(target.read_text()))
        seen = Seen([each.at_s for each in requests], result.latency_s, result.status)
    return [_sample(step, seen) for step in steps if step.window.from_s < end_s]


def seen_of(record: Record, begin_s: float) -> Seen:
    """What clients over HTTP/2 saw, by times since `begin_s`. The reasons of failures are printed."""
    for reason in dict.fromkeys(record.reasons):
        click.echo(f"{record.reasons.count(reason)} × {reason}", err=True)
    rows = sorted(zip(record.at_s, record.latency_s, record.status, strict=True))
    later_s = record.begun_s - begin_s
    return Seen([row[0] + later_s for row in rows], [row[1] for row in rows], [row[2] for row in rows])


async def _renew_for(seconds: float, place: Path, begin_s: float) -> Step:
    """A new certificate every second, by new files in the place of the old ones."""
    from_s = time.monotonic() - begin_s
    while (now_s := time.monotonic() - begin_s) < from_s + seconds:
        await _renew(place)
        await trio.sleep(max(0.0, 1.0 - (time.monotonic() - begin_s - now_s)))
    return Step("certificates are renewed", Window(from_s, time.monotonic() - begin_s))


async def _renew(place: Path) -> None:
    """Raises OSError."""
    command = [sys.executable, "-m", "tierlb", "dev-certificate", "--output", str(place)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        raise OSError(f"no certificate: {done.stderr.decode()[-300:]}")


async def _carry_out(step: Sequence[str], admin: str, place: Path, begin_s: float) -> Step:
    from_s = time.monotonic() - begin_s
    options = ["--admin", f"http://{admin}", "--token-file", str(place / "state" / "admin-token")]
    command = [sys.executable, "-m", "tierlb", *step, *options]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    problem = "" if done.returncode == 0 else (done.stderr or done.stdout).decode(errors="replace")[-300:]
    until_s = time.monotonic() - begin_s
    await trio.sleep(PAUSE_S)
    return Step(" ".join(step[:3]), Window(from_s, until_s + PAUSE_S), problem)


def _sample(step: Step, seen: Seen) -> Sample:
    window = step.window
    status = [s for at_s, s in zip(seen.at_s, seen.status, strict=True) if window.from_s <= at_s < window.until_s]
    values = {
        "takes s": window.until_s - window.from_s - PAUSE_S,
        "requests": float(len(status)),
        "failed": float(sum(each != OK for each in status)),
        "cut": float(sum(each == CUT for each in status)),
        "p99 ms": seen.percentile_ms(window, 99),
    }
    return Sample(step.name, table.SUBJECT, values, step.problem or None)


if __name__ == "__main__":
    main()
