"""Mixes of short items with others in virtual time: load-aware beside other rules, by tiers, late reports and loads."""

import functools
from collections.abc import Callable, Iterator, Sequence

import attrs
import click

from scripts.benchmarks.table import SUBJECT, Row, Sample, digits, rows
from tierlb.model.topology import Policy
from tierlb.simulate.mixes import MIXES, ON_CONNECTIONS, TIERS, MixFigures, figures, kept_mix, mixed
from tierlb.simulate.rules import ComparedRule
from tierlb.simulate.run import Scenario, run

RATIO, RATIO_AFTER = 1.03, 0.9
"""How much load-aware's p99 may be of the best other rule's: while all is well, and after a leaf became slow."""
LEAST_SHARE, MOST_SHARE = 0.8, 1.25
KEPT = "kept-"
"""Begins the names of mixes on connections."""
EVERY = (*MIXES, *(KEPT + name for name in ON_CONNECTIONS))

PEERS: dict[str, Policy | ComparedRule] = {
    SUBJECT: Policy.LOAD_AWARE,
    Policy.LEAST_REQUESTS.value: Policy.LEAST_REQUESTS,
    Policy.TWO_CHOICES.value: Policy.TWO_CHOICES,
    Policy.ROUND_ROBIN.value: Policy.ROUND_ROBIN,
    Policy.PEAK_EWMA.value: Policy.PEAK_EWMA,
    ComparedRule.LEAST_TIME.value: ComparedRule.LEAST_TIME,
}
STEADY, FIRST, AFTER = "p99 ms", "p99 ms, first second", "p99 ms, after"
LEAST, MOST, SLOW = "smallest share", "largest share", "share of the slow one"


@attrs.frozen
class Cell:
    """One mix under one set of circumstances. With kept connections `tiers` is how many first nodes place them.
    `one_route`: nodes cannot tell the kinds apart before they are answered."""

    mix: str
    tiers: int
    delay_s: float
    load: float
    one_route: bool = False

    def __str__(self) -> str:
        what = f"{self.tiers} above" if self.on_connections else f"{self.tiers} tier{'s' * (self.tiers > 1)}"
        return f"{self.mix}{', one route' * self.one_route}, {what}, {self.delay_s:g} s, {100 * self.load:.0f} %"

    @property
    def on_connections(self) -> bool:
        return self.mix.startswith(KEPT)

    def scenario(self, rule: Policy | ComparedRule, seed: int) -> Scenario:
        make: Callable[..., Scenario] = (
            kept_mix if self.on_connections else functools.partial(mixed, one_route=self.one_route)
        )
        return make(self.mix.removeprefix(KEPT), self.tiers, self.delay_s, rule=rule, load=self.load, seed=seed)

    def values(self, told: MixFigures) -> dict[str, float]:
        """By figure. Nothing becomes slow where connections are kept, and there nodes' shares count."""
        if self.on_connections:
            return {STEADY: told.p99_ms, LEAST: told.least_node, MOST: told.most_node}
        return {
            STEADY: told.p99_ms,
            FIRST: told.first_ms,
            AFTER: told.after_ms,
            LEAST: told.least,
            MOST: told.most,
            SLOW: told.slow,
        }


def cells(
    names: str, tiers: Sequence[int], delays_s: Sequence[float], loads: Sequence[float], *, one_route: bool = False
) -> list[Cell]:
    """All combinations. `names`: with commas, or `all`. Raises click.BadParameter for what there is not."""
    chosen = list(EVERY) if names == "all" else names.split(",")
    if unknown := [each for each in chosen if each not in EVERY]:
        raise click.BadParameter(f"no mix is named {', '.join(unknown)}; there are {', '.join(EVERY)}")
    if wrong := [each for each in tiers if each not in TIERS]:
        raise click.BadParameter(f"{wrong[0]} tiers; there are {', '.join(map(str, TIERS))}")
    return [
        Cell(name, *each, one_route and not name.startswith(KEPT))
        for name in chosen
        for each in _circumstances(tiers, delays_s, loads)
    ]


def _circumstances(
    tiers: Sequence[int], delays_s: Sequence[float], loads: Sequence[float]
) -> Iterator[tuple[int, float, float]]:
    for count in tiers:
        for delay_s in delays_s:
            for load in loads:
                yield count, delay_s, load


def samples(cell: Cell, seeds: int) -> Iterator[Sample]:
    """One per rule and seed."""
    for seed in range(1, seeds + 1):
        for peer, rule in PEERS.items():
            yield Sample(str(cell), peer, cell.values(figures(run(cell.scenario(rule, seed)))))


def worse(measured: Sequence[Sample]) -> list[str]:
    """The figures of load-aware that miss what is asked, one a line."""
    return [line for row in rows(measured) if (line := _miss(row))]


def _miss(row: Row) -> str:
    ours = row.cells[SUBJECT]
    others = {peer: cell.median for peer, cell in row.cells.items() if peer != SUBJECT and cell is not None}
    if ours is None or not others:
        return ""
    if row.metric in (LEAST, MOST):
        fine = ours.median >= LEAST_SHARE if row.metric == LEAST else ours.median <= MOST_SHARE
        return "" if fine else f"missed  {row.measure}, {row.metric}: {digits(ours.median)}"
    if row.metric not in (STEADY, AFTER):
        return ""
    best = min(others, key=others.__getitem__)
    most = (RATIO if row.metric == STEADY else RATIO_AFTER) * others[best]
    text = f"{row.measure}, {row.metric}: {digits(ours.median)}, {best} {digits(others[best])}"
    return "" if ours.median <= most else f"missed  {text}"
