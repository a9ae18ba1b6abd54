"""Outlier detection at a node: what the formulas of `balance.outlier` are applied to, and what follows.

An endpoint's good items are not counted one by one: they are what is done less what failed, so that only errors cost
anything. Detection is for endpoints. A node below answers with 5xx on behalf of its endpoints, whose state it reports,
and ejection would hit the node instead of the endpoint; a node that is gone or silent is found by connects and by
reports.

An ejected endpoint returns when its time is over, on probation: one more error in a row, and it goes for twice as long.
"""

import math
from collections.abc import Iterable, Mapping

from tierlb.balance.availability import Availability
from tierlb.balance.outlier import (
    CLIENTS_STAY,
    FADE_S,
    AnswerCounts,
    HostFault,
    RecentAnswers,
    Runs,
    excess,
    is_sign,
    is_sign_alone,
    lasting_excess,
    low_success_rates,
    may_eject,
    outlier_ejection_s,
)
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.judged_host import JudgedHost, Standing
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Kind, OutlierDetection, Policy
from tierlb.net.wheel import NEVER

SURVEY_S = 0.02
"""Counting over the whole pool is not done more often than this at the beginning of runs, and no more often to judge
them, however many errors there are. Each look is one more chance to be wrong: with one every 2 ms, clients under
`load-aware` that asked for what fails had twice as many endpoints ejected in simulation."""

MOVED_WITHIN_S = 1.0
"""Errors that begin so soon after an ejection, at an endpoint that had none for as long, have moved there."""
MUTED_S = 30.0
"""How long runs are not believed after that. Success rates are."""


