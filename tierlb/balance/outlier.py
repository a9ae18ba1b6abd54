"""When an endpoint whose answers fail is left out: outlier detection as Envoy has it, by comparison with its siblings.

Two signs, both of real traffic. *Errors in a row*: so many 5xx answers, or so many connections reset, answers late,
cut or not HTTP (gateway errors), with no good answer between. *Success rate*: over an interval, less than the mean of
the pool by so many standard deviations.

Envoy takes either sign for the endpoint's fault. But clients choose what they ask: one that asks for what fails
everywhere makes errors in a row at every endpoint, and would have half of a pool left out. So a run has to be longer
than chance explains, by the error share that the siblings had during the run and lately; and a success rate has to be
below the mean by more than chance explains. Where the errors move on to an endpoint that had none as soon as one was
ejected, they follow a client, and the ejection is taken back. A pool in which everything fails alike ejects nobody.

What siblings had lately must not protect an endpoint that goes on failing for longer than it takes to see that they
are well again. So a run beside good answers only is a sign whatever was before (`is_sign_alone`). Without that, one
endpoint of three got 1,900 more errors after an outage of all that had lasted 1,000 errors at each, and 36 after a
client that had asked for what fails.

The same comparison weighs the error penalty of `load-aware` (`excess`, `lasting_excess`). Without it a client that asks
for what fails everywhere at 300 requests a second drove all penalties to their cap, where the learnt capacity decides
alone, and 238 of 240 good requests of others went to one of three equal endpoints.

Left out: which endpoint may still be ejected without leaving too few (`may_eject`) is decided here, who is chosen then
in availability.py. Connects that fail have a rule of their own (ejection.py).
"""

import enum
import math
from collections.abc import Sequence

import attrs

from tierlb.model.topology import Policy

CHANCE = 1e-9
"""How unlikely a run of errors must be for a healthy endpoint: at 1,000 items a second once in eleven days."""
LONGER_THAN_ENDED = 3
CLIENTS_STAY = frozenset({Policy.LOAD_AWARE, Policy.LEAST_REQUESTS})
"""Policies that keep a client at one endpoint for a while, so that what one client asks for comes in runs."""
STDEV_FACTOR = 1.9
"""Envoy's success_rate_stdev_factor. Among n endpoints the largest distance is sqrt(n - 1) standard deviations, so that
no fewer than five can have an outlier."""
LEAST_HOSTS = 5
LEAST_VOLUME = 100
"""Items of an interval without which a success rate says little (Envoy's success_rate_request_volume)."""
LEAST_GAP = 0.05
"""Where nearly all succeeds the standard deviation is next to nothing, and one error in a thousand would be far off."""
CHANCE_DEVIATIONS = 4.0
"""Standard deviations of a binomial share that chance does not explain: one in 30,000."""
FADE_S = 2.0
"""As the error penalty itself (error_penalty.py)."""
LONGEST_EJECTION_S = 300.0
"""Envoy's max_ejection_time."""


class Fault(enum.Enum):
    """How an item failed at an endpoint. OVERLOADED (429) is load for the choice but no fault of the endpoint: it may
    be a limit on that one client. REPEATED: it had failed at another endpoint before, so the item is to blame."""

    ANSWER = "answer"
    GATEWAY = "gateway"
    OVERLOADED = "overloaded"
    REPEATED = "repeated"


@attrs.frozen
class Counts:
    """Items that ended, and those of them that failed."""

    done: int = 0
    faults: int = 0

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.done - other.done, self.faults - other.faults)

    @property
    def error_share(self) -> float:
        """0 where nothing ended."""
        return min(1.0, self.faults / self.done) if self.done > 0 else 0.0


@attrs.define(slots=True)
class Recent:
    """Counts that fade with time constant `FADE_S`."""

    done: float = 0.0
    faults: float = 0.0

    def add(self, grown: Counts, kept: float) -> None:
        """What has ended since, and how much (0..1) is left of what was before."""
        self.done = self.done * kept + grown.done
        self.faults = self.faults * kept + grown.faults

    @property
    def error_share(self) -> float:
        return min(1.0, self.faults / self.done) if self.done > 0 else 0.0


def run_needed(configured: int, error_share: float, ended: int = 0) -> int | None:
    """The errors in a row that chance does not explain where siblings fail with this share (0..1), no fewer than
    `configured`; None: no run is long enough. `ended`: the longest run of a sibling that a good answer ended. What one
    client asks for comes in runs under the policies of `CLIENTS_STAY`, and under the others where clients stall."""
    if error_share <= 0:
        return configured
    if error_share >= 1:
        return None
    return max(configured, LONGER_THAN_ENDED * ended, math.ceil(math.log(CHANCE) / math.log(error_share)))


