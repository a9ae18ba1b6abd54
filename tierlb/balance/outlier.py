"""When an endpoint whose answers fail is ejected: outlier detection as in Envoy, by comparison with its siblings.

There are two signs, both of real traffic. *Errors in a row*: so many 5xx answers, or so many gateway errors
(connections reset, answers late, cut or not HTTP), without a good answer between. *Success rate*: over an interval,
lower than the mean of the pool by so many standard deviations.

Envoy blames the endpoint for either sign. But clients choose what they request: one that requests what fails everywhere
causes errors in a row at every endpoint, and would get half of a pool ejected. So a run has to be longer than chance
explains, given the error share of the siblings during the run and lately; and a success rate has to be below the mean
by more than chance explains. Where the errors move to an endpoint that had none as soon as one was ejected, they follow
a client, and the ejection is revoked. A pool in which everything fails alike ejects no endpoint.

The siblings' past errors must not protect an endpoint that goes on failing after they have recovered. So a run while
the siblings have good answers only is a sign regardless of what was before (`is_sign_alone`). Without that, one
endpoint of three got 1,900 more errors after an outage of all that had lasted 1,000 errors at each, and 36 after a
client that had requested what fails.

The same comparison scales the error penalty of `load-aware` (`excess`, `lasting_excess`). Without it a client that
requests what fails everywhere at 300 requests a second drove all penalties to their cap, where the learnt capacity
decides alone, and 238 of 240 good requests of other clients went to one of three equal endpoints.

Whether an endpoint may still be ejected without leaving too few is decided here (`may_eject`). Left out: which hosts
are used then (availability.py), and connects that fail (ejection.py).
"""

import enum
import math
from collections.abc import Sequence

import attrs

from tierlb.model.topology import Policy

CHANCE = 1e-9
"""The probability that a healthy endpoint has a run this long: at 1,000 items a second once in eleven days."""
LONGER_THAN_ENDED = 3
CLIENTS_STAY = frozenset({Policy.LOAD_AWARE, Policy.LEAST_REQUESTS})
"""Policies that keep a client at one endpoint for a while, so that the errors of one client come in runs."""
STDEV_FACTOR = 1.9
"""Envoy's success_rate_stdev_factor. Among n endpoints the largest distance is sqrt(n - 1) standard deviations, so that
no fewer than five can have an outlier."""
LEAST_HOSTS = 5
LEAST_VOLUME = 100
"""Items that an interval needs before its success rate counts (Envoy's success_rate_request_volume)."""
LEAST_GAP = 0.05
"""The least distance from the mean. Where nearly all items succeed the standard deviation is close to zero, and one
error in a thousand would be far off."""
CHANCE_DEVIATIONS = 4.0
"""Standard deviations of a binomial share that chance does not explain: the probability is one in 30,000."""
FADE_S = 2.0
"""The same time constant as that of the error penalty (error_penalty.py)."""
LONGEST_OUTLIER_EJECTION_S = 300.0
"""Envoy's max_ejection_time."""


class HostFault(enum.Enum):
    """How an item failed at an endpoint. OVERLOADED (429) counts as load for the choice but is no fault of the
    endpoint, because it may be a limit on that one client. REPEATED: it had failed at another endpoint before, so the
    item is to blame."""

    ANSWER = "answer"
    GATEWAY = "gateway"
    OVERLOADED = "overloaded"
    REPEATED = "repeated"


@attrs.frozen
class AnswerCounts:
    """Items that ended, and how many of them failed."""

    done: int = 0
    faults: int = 0

    def __sub__(self, other: "AnswerCounts") -> "AnswerCounts":
        return AnswerCounts(self.done - other.done, self.faults - other.faults)

    @property
    def error_share(self) -> float:
        """0 where nothing ended."""
        return min(1.0, self.faults / self.done) if self.done > 0 else 0.0


@attrs.define(slots=True)
class RecentAnswers:
    """Counts that fade with time constant `FADE_S`."""

    done: float = 0.0
    faults: float = 0.0

    def add(self, grown: AnswerCounts, kept: float) -> None:
        """Add what ended since the last call; the part `kept` (0..1) of the counts before remains."""
        self.done = self.done * kept + grown.done
        self.faults = self.faults * kept + grown.faults

    @property
    def error_share(self) -> float:
        return min(1.0, self.faults / self.done) if self.done > 0 else 0.0


def run_needed(configured: int, error_share: float, ended: int = 0) -> int | None:
    """The errors in a row that chance does not explain where siblings fail with this share (0..1), at least
    `configured`; None: no run is long enough. `ended`: the longest run of a sibling that a good answer ended. The
    errors of one client come in runs under the policies of `CLIENTS_STAY`, and under the others where clients stall."""
    if error_share <= 0:
        return configured
    if error_share >= 1:
        return None
    return max(configured, LONGER_THAN_ENDED * ended, math.ceil(math.log(CHANCE) / math.log(error_share)))


def is_sign(length: int, configured: int, error_share: float, ended: int = 0) -> bool:
    """Whether a run has the length that `run_needed` returns."""
    needed = run_needed(configured, error_share, ended)
    return needed is not None and length >= needed