class Outliers:
    """The hosts of one pool or tier that this node sends to. Without `detection` they are compared for the error
    penalty only."""

    __slots__ = (
        "_before",
        "_clients_stay",
        "_ejected",
        "_hosts",
        "_judged_at",
        "_last",
        "_muted_until",
        "_next_at",
        "_recent",
        "_surveyed",
        "_surveyed_at",
        "detection",
    )

    def __init__(self, detection: OutlierDetection | None, now: float) -> None:
        self.detection = detection
        self._clients_stay = False
        self._hosts: tuple[JudgedHost, ...] = ()
        self._ejected: list[JudgedHost] = []
        self._before = self._last = self._surveyed = AnswerCounts()
        self._recent = RecentAnswers()
        self._surveyed_at = self._judged_at = self._muted_until = 0.0
        self._next_at = now + (detection.interval_s if detection is not None else 0.0)

    def replace(self, hosts: Iterable[JudgedHost], balance: Policy) -> None:
        """These are the hosts now, chosen by this policy; what is known of those that stay is kept."""
        self._clients_stay = balance in CLIENTS_STAY
        self._hosts = tuple(hosts)
        self._ejected = [host for host in self._hosts if host.standing.ejected]
        self._before = _sum(host.standing.before for host in self._hosts)
        self._last = _sum(host.standing.last for host in self._hosts)
        self._surveyed_at = 0.0

    def erred(self, host: JudgedHost, fault: HostFault, now: float) -> float:
        """An item that is counted as done failed at this host. Returns what part (0..1) of it counts against the
        host as load, for its siblings may fail as well."""
        if fault is HostFault.OVERLOADED:
            return 1.0
        if fault is HostFault.REPEATED:
            return 0.0
        standing = host.standing
        if standing.runs.add(_good(host), fault, now):
            self._survey(now, SURVEY_S)
            standing.runs.begins_beside(self._surveyed - standing.surveyed)
        if self.detection is not None and not standing.ejected:
            self._judge(host, self.detection, now)
        self._survey(now, SURVEY_S)
        return excess(*self._recently(host))

    def tick(self, now: float) -> float:
        """Several times a second: errors that siblings have had as well since are forgiven, and hosts return. With each
        interval, success rates are compared. Returns when to call it again at the latest if nothing happens."""
        forgives = self._forgive(now)
        detection = self.detection
        if detection is None:
            return now if forgives else NEVER
        for host in [host for host in self._ejected if now >= host.standing.until]:
            self._return(host, detection, now)
        if now >= self._next_at:
            self._next_at = now + detection.interval_s
            self._turn(detection, now)
        return now if forgives else min((host.standing.until for host in self._ejected), default=NEVER)

    def _forgive(self, now: float) -> bool:
        """An error penalty is no more than what its errors count for now: at the first of them no sibling had any.
        Whether there are penalties."""
        found = False
        for host in self._hosts:
            if host.estimate.penalties.errors.value(now):
                found = True
                self._survey(now, SURVEY_S)
                own, others = self._recently(host)
                host.estimate.penalties.errors.limit(
                    now, lasting_excess(own, others) * own.faults * host.estimate.slots.value
                )
        return found

    def _recently(self, host: JudgedHost) -> tuple[RecentAnswers, RecentAnswers]:
        """What it had lately, and its siblings."""
        recent, grown = host.standing.recent, _counts(host) - host.standing.surveyed
        own = RecentAnswers(recent.done + grown.done, recent.faults + grown.faults)
        return own, RecentAnswers(self._recent.done - recent.done, self._recent.faults - recent.faults)

    def _judge(self, host: JudgedHost, detection: OutlierDetection, now: float) -> None:
        """Eject it if it has erred so often in a row that its siblings and chance do not explain it."""
        standing, errors = host.standing, detection.consecutive_errors
        runs, gateway_errors = standing.runs, detection.consecutive_gateway_errors or errors
        if now < self._muted_until or not runs.is_long(errors, gateway_errors):
            return
        if now - self._judged_at < SURVEY_S:
            runs.look_again_at(runs.length + 1)
            return
        self._judged_at = now
        self._survey(now, 0.0)
        others = self._surveyed - standing.surveyed
        alone, good = runs.alone(others)
        share = self._error_share_of_others(standing)
        ended = max((other.standing.runs.longest_ended for other in self._hosts if other is not host), default=0)
        for length, configured, what in (
            (runs.length, errors, "errors"),
            (runs.gateway, gateway_errors, "gateway errors"),
        ):
            if is_sign(length, configured, share, ended) or is_sign_alone(
                min(length, alone), configured, good, ended if self._clients_stay else 0
            ):
                if not self._take_back(runs, now):
                    self._eject(host, detection, now, f"{length} {what} in a row")
                return
        runs.look_again_at(runs.length + 1)

    def _take_back(self, runs: Runs, now: float) -> bool:
        """Whether the errors only moved here from an endpoint that was ejected for them; that one returns then, and
        runs are not judged for a while."""
        moved = [
            host
            for host in self._ejected
            if host.standing.ejected_at <= runs.began
            and runs.began - host.standing.ejected_at < MOVED_WITHIN_S
            and runs.quiet_s > MOVED_WITHIN_S
        ]
        for host in moved:
            self._ejected.remove(host)
            host.standing.until = 0.0
            host.standing.times -= 1
            host.assess(HostEvent.RESTORED)
        if moved:
            self._muted_until = now + MUTED_S
        return bool(moved)

    def _error_share_of_others(self, standing: Standing) -> float:
        """The larger of that during the run, which shows a burst that hits all, and that of lately, which shows a
        constant rate of failures."""
        others = self._surveyed - standing.surveyed
        lately = others - (self._before - standing.before)
        return max((others - standing.runs.since).error_share, lately.error_share)

    def _survey(self, now: float, at_most_every_s: float) -> None:
        """Count over the whole pool, unless that was done just now."""
        passed_s = now - self._surveyed_at
        if passed_s < at_most_every_s:
            return
        self._surveyed_at = now
        kept, recent = math.exp(-max(0.0, passed_s) / FADE_S), RecentAnswers()
        for host in self._hosts:
            standing, counts = host.standing, _counts(host)
            standing.recent.add(counts - standing.surveyed, kept)
            standing.surveyed = counts
            recent.done += standing.recent.done
            recent.faults += standing.recent.faults
        self._recent = recent
        self._surveyed = _sum(host.standing.surveyed for host in self._hosts)

    def _turn(self, detection: OutlierDetection, now: float) -> None:
        """An interval is over."""
        grown = [_counts(host) - host.standing.last for host in self._hosts]
        for index in low_success_rates(grown) if detection.success_rate else []:
            if not self._hosts[index].standing.ejected:
                share = 1 - grown[index].error_share
                reason = f"success rate {100 * share:.1f} % of {grown[index].done} items"
                self._eject(self._hosts[index], detection, now, reason)
        for host in self._hosts:
            standing = host.standing
            standing.before, standing.last = standing.last, _counts(host)
            standing.runs.turn()
            if standing.times and not standing.ejected and now >= standing.calm_at:
                standing.times -= 1
                standing.calm_at = now + detection.base_ejection_s
        self._before, self._last = self._last, _sum(host.standing.last for host in self._hosts)

    def _eject(self, host: JudgedHost, detection: OutlierDetection, now: float, reason: str) -> None:
        wanted = [other.availability for other in self._hosts if other.availability.usable_at_last]
        out = sum(availability is not Availability.AVAILABLE for availability in wanted)
        standing, here = host.standing, host.availability is Availability.AVAILABLE
        if not here or not may_eject(len(wanted), out, detection.max_ejected):
            standing.runs.look_again_at(standing.runs.length + detection.consecutive_errors)
            return
        standing.ejected_at = now
        standing.until = now + outlier_ejection_s(detection.base_ejection_s, standing.times)
        standing.times += 1
        standing.reason = reason
        self._ejected.append(host)
        host.assess(HostEvent.EJECTED)

    def _return(self, host: JudgedHost, detection: OutlierDetection, now: float) -> None:
        standing = host.standing
        self._ejected.remove(host)
        standing.until = 0.0
        standing.calm_at = now + outlier_ejection_s(detection.base_ejection_s, standing.times)
        self._survey(now, SURVEY_S)
        standing.runs.begins_beside(self._surveyed - standing.surveyed)
        standing.runs.on_probation(_good(host), detection.consecutive_errors)
        host.restore(now)


