"""One run: endpoints, a contender and the generator as processes of their own, and whether its figures count.

Everything shares a few cores, so each run also measures the harness. Its figures are void when the generator or the
endpoints were late, when they used most of a core, or when the contender waited long for a CPU:
what is then seen is the queue for a CPU, not the contender's choice.
"""

import json
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import trio

from scripts.benchmarks import guests, openloop, simulated
from scripts.benchmarks.arrivals import Request
from scripts.benchmarks.contenders import Contender, Fleet, Fronts
from scripts.benchmarks.cpu import cpu_ns, waits
from scripts.benchmarks.guests import Visits
from scripts.benchmarks.items import Guest
from scripts.benchmarks.openloop import Lane, Plan, Result
from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.simulated import Tally
from scripts.benchmarks.station import Endpoint
from scripts.benchmarks.waiting import LATE_S
from scripts.benchmarks.windows import Seen

LEAD_S = 1.5
"""From deciding when a run begins to that moment: the generator has to start and to read its plan."""
GRACE_S = 20.0
ANSWER_S = 5.0
BUSY_LIMIT = 0.9
"""Of the machine; above it processes queue for a CPU most of the time. Only where the kernel does not say how long."""
WAIT_LIMIT_S = 0.0005
"""The mean time that a proxy's threads waited for a CPU. A request passes through a proxy twice, and 1 ms is 2 % of
the smallest p99 that is to be measured."""
CORE_LIMIT = 0.7
"""Of one core, for generator and endpoints: above it their own queue comes near to what is measured."""
PROC_STAT = Path("/proc/stat")


@attrs.frozen
class Course:
    """What every contender is put through. `groups`: which endpoints (by number) each L7 node has. `guests`: clients of
    long requests. `background`: lanes whose requests are carried out but not judged. `streams`: bodies flow both ways
    at once.
    """

    endpoints: tuple[Endpoint, ...]
    groups: tuple[tuple[int, ...], ...]
    requests: tuple[Request, ...]
    lanes: Callable[[Sequence[str]], tuple[Lane, ...]]
    edge: bool = False
    patience_s: float = 1000.0
    drain_s: float = 10.0
    guests: tuple[Guest, ...] = ()
    background: frozenset[int] = frozenset()
    streams: bool = False


@attrs.frozen
class Load:
    """Cores used during a run by the proxies, the generator, the endpoints and the clients of long requests, and the
    share of the machine that was busy with anything at all. `wait_s`: how long a proxy's threads waited for a CPU on
    average before they ran."""

    proxies: float
    generator: float
    endpoints: float
    machine: float
    guests: float = 0.0
    wait_s: float = math.nan


@attrs.frozen
class Played:
    """What one run showed. `problem`: why it must not be used. `seen` is of the judged lanes, `aside` of the others."""

    seen: Seen
    result: Result
    tally: Tally
    load: Load
    visits: Visits = attrs.field(factory=Visits)
    aside: Seen = Seen((), (), ())

    @property
    def problem(self) -> str | None:
        """All reasons in one line."""
        found = [
            f"the {name} was {1000 * late_s:.1f} ms late at the 99th percentile"
            for name, late_s in (("generator", self.result.late_s), ("endpoints' process", self.tally.late_s))
            if late_s > LATE_S
        ]
        found += [
            f"the {name} used {100 * used:.0f} % of a core"
            for name, used in (
                ("generator", self.load.generator),
                ("endpoints' process", self.load.endpoints),
                ("long requests' clients", self.load.guests),
            )
            if used > CORE_LIMIT
        ]
        if self.load.wait_s > WAIT_LIMIT_S:
            found.append(f"the proxies waited {1000 * self.load.wait_s:.2f} ms for a CPU on average")
        elif math.isnan(self.load.wait_s) and self.load.machine > BUSY_LIMIT:
            found.append(f"the machine was {100 * self.load.machine:.0f} % busy")
        return "; ".join(found) or None

    def remarks(self) -> str:
        """The harness's own figures, for the progress line."""
        used = f"machine {100 * self.load.machine:.0f} %, proxies {100 * self.load.proxies:.0f} % of a core"
        shown = f"{used}, waited {1000 * self.load.wait_s:.2f} ms"
        late = f"late {1000 * self.result.late_s:.1f}/{1000 * self.tally.late_s:.1f} ms"
        return f"{shown}, {late}, {self.result.connections} connections, {self.result.waited} waited"