def is_sign(length: int, configured: int, error_share: float, ended: int = 0) -> bool:
    """Whether a run is as long as `run_needed` says."""
    needed = run_needed(configured, error_share, ended)
    return needed is not None and length >= needed


def is_sign_alone(length: int, configured: int, good: int, ended: int = 0) -> bool:
    """Whether so many errors in a row, while the siblings had `good` good answers and no error, are no chance.

    Counted is in how many ways those errors could be spread over all these items (Fisher's exact test). So neither the
    errors that the siblings had before nor how items are shared out has a part in it: what failed everywhere a moment
    ago does not protect an endpoint that goes on failing. With 3 endpoints in turn 12 errors are enough, with 10
    endpoints 7. `ended`: as in `run_needed`, under the policies of `CLIENTS_STAY`. Without it load-aware ejected a
    third more endpoints in simulation, where clients that asked for what fails stalled now and then."""
    if length < max(configured, LONGER_THAN_ENDED * ended):
        return False
    ways = math.lgamma(length + good + 1) - math.lgamma(length + 1) - math.lgamma(good + 1)
    return ways >= -math.log(CHANCE)


def excess(own: "Recent", others: "Recent") -> float:
    """What part (0..1) of an endpoint's errors its siblings do not have too, beyond what chance explains."""
    return _beyond_chance(own, others.error_share)


def lasting_excess(own: "Recent", others: "Recent") -> float:
    """The same for a penalty that is to last. Without a queue the least penalty keeps an endpoint from being used, and
    that siblings had no error lately does not mean that they have none (so Laplace's rule of succession). With one
    error in two hundred everywhere, an endpoint of four got less than half of its share of 200 items in 7 of 24 runs.
    One that answered nothing well is not asked again to find out."""
    share = others.error_share if own.faults >= own.done else (others.faults + 1) / (others.done + 2)
    return _beyond_chance(own, share)


def _beyond_chance(own: "Recent", share: float) -> float:
    expected = share + CHANCE_DEVIATIONS * math.sqrt(share * (1 - share) / max(1.0, own.done))
    found = own.error_share
    return 1 - expected / found if found > expected else 0.0


def low_success_rates(hosts: Sequence[Counts]) -> list[int]:
    """The positions of those whose success rate in the interval is an outlier."""
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
    """Whether one more of `hosts` may be left out, of which `out` are out already for whatever reason and the share
    `most` (0..1) may be. One of two or more always may; the only one, and the last that is left, never."""
    return out + 1 < hosts and out + 1 <= max(1, int(most * hosts))


def ejection_s(base_s: float, times: int) -> float:
    """How long the ejection after `times` earlier ones lasts."""
    return min(max(base_s, LONGEST_EJECTION_S), base_s * 2.0 ** min(times, 20))


@attrs.define(slots=True)
class Runs:
    """An endpoint's errors in a row. `faults` counts all of them ever, `since` is what the pool's other endpoints had
    counted when the run began, `quiet_s` how long there had been no error then. `ended`: the longest run that a good
    answer ended lately."""

    faults: int = 0
    length: int = 0
    gateway: int = 0
    since: Counts = Counts()
    began: float = 0.0
    quiet_s: float = math.inf
    ended: int = 0
    _at: float = -math.inf
    _ended_before: int = 0
    _good: int = 0
    _look_at: int = 0
    _over: Counts = Counts()
    _length_then: int = 0

    def add(self, good: int, fault: Fault, now: float) -> bool:
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
        self.gateway = self.gateway + 1 if fault is Fault.GATEWAY else 0
        return begins

    def begins_beside(self, others: Counts) -> None:
        """What the other endpoints have counted as the run begins."""
        self.since = self._over = others
        self._length_then = 0

    def alone(self, others: Counts) -> tuple[int, int]:
        """The errors of this run, and the good answers of the others, since the look that found the latest error of the
        others; where they had none, since the run began."""
        if others.faults != self._over.faults or others.done < self._over.done:
            self._over, self._length_then = others, self.length
        return self.length - self._length_then, others.done - self._over.done

    def is_long(self, errors: int, gateway_errors: int) -> bool:
        """Whether the run is long enough to compare it with the siblings."""
        return self.length >= self._look_at and (self.length >= errors or self.gateway >= gateway_errors)

    @property
    def longest_ended(self) -> int:
        """In this interval and the one before."""
        return max(self.ended, self._ended_before)

    def turn(self) -> None:
        """An interval is over."""
        self.ended, self._ended_before = 0, self.ended

    def look_again_at(self, length: int) -> None:
        """Compare it no sooner than at this length."""
        self._look_at = length

    def on_probation(self, good: int, errors: int) -> None:
        """It is back: one more error in a row, and it goes again."""
        self._good, self.length, self.gateway, self._look_at = good, errors - 1, 0, 0
        self._length_then = self.length