def outliers_of(
    before: Mapping[str, Outliers], hosts: Iterable[JudgedHost], snapshot: Snapshot, now: float
) -> dict[str, Outliers]:
    """By pool or tier, for a snapshot; what is known of one that stays as it is goes on. An l4 node sees no answers.
    Nodes are not ejected for theirs."""
    detections = {pool.name: pool.outlier for pool in snapshot.pools}
    by_pool: dict[str, list[JudgedHost]] = {}
    for host in hosts:
        if snapshot.kind is Kind.L7:
            by_pool.setdefault(host.spec.target, []).append(host)
    after = {}
    for pool, siblings in by_pool.items():
        known, detection = before.get(pool), detections.get(pool, OutlierDetection())
        if siblings[0].spec.child:
            detection = None
        if detection is None:
            release(siblings)
        after[pool] = known if known is not None and known.detection == detection else Outliers(detection, now)
        after[pool].replace(siblings, snapshot.balance)
    return after


def release(hosts: Iterable[JudgedHost]) -> None:
    """Detection is off from now on: ejected hosts return."""
    for host in hosts:
        if host.standing.ejected:
            host.standing.until = 0.0
            host.assess(HostEvent.RESTORED)


def _good(host: JudgedHost) -> int:
    return host.done - host.errors


def _counts(host: JudgedHost) -> AnswerCounts:
    return AnswerCounts(host.done, host.standing.runs.faults)


def _sum(counts: Iterable[AnswerCounts]) -> AnswerCounts:
    done = faults = 0
    for each in counts:
        done += each.done
        faults += each.faults
    return AnswerCounts(done, faults)