async def play(course: Course, contender: Contender) -> Played | str:
    """Start everything, run, stop. Returns why there is nothing to show if something did not work."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"tierlb-bench-{contender.name}-") as directory:
            place = Path(directory)
            async with _endpoints(course, contender.orca, place) as listens:
                groups = tuple(tuple(listens[number] for number in group) for group in course.groups)
                fleet = place / "fleet"
                fleet.mkdir()
                async with contender.serving(Fleet(groups, course.edge, course.streams), fleet) as fronts:
                    return await _run(course, fronts, listens[0], place)
    except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError) as error:
        return f"{type(error).__name__}: {error}"


@asynccontextmanager
async def _endpoints(course: Course, orca: bool, place: Path) -> AsyncIterator[list[str]]:
    listens = free_addresses(len(course.endpoints))
    file = place / "endpoints.json"
    file.write_text(simulated.plan(listens, course.endpoints, orca))
    async with running([sys.executable, "-m", simulated.__name__, str(file)], place / "endpoints.log") as process:
        for listen in listens:
            await process.serves(f"http://{listen}/")
        yield listens


async def _run(course: Course, fronts: Fronts, endpoint: str, place: Path) -> Played:
    """Raises OSError, httpx.HTTPError or trio.TooSlowError."""
    begin_s = time.monotonic() + LEAD_S
    last_s = course.requests[-1].at_s
    source, target = place / "plan.json", place / "result.json"
    plan = Plan(begin_s, course.drain_s, course.patience_s, course.lanes(fronts.listens), course.requests)
    source.write_text(openloop.dump(plan))
    await _get(f"http://{endpoint}/-/begin/{begin_s:.6f}")
    command = [sys.executable, "-m", openloop.__name__, str(source), str(target)]
    with trio.fail_after(LEAD_S + last_s + course.drain_s + GRACE_S):
        async with (
            running(command, place / "generator.log") as generator,
            _visited(course, guests.Plan(begin_s, last_s, fronts.listens[0], course.guests), place) as visits,
        ):
            await trio.sleep(begin_s - time.monotonic())
            before, waited, stat = cpu_ns(fronts.pids), waits(fronts.pids), _stat()
            await trio.sleep(last_s)
            used, machine = cpu_ns(fronts.pids) - before, busy_share(stat, _stat())
            wait_s = waits(fronts.pids).mean_s(waited)
            tally = Tally(**json.loads(await _get(f"http://{endpoint}/-/tally")))
            if code := await generator.process.wait():
                raise OSError(f"the generator ended with {code}: {generator.log.read_text()[-500:]}")
    result = Result(**json.loads(target.read_text()))
    load = Load(
        proxies=used / 1e9 / last_s,
        generator=result.cpu_s / last_s,
        endpoints=tally.cpu_s / last_s,
        machine=machine,
        guests=visits[0].cpu_s / last_s,
        wait_s=wait_s,
    )
    seen, aside = (_seen(course, result, judged) for judged in (True, False))
    return Played(seen, result, tally, load, visits[0], aside)


def _seen(course: Course, result: Result, judged: bool) -> Seen:
    """The requests of the judged lanes, or those of the others."""
    chosen = [
        (request.at_s, latency_s, status)
        for request, latency_s, status in zip(course.requests, result.latency_s, result.status, strict=True)
        if (request.lane not in course.background) is judged
    ]
    return Seen(*map(list, zip(*chosen, strict=True))) if chosen else Seen((), (), ())


@asynccontextmanager
async def _visited(course: Course, plan: guests.Plan, place: Path) -> AsyncIterator[list[Visits]]:
    """Clients of long requests come during the block; the list has their result after it. Raises OSError."""
    visits: list[Visits] = []
    if not course.guests:
        yield visits
        visits.append(Visits())
        return
    source, target = place / "guests.json", place / "visits.json"
    source.write_text(guests.dump_plan(plan))
    command = [sys.executable, "-m", guests.__name__, str(source), str(target)]
    async with running(command, place / "guests.log") as clients:
        yield visits
        if code := await clients.process.wait():
            raise OSError(f"the clients of long requests ended with {code}: {clients.log.read_text()[-500:]}")
    visits.append(Visits(**json.loads(target.read_text())))


async def _get(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as client:
        return (await client.get(url, headers={"connection": "close"})).raise_for_status().text


def _stat() -> str:
    return PROC_STAT.read_text()


def busy_share(before: str, after: str) -> float:
    """The share of all cores' time, between two contents of /proc/stat, that was not idle (stolen time is not)."""
    spent = [b - a for a, b in zip(_jiffies(before), _jiffies(after), strict=True)]
    return 1 - (spent[3] + spent[4]) / sum(spent) if sum(spent) else math.nan


def _jiffies(stat: str) -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal; guest time is contained in user."""
    return [int(each) for each in stat.partition("\n")[0].split()[1:9]]
