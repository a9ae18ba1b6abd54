"""Balancers on balancers: does the edge notice that one L7 node's endpoints became slow, and act on connections?

An L4 edge over three L7 nodes with three endpoints each (4 slots, 10 ms mean, exponential). 150 clients of unequal
activity (Zipf, exponent 0.5) keep one connection each, one request outstanding, and ask by a schedule
whatever became of the last request: 1500/s in all, 42 % of capacity. From second 10 to 30 the endpoints of
one L7 node are 10x slower. An edge that sees connections only neither learns of it nor can move anybody.
"""

import random
import sys
from collections.abc import Sequence

import click
import trio

from scripts.benchmarks import contest
from scripts.benchmarks.arrivals import Rate, by_clients, zipf
from scripts.benchmarks.contenders import STACKED, Tierlb
from scripts.benchmarks.contest import Series
from scripts.benchmarks.cost import BOTH, forward_option, way_of
from scripts.benchmarks.openloop import Lane
from scripts.benchmarks.play import Course, Played
from scripts.benchmarks.results import machine
from scripts.benchmarks.simulated import BIN_S
from scripts.benchmarks.station import Endpoint, Phase
from scripts.benchmarks.windows import Window, settled_after, shares, summed

SECONDS = 40
SLOW_FROM_S, SLOW_UNTIL_S = 10.0, 30.0
FACTOR = 10.0
MEAN_S = 0.010
NODES, EACH = 3, 3
CLIENTS = 150
EXPONENT = 0.5
PER_SECOND = 1500.0
DRAIN_S = 30.0
"""Clients that were held up for 20 s have that much to ask afterwards."""
WINDOWS = (Window(3, SLOW_FROM_S), Window(SLOW_FROM_S, 15), Window(15, SLOW_UNTIL_S), Window(32, SECONDS))
STRETCH_BINS = round(2.0 / BIN_S)
"""A share is counted over 2 s: about 140 requests when it is ideal, whose count varies by 8 % (one sigma)."""
TOLERANCE = 0.2
ENDPOINTS = tuple(
    Endpoint(MEAN_S, phases=(Phase(SLOW_FROM_S, FACTOR), Phase(SLOW_UNTIL_S)) if number < EACH else ())
    for number in range(NODES * EACH)
)
"""Those of the first node are the ones that become slow."""
GROUPS = tuple(tuple(range(EACH * node, EACH * (node + 1))) for node in range(NODES))


def course(rng: random.Random) -> Course:
    """One round's."""
    requests = by_clients(rng, zipf(rng, CLIENTS, EXPONENT), Rate(SECONDS, PER_SECOND))
    return Course(ENDPOINTS, GROUPS, tuple(requests), _lanes, edge=True, drain_s=DRAIN_S)


def _lanes(listens: Sequence[str]) -> tuple[Lane, ...]:
    return (Lane(listens[0], 1),) * CLIENTS


def ideal_share(at_s: float) -> float:
    """The first node's part of what all endpoints can do."""
    capacities = [each.capacity(at_s) for each in ENDPOINTS]
    return sum(capacities[:EACH]) / sum(capacities)


def judge(played: Played) -> tuple[dict[str, float], Series]:
    """The figures and curves of one run."""
    seen = played.seen
    values = {f"p99 ms {each}": seen.percentile_ms(each, 99) for each in WINDOWS}
    values |= share_figures(played.tally.arrivals)
    values[contest.ERRORS] = seen.errors_percent(Window(0, SECONDS))
    by_second = _first_share(played.tally.arrivals, round(1 / BIN_S))[:: round(1 / BIN_S)]
    return values, {
        "p99 ms": seen.by_second_ms(SECONDS, 99),
        "share of requests of the node that is slow from 10 to 30 s": by_second,
    }


def share_figures(arrivals: Sequence[Sequence[int]]) -> dict[str, float]:
    """When the first node's share settled within TOLERANCE of its part of the capacity, after each change.

    A share that never did gets the whole length of the phase. Clients that wait for each answer are best served by
    nobody slow as long as the others have room, so that it also counts when the share is no more than its part.
    """
    first = _first_share(arrivals, STRETCH_BINS)
    return {
        "share settled s": _settled_s(first, SLOW_FROM_S, SLOW_UNTIL_S),
        "share low s": _settled_s(first, SLOW_FROM_S, SLOW_UNTIL_S, least=0.0),
        "share back s": _settled_s(first, SLOW_UNTIL_S, SECONDS),
        "share 15–30 s / ideal": _mean_share(arrivals, 15, SLOW_UNTIL_S) / ideal_share(SLOW_FROM_S),
    }


def _settled_s(share: Sequence[float], from_s: float, until_s: float, least: float = 1 - TOLERANCE) -> float:
    """Seconds from the change until the share is between `least` and 1 + TOLERANCE times its ideal."""
    phase = share[round(from_s / BIN_S) : round(until_s / BIN_S) - STRETCH_BINS + 1]
    ideal = ideal_share(from_s)
    place = settled_after(phase, least * ideal, (1 + TOLERANCE) * ideal)
    return until_s - from_s if place is None else place * BIN_S


def _mean_share(arrivals: Sequence[Sequence[int]], from_s: float, until_s: float) -> float:
    begin, end = round(from_s / BIN_S), round(until_s / BIN_S)
    return shares(_bins(arrivals[:EACH])[begin:end], _bins(arrivals)[begin:end], end - begin)[0]


def _first_share(arrivals: Sequence[Sequence[int]], width: int) -> list[float]:
    return shares(_bins(arrivals[:EACH]), _bins(arrivals), width)


def _bins(arrivals: Sequence[Sequence[int]]) -> list[int]:
    return summed(arrivals, round(SECONDS / BIN_S))


@click.command(help="An L4 edge over three L7 nodes, one of which becomes slow, beside nginx, HAProxy and Envoy.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--only", default="", metavar="NAME,...", help="Contenders: nginx, haproxy, envoy, tierlb.")
@click.option("--balance", default=None, metavar="POLICY", help="tierlb's policy, instead of its default.")
@forward_option
@click.option("--seed", default=1, show_default=True)
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="A void run is repeated.")
def main(rounds: int, only: str, balance: str | None, forward: str, seed: int, tries: int) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    relayed = [Tierlb(balance, "tierlb-relay", forward="relay")] if forward == BOTH else []
    contenders = contest.taking_part([*STACKED, Tierlb(balance, forward=way_of(forward)), *relayed], only)
    subtitle = f"{rounds} rounds of {SECONDS} s, seed {seed}, tierlb's policy: {balance or 'its default'}, {machine()}"
    entries = trio.run(
        contest.hold,
        "endpoints of one L7 node 10x slower",
        lambda number: course(random.Random(f"stacked {seed} {number}")),
        judge,
        contenders,
        rounds,
        tries,
    )
    compared = {f"p99 ms {window}": contest.WIN_RATIO for window in WINDOWS} | {contest.ERRORS: 1.0}
    sys.exit(contest.publish("stacked", subtitle, entries, compared))


if __name__ == "__main__":
    main()
