"""How well requests are spread over unequal endpoints that change: tail latency beside every peer's policies.

Eight simulated endpoints (six of 10 ms, two of 40 ms mean, exponential; 4 slots and a FIFO queue each), a Poisson
stream at 70 % of what they can do, and from second 10 on something happens, by scenario. Within a round
every contender gets the same arrivals asking for the same work; contenders take turns.
"""

import random
import sys
from collections.abc import Callable, Sequence

import attrs
import click
import trio

from scripts.benchmarks import contest
from scripts.benchmarks.arrivals import Rate, poisson
from scripts.benchmarks.contenders import QUALITY, Tierlb
from scripts.benchmarks.contest import Entry, Series
from scripts.benchmarks.openloop import Lane
from scripts.benchmarks.play import Course, Played
from scripts.benchmarks.results import machine
from scripts.benchmarks.station import Endpoint, Mode, Phase
from scripts.benchmarks.windows import Window

SECONDS = 20
CHANGE_S = 10.0
FAST_S, SLOW_S = 0.010, 0.040
FAST, SLOW = 6, 2
PER_SECOND = 1800.0
GENTLE = Rate(2.0, PER_SECOND / 3)
"""Before anything is known. Who learns from reports a second old would carry the queue of a full start for ten more."""
CONNECTIONS = 3000
"""Enough to stay open loop through every backlog that drains, below what HAProxy is allowed (maxconn 4000)."""
WINDOWS = (Window(3, CHANGE_S), Window(CHANGE_S, 13), Window(13, SECONDS))
STEP_WINDOWS = (Window(3, CHANGE_S), Window(CHANGE_S, 15), Window(15, SECONDS))
WHOLE = Window(3, SECONDS)


@attrs.frozen
class Scenario:
    """What happens at second 10. `phases` are of the first (fast) endpoint; the others never change."""

    title: str
    phases: tuple[Phase, ...] = ()
    rates: tuple[Rate, ...] = (GENTLE, Rate(SECONDS, PER_SECOND))
    windows: tuple[Window, ...] = WINDOWS
    proxies: int = 1
    patience_s: float = 1000.0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The first one is the one that changes."""
        others = [FAST_S] * (FAST - 1) + [SLOW_S] * SLOW
        return (Endpoint(FAST_S, phases=self.phases), *(Endpoint(each) for each in others))

    def course(self, rng: random.Random) -> Course:
        """One round's."""
        everywhere = tuple(range(len(self.endpoints)))
        return Course(
            endpoints=self.endpoints,
            groups=(everywhere,) * self.proxies,
            requests=tuple(poisson(rng, self.rates, self.proxies)),
            lanes=self._lanes,
            patience_s=self.patience_s,
        )

    def _lanes(self, listens: Sequence[str]) -> tuple[Lane, ...]:
        return tuple(Lane(listen, CONNECTIONS // len(listens)) for listen in listens)

    def judge(self, played: Played) -> tuple[dict[str, float], Series]:
        """The figures and curves of one run."""
        seen = played.seen
        values = {f"p99 ms {each}": seen.percentile_ms(each, 99) for each in self.windows}
        values["p50 ms"] = seen.percentile_ms(WHOLE, 50)
        values[contest.ERRORS] = seen.errors_percent(WHOLE)
        return values, {"p99 ms": seen.by_second_ms(SECONDS, 99)}


def _square_wave(period_s: float, factor: float) -> tuple[Phase, ...]:
    """Slow in the first half of each period."""
    begins = [CHANGE_S + period_s * number for number in range(int((SECONDS - CHANGE_S) / period_s))]
    return tuple(phase for at in begins for phase in (Phase(at, factor), Phase(at + period_s / 2)))


CAPACITY = sum(each.capacity(0.0) for each in Scenario("").endpoints)
PATIENCE_S = 5.0
"""Where an endpoint hangs clients must give up some time; the proxies' own time-outs are a minute."""
SCENARIOS = {
    "slow": Scenario("one endpoint 10x slower", (Phase(CHANGE_S, 10.0),)),
    "fails-fast": Scenario("one endpoint answers 500 at once", (Phase(CHANGE_S, mode=Mode.FAIL),)),
    "hangs": Scenario("one endpoint never answers", (Phase(CHANGE_S, mode=Mode.HANG),), patience_s=PATIENCE_S),
    "square-wave": Scenario("one endpoint 5x slower every other second", _square_wave(2.0, 5.0)),
    "step": Scenario(
        "1.2 × capacity for 5 s",
        rates=(GENTLE, Rate(CHANGE_S, PER_SECOND), Rate(15, 1.2 * CAPACITY), Rate(SECONDS, PER_SECOND)),
        windows=STEP_WINDOWS,
    ),
    "shared": Scenario("four L7 nodes share the endpoints, one 10x slower", (Phase(CHANGE_S, 10.0),), proxies=4),
}


@click.command(help="Tail latency over unequal endpoints that change, beside nginx, HAProxy, Envoy and Traefik.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--scenario",
    "names",
    type=click.Choice([*SCENARIOS, "all"]),
    multiple=True,
    default=("slow",),
    show_default=True,
    help="What happens at second 10; may be given several times.",
)
@click.option("--only", default="", metavar="NAME,...", help="Contenders, or products such as nginx.")
@click.option("--balance", default=None, metavar="POLICY", help="tierlb's policy, instead of its default.")
@click.option("--seed", default=1, show_default=True)
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="A void run is repeated.")
def main(rounds: int, names: tuple[str, ...], only: str, balance: str | None, seed: int, tries: int) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    contenders = contest.taking_part([*QUALITY, Tierlb(balance)], only)
    scenarios = {name: SCENARIOS[name] for name in (SCENARIOS if "all" in names else names)}
    subtitle = f"{rounds} rounds of {SECONDS} s, seed {seed}, tierlb's policy: {balance or 'its default'}, {machine()}"
    entries: list[Entry] = []
    for name, scenario in scenarios.items():
        entries += trio.run(
            contest.hold, scenario.title, _courses(name, scenario, seed), scenario.judge, contenders, rounds, tries
        )
    compared = {f"p99 ms {window}": contest.WIN_RATIO for window in (*WINDOWS, *STEP_WINDOWS)} | {contest.ERRORS: 1.0}
    sys.exit(contest.publish("quality", subtitle, entries, compared))


def _courses(name: str, scenario: Scenario, seed: int) -> Callable[[int], Course]:
    return lambda number: scenario.course(random.Random(f"{name} {seed} {number}"))


if __name__ == "__main__":
    main()