def is_sign_alone(length: int, configured: int, good: int, ended: int = 0) -> bool:
    """Whether chance does not explain so many errors in a row while the siblings had `good` good answers and no error.

    The measure is the number of ways in which those errors could be spread over all these items (Fisher's exact test).
    So neither earlier errors of the siblings nor the distribution of items matters: an earlier failure of all does not
    protect an endpoint that goes on failing. With 3 endpoints in turn 12 errors are enough, with 10 endpoints 7.
    `ended`: as in `run_needed`, under the policies of `CLIENTS_STAY`. Without it load-aware ejected a third more
    endpoints in simulation, where clients that requested what fails stalled now and then.
    """
    if length < max(configured, LONGER_THAN_ENDED * ended):
        return False
    ways = math.lgamma(length + good + 1) - math.lgamma(length + 1) - math.lgamma(good + 1)
    return ways >= -math.log(CHANCE)


def excess(own: "RecentAnswers", others: "RecentAnswers") -> float:
    """The part (0..1) of an endpoint's errors that its siblings do not have, beyond what chance explains."""
    return _beyond_chance(own, others.error_share)


def lasting_excess(own: "RecentAnswers", others: "RecentAnswers") -> float:
    """The same for a penalty that lasts. Without a queue the smallest penalty keeps an endpoint from being used, and
    siblings without recent errors are not known to be free of them (hence Laplace's rule of succession). With one error
    in two hundred everywhere, an endpoint of four got less than half of its share of 200 items in 7 of 24 runs. An
    endpoint with errors only keeps its penalty."""
    share = others.error_share if own.faults >= own.done else (others.faults + 1) / (others.done + 2)
    return _beyond_chance(own, share)


def _beyond_chance(own: "RecentAnswers", share: float) -> float:
    expected = share + CHANCE_DEVIATIONS * math.sqrt(share * (1 - share) / max(1.0, own.done))
    found = own.error_share
    return 1 - expected / found if found > expected else 0.0


def low_success_rates(hosts: Sequence[AnswerCounts]) -> list[int]:
    """The positions of the endpoints whose success rate in the interval is an outlier."""
    judged = [(index, counts) for index, counts in enumerate(hosts) if counts.done >= LEAST_VOLUME]
    if len(judged) < LEAST_HOSTS:
        return []
    rates = [1 - counts.error_share for _, counts in judged]
    mean = sum(rates) / len(rates)
    spread = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    return [
        index
        for (index, counts), rate in zip(judged, rates, strict=True)
        if mean - rate > max(STDEV_FACTOR * spread, LEAST_GAP, _by_chance(mean, counts.done))
    ]


def _by_chance(mean: float, done: int) -> float:
    return CHANCE_DEVIATIONS * math.sqrt(mean * (1 - mean) / done)


def may_eject(hosts: int, out: int, most: float) -> bool:
    """Whether one more of `hosts` may be ejected, where `out` are out already for whatever reason and the share `most`
    (0..1) may be. One of two or more always may; the only one, and the last that is left, never."""
    return out + 1 < hosts and out + 1 <= max(1, int(most * hosts))


def outlier_ejection_s(base_s: float, times: int) -> float:
    """How long the ejection after `times` earlier ones lasts."""
    return min(max(base_s, LONGEST_OUTLIER_EJECTION_S), base_s * 2.0 ** min(times, 20))


@attrs.define(slots=True)
class Runs:
    """An endpoint's errors in a row. `faults` counts all of them since the start. `since`: the counts of the pool's
    other endpoints when the run began. `quiet_s`: how long there had been no error then. `ended`: the longest run that
    a good answer ended lately."""

    faults: int = 0
    length: int = 0
    gateway: int = 0
    since: AnswerCounts = AnswerCounts()
    began: float = 0.0
    quiet_s: float = math.inf
    ended: int = 0
    _at: float = -math.inf
    _ended_before: int = 0
    _good: int = 0
    _look_at: int = 0
    _over: AnswerCounts = AnswerCounts()
    _length_then: int = 0

    def add(self, good: int, fault: HostFault, now: float) -> bool:
        """Another error; `good` counts the items that ended well. True if it began a run."""
        self.faults += 1
        begins = good > self._good or not self.length
        if begins:
            self.ended = max(self.ended, self.length)
            self.began, self.quiet_s = now, now - self._at
            self.length = self.gateway = self._look_at = 0
        self._at = now
        self._good = good
        self.length += 1
        self.gateway = self.gateway + 1 if fault is HostFault.GATEWAY else 0
        return begins

    def begins_beside(self, others: AnswerCounts) -> None:
        """What the other endpoints have counted as the run begins."""
        self.since = self._over = others
        self._length_then = 0

    def alone(self, others: AnswerCounts) -> tuple[int, int]:
        """The errors of this run, and the good answers of the other endpoints, since the latest error of those was
        found; where they had none, since the run began."""
        if others.faults != self._over.faults or others.done < self._over.done:
            self._over, self._length_then = others, self.length
        return self.length - self._length_then, others.done - self._over.done

    def is_long(self, errors: int, gateway_errors: int) -> bool:
        """Whether the run is long enough to be compared with the siblings."""
        return self.length >= self._look_at and (self.length >= errors or self.gateway >= gateway_errors)

    @property
    def longest_ended(self) -> int:
        """In this interval and the one before."""
        return max(self.ended, self._ended_before)

    def turn(self) -> None:
        """An interval is over."""
        self.ended, self._ended_before = 0, self.ended

    def look_again_at(self, length: int) -> None:
        """Do not compare the run again before it has this length."""
        self._look_at = length

    def on_probation(self, good: int, errors: int) -> None:
        """It is restored on probation: one more error in a row ejects it again."""
        self._good, self.length, self.gateway, self._look_at = good, errors - 1, 0, 0
        self._length_then = self.length
