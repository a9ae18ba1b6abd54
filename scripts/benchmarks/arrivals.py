"""Who asks when, and for how much work: drawn before a run from a seed, so that every contender gets the same.

A request's demand is exponential with mean 1; the endpoint that gets it multiplies by its own mean.
"""

import heapq
import random
from collections.abc import Iterator, Sequence

import attrs


@attrs.frozen
class Request:
    """`lane`: which client or group of connections sends it. `at_s` counts from the beginning of the run."""

    at_s: float
    lane: int
    demand: float


@attrs.frozen
class Rate:
    """So many requests per second until `until_s`."""

    until_s: float
    per_second: float


def poisson(rng: random.Random, rates: Sequence[Rate], lanes: int = 1) -> list[Request]:
    """Arrivals at rates that follow each other, dealt to the lanes in turn."""
    return [Request(at_s, number % lanes, rng.expovariate(1.0)) for number, at_s in enumerate(_times(rng, rates))]


def by_clients(rng: random.Random, shares: Sequence[float], rate: Rate) -> list[Request]:
    """A Poisson stream of its own for each client (lane), which gets that share of the rate."""
    streams = [
        [(at_s, lane) for at_s in _times(rng, [Rate(rate.until_s, rate.per_second * share)])]
        for lane, share in enumerate(shares)
    ]
    return [Request(at_s, lane, rng.expovariate(1.0)) for at_s, lane in heapq.merge(*streams)]


def zipf(rng: random.Random, count: int, exponent: float) -> list[float]:
    """Shares that sum to 1, the k-th largest in proportion to k^-exponent, in random order."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    rng.shuffle(weights)
    return [each / sum(weights) for each in weights]


def _times(rng: random.Random, rates: Sequence[Rate]) -> Iterator[float]:
    """Each phase is drawn afresh from its beginning, which a Poisson stream does not notice (it has no memory)."""
    begun_s = 0.0
    for rate in rates:
        at_s = begun_s + rng.expovariate(rate.per_second)
        while at_s < rate.until_s:
            yield at_s
            at_s += rng.expovariate(rate.per_second)
        begun_s = rate.until_s
