"""Who is ejected for answers that fail, who is not, and how they return: in time that only the test passes."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.dataplane.registries import Harness, available, by_name, child, destination, host_spec
from tierlb.balance.outlier import CLIENTS_STAY, LEAST_VOLUME, LONGEST_OUTLIER_EJECTION_S, HostFault
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.upstream.host import Host, log_change
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.outliers import MUTED_S, SURVEY_S
from tierlb.model.snapshot import PoolSettings
from tierlb.model.topology import Admin, Kind, OutlierDetection, Policy
from tierlb.net.wheel import WHEEL_TICK_S

QUICK = OutlierDetection(base_ejection_s=4.0)
NAMES = ("a", "b", "c", "d", "e", "f")


class Pool:
    """One pool `app` of so many endpoints."""

    def __init__(self, count: int = 4, outlier: OutlierDetection | None = QUICK, **options: Any) -> None:
        self.harness = Harness()
        self.options = options
        self.host_set = self.rebuild_host_sets(NAMES[:count], outlier)

    def rebuild_host_sets(self, names: Sequence[str], outlier: OutlierDetection | None) -> HostSet:
        pools = (PoolSettings("app", outlier=outlier),)
        self.host_set = self.harness.host_set(*names, pools=pools, **self.options)
        return self.host_set

    def __getitem__(self, name: str) -> Host:
        return by_name(self.host_set)[name]

    def ends(self, name: str, fault: HostFault | None = None, times: int = 1, after_s: float = SURVEY_S) -> None:
        """Items of this endpoint end, one after the other, well or with this fault."""
        for _ in range(times):
            self.harness.pass_time(after_s)
            self[name].done += 1
            if fault is not None:
                self.harness.errs(self[name], fault)

    @property
    def out(self) -> list[str]:
        return [each.name for each in self.host_set.hosts if each.standing.ejected]


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("fault", [HostFault.ANSWER, HostFault.GATEWAY])
def test_errors_in_a_row_eject_under_every_policy(policy: Policy, fault: HostFault) -> None:
    pool = Pool(balance=policy)
    pool.ends("b", times=10)
    pool.ends("a", fault, times=4)
    assert pool.out == []
    pool.ends("a", fault)
    assert pool.out == ["a"]
    assert available(pool.host_set) == ["b", "c", "d"]
    assert pool.harness.changes == [("ejected", "a")]
    (load, *_) = pool.harness.registry.loads()
    assert (load.availability, load.problem.partition(" in a row")[1]) == ("ejected", " in a row")


def test_a_good_answer_between_them_is_no_run() -> None:
    pool = Pool()
    for _ in range(10):
        pool.ends("a", HostFault.ANSWER, times=4)
        pool.ends("a")
    assert pool.out == []


def test_too_many_requests_neither_lengthens_nor_ends_a_run() -> None:
    pool = Pool()
    pool.ends("a", HostFault.OVERLOADED, times=50)
    assert pool.out == []
    pool.ends("a", HostFault.ANSWER, times=4)
    pool.ends("a", HostFault.OVERLOADED)
    pool.ends("a", HostFault.ANSWER)
    assert pool.out == ["a"]


def test_fewer_gateway_errors_may_be_enough() -> None:
    pool = Pool(outlier=OutlierDetection(consecutive_errors=9, consecutive_gateway_errors=2))
    pool.ends("b", HostFault.GATEWAY, times=2)
    assert pool.out == ["b"]
    assert pool["b"].standing.reason == "2 gateway errors in a row"


@pytest.mark.parametrize("policy", list(Policy))
def test_what_fails_everywhere_ejects_nobody(policy: Policy) -> None:
    """Two of three requests are of a client that asks for what no endpoint can answer (or that breaks each)."""
    pool, rng = Pool(balance=policy), random.Random(1)
    for _ in range(5000):
        chosen = pool.host_set.choose((), rng.randrange(2**32))
        assert chosen is not None
        pool.ends(chosen.name, rng.choice((HostFault.ANSWER, HostFault.GATEWAY, None)), after_s=0.002)
        pool.harness.registry.tick(pool.harness.reactor.now)
    assert pool.out == []
    assert pool.harness.changes == []


def test_a_burst_that_fails_everywhere_ejects_nobody() -> None:
    """All was well until now, so that only what happens meanwhile shows it."""
    pool = Pool()
    for name in NAMES[:4] * 100:
        pool.ends(name, after_s=0.001)
    for name in NAMES[:4] * 30:
        pool.ends(name, HostFault.ANSWER, after_s=0.005)
    assert pool.out == []


def test_among_siblings_that_often_fail_one_that_always_does_is_found() -> None:
    pool, rng = Pool(), random.Random(2)
    for _ in range(2000):
        for name in NAMES[1:4]:
            pool.ends(name, HostFault.ANSWER if rng.random() < 0.3 else None, after_s=0.005)
        pool.ends("a", HostFault.ANSWER, after_s=0.005)
        if pool.out:
            break
    assert pool.out == ["a"]


@pytest.mark.parametrize("seed", range(4))
def test_clients_that_ask_for_trouble_under_load_aware_neither_gather_the_others_nor_get_anyone_ejected_for_long(
    seed: int,
) -> None:
    """Two clients whose requests fail everywhere (one breaks the endpoint's connection, and is tried again elsewhere)
    and one whose succeed, each with a request under way at all times; they stay at one endpoint for a while."""
    pool, rng = Pool(count=3, balance=Policy.LOAD_AWARE), random.Random(seed)
    good: Counter[str] = Counter()
    under_way: list[tuple[float, int, HostFault | None, ConnectionTicket[Host], bool]] = []
    numbers, reactor, tick_at = itertools.count(), pool.harness.reactor, 0.0

    def start(fault: HostFault | None, tried: tuple[Host, ...] = ()) -> None:
        chosen = pool.host_set.choose(tried)
        assert chosen is not None
        ticket = pool.harness.connects(chosen)
        ends = reactor.now + 0.0002 + rng.expovariate(1000)
        heapq.heappush(under_way, (ends, next(numbers), fault, ticket, bool(tried)))

    for fault in (None, HostFault.ANSWER, HostFault.GATEWAY):
        start(fault)
    for _ in range(20_000):
        reactor.now, _, fault, ticket, again = heapq.heappop(under_way)
        if reactor.now >= tick_at:
            pool.harness.registry.tick(reactor.now)
            tick_at = reactor.now + 0.05
        host = ticket.host
        if fault is None:
            ticket.done(reactor.now)
            good[host.name] += 1
        else:
            ticket.failed(reactor.now, HostFault.REPEATED if again else fault)
        start(fault, (host,) if fault is HostFault.GATEWAY and not again else ())
    assert max(good.values()) <= 0.6 * sum(good.values())
    assert sum(event == "ejected" for event, _ in pool.harness.changes) <= 1


def test_errors_that_siblings_have_too_are_no_load() -> None:
    pool = Pool()
    for name in NAMES[:4] * 40:
        pool.ends(name, HostFault.ANSWER)
    for name in NAMES[:4] * 40:
        pool.ends(name, HostFault.ANSWER)
    assert pool["a"].estimate.penalties.errors.value(pool.harness.reactor.now) < 1.0
    one = Pool()
    one.ends("a", HostFault.ANSWER, times=3)
    estimate, now = one["a"].estimate, one.harness.reactor.now
    assert estimate.penalties.errors.value(now) == pytest.approx(3 * estimate.slots.value, rel=0.05)


@pytest.mark.parametrize(("fault", "lasts"), [(HostFault.ANSWER, False), (HostFault.OVERLOADED, True)])
def test_an_error_that_siblings_have_a_moment_later_is_no_load_any_more(fault: HostFault, lasts: bool) -> None:
    pool = Pool(balance=Policy.LOAD_AWARE)
    for name in NAMES[:4]:
        pool.ends(name, times=2)
        pool.ends(name, fault)
    assert pool["a"].estimate.penalties.value(pool.harness.reactor.now) > 0
    pool.harness.tick()
    assert (pool["a"].estimate.penalties.value(pool.harness.reactor.now) > 0) is lasts


def test_what_failed_elsewhere_before_counts_against_nobody() -> None:
    pool = Pool()
    pool.ends("a", HostFault.REPEATED, times=100)
    assert pool.out == []
    assert pool["a"].estimate.penalties.errors.value(pool.harness.reactor.now) == 0.0


def test_errors_that_move_on_with_a_client_take_the_ejection_back() -> None:
    """As under maglev: the one client that fails is given to the next endpoint when its own is out."""
    pool = Pool()
    for name in NAMES[:4] * 50:
        pool.ends(name)
    pool.ends("a", HostFault.ANSWER, times=5)
    assert pool.out == ["a"]
    pool.ends("b", HostFault.ANSWER, times=8)
    assert pool.out == []
    assert pool.harness.changes == [("ejected", "a"), ("restored", "a")]
    for name in "cdab":
        pool.ends(name)
        pool.ends(name, HostFault.ANSWER, times=10)
    assert pool.out == []
    pool.harness.pass_time(MUTED_S)
    for name in "bcd":
        pool.ends(name, times=100)
    pool.ends("a", times=1)
    pool.ends("a", HostFault.ANSWER, times=40)
    assert pool.out == ["a"]


def test_two_that_fail_together_are_both_out() -> None:
    pool = Pool()
    for name in NAMES[:4] * 50:
        pool.ends(name)
    for _ in range(30):
        pool.ends("a", HostFault.GATEWAY)
        pool.ends("b", HostFault.GATEWAY)
        pool.ends("c", times=3)
        pool.ends("d", times=3)
    assert pool.out == ["a", "b"]


def test_a_run_no_longer_than_those_that_siblings_got_over_is_no_sign() -> None:
    pool = Pool(outlier=OutlierDetection(consecutive_errors=25))
    for _ in range(10):
        for name in "bcd":
            pool.ends(name, HostFault.ANSWER, times=20, after_s=0.001)
            pool.ends(name, times=1000, after_s=0.0)
    pool.ends("a", HostFault.ANSWER, times=40)
    assert pool.out == []
    pool.ends("a", HostFault.ANSWER, times=30)
    assert pool.out == ["a"]


@pytest.mark.parametrize(("policy", "errors"), [(Policy.ROUND_ROBIN, 13), (Policy.LOAD_AWARE, 180)])
def test_beside_good_answers_only_a_run_is_a_sign_unless_clients_stay(policy: Policy, errors: int) -> None:
    """All had failed 60 times, and with their next error the siblings are known to have got over it."""
    pool = Pool(count=3, balance=policy)
    for name in 60 * "abc":
        pool.ends(name, HostFault.ANSWER, after_s=0.002)
    for name in "bc":
        pool.ends(name, times=5)
        pool.ends(name, HostFault.ANSWER)
    pool.ends("a")
    for _ in range(errors):
        assert pool.out == []
        pool.ends("b")
        pool.ends("c")
        pool.ends("a", HostFault.ANSWER)
    assert pool.out == ["a"]


def test_answers_before_gateway_errors_do_not_count_as_such() -> None:
    pool = Pool(count=3, outlier=OutlierDetection(consecutive_errors=1000, consecutive_gateway_errors=5))
    for name in 50 * "bc":
        pool.ends(name, HostFault.ANSWER)
        pool.ends(name)
    pool.ends("b")
    pool.ends("c")
    for fault, times in ((HostFault.ANSWER, 60), (HostFault.GATEWAY, 5)):
        for _ in range(times):
            pool.ends("a", fault)
            pool.ends("b")
    assert pool.out == []
    for _ in range(20):
        pool.ends("a", HostFault.GATEWAY)
        pool.ends("b")
    assert pool.out == ["a"]


FREE = [policy for policy in Policy if policy not in CLIENTS_STAY]


def asks(pool: Pool, rng: random.Random, items: int, bad: float, broken: str = "") -> int:
    """So many items of many clients, of which the part `bad` fails everywhere and all at `broken`; the errors there
    until an endpoint was ejected."""
    errors = 0
    for _ in range(items):
        chosen = pool.host_set.choose((), rng.randrange(2**32))
        assert chosen is not None
        fails = chosen.name in broken or rng.random() < bad
        pool.ends(chosen.name, HostFault.ANSWER if fails else None, after_s=0.002)
        pool.harness.registry.tick(pool.harness.reactor.now)
        if broken and pool.out:
            break
        errors += chosen.name in broken
    return errors


@pytest.mark.parametrize("bad", [0.4, 0.6, 0.9])
@pytest.mark.parametrize("policy", FREE)
def test_what_failed_everywhere_and_is_over_hardly_delays_an_ejection(policy: Policy, bad: float) -> None:
    """12 errors are a sign by themselves; up to 10 more may come before a look that knows of the last error elsewhere,
    as looks are 0.02 s apart."""
    pool, rng = Pool(count=3, balance=policy), random.Random(3)
    asks(pool, rng, 600, bad)
    assert pool.out == []
    assert asks(pool, rng, 6000, 0.0, "a") <= 22
    assert pool.out == ["a"]


@pytest.mark.parametrize("items", [300, 3000])
@pytest.mark.parametrize("policy", FREE)
def test_one_that_goes_on_failing_after_all_failed_is_ejected_soon(policy: Policy, items: int) -> None:
    """With some errors elsewhere, by which the runs of the siblings are known to have ended."""
    pool, rng = Pool(count=3, balance=policy), random.Random(4)
    asks(pool, rng, 1000, 0.01)
    asks(pool, rng, items, 1.0)
    assert pool.out == []
    assert asks(pool, rng, 6000, 0.01, "a") <= 60
    assert pool.out == ["a"]


def test_the_only_endpoint_is_never_ejected() -> None:
    pool = Pool(count=1)
    pool.ends("a", HostFault.GATEWAY, times=200)
    assert pool.out == []


def test_no_more_than_half_are_out_whatever_the_reason() -> None:
    pool = Pool(count=4)
    pool["d"].reach.connect_failed(refused=True)
    for name in "abc":
        pool.ends(name, HostFault.GATEWAY, times=5)
        pool.ends("abc".replace(name, "")[0], times=20)
    assert len(pool.out) == 1
    assert len(available(pool.host_set)) == 2
    pool.harness.registry.close()
    pool.harness.reactor.dispose()


def test_those_that_an_operator_took_out_do_not_count() -> None:
    pool = Pool(count=3)
    two = (host_spec("a"), host_spec("b"), host_spec("c", admin=Admin.DRAIN))
    pool.host_set = pool.harness.host_set(*two)
    pool.ends("a", HostFault.ANSWER, times=5)
    pool.ends("b", HostFault.ANSWER, times=50)
    assert pool.out == ["a"]


@pytest.mark.parametrize(("share", "out"), [(0.25, 1), (0.5, 2)])
def test_no_more_are_out_at_once_than_the_pool_allows(share: float, out: int) -> None:
    pool = Pool(outlier=OutlierDetection(base_ejection_s=400.0, max_ejected=share))
    for name in NAMES[:4] * 50:
        pool.ends(name)
    for _ in range(30):
        pool.ends("a", HostFault.GATEWAY)
        pool.ends("b", HostFault.GATEWAY)
        pool.ends("c", times=3)
        pool.ends("d", times=3)
    assert len(pool.out) == out


def test_it_returns_when_its_time_is_over_and_goes_for_twice_as_long_with_one_more_error() -> None:
    pool = Pool()
    pool.ends("a", HostFault.ANSWER, times=5)
    pool.harness.tick(WHEEL_TICK_S, times=round(4.0 / WHEEL_TICK_S))
    assert pool.out == []
    assert pool.harness.changes == [("ejected", "a"), ("restored", "a")]
    pool.ends("b", times=5)
    pool.ends("a", HostFault.ANSWER)
    assert pool.out == ["a"]
    assert pool["a"].standing.until - pool.harness.reactor.now == pytest.approx(8.0)


def test_one_that_has_healed_stays_and_its_ejections_are_forgotten() -> None:
    pool = Pool()
    for _ in range(3):
        pool.ends("b", times=5)
        pool.ends("a", HostFault.ANSWER, times=5)
        pool.harness.tick(20.0)
    assert pool["a"].standing.times == 3
    for _ in range(20):
        pool.ends("a", times=5)
        pool.harness.tick(20.0)
    assert pool["a"].standing.times == 0
    pool.ends("a", HostFault.ANSWER, times=4)
    assert pool.out == []


def test_no_ejection_lasts_longer_than_five_minutes() -> None:
    pool = Pool()
    for _ in range(12):
        pool.ends("b", times=5)
        pool.ends("a", HostFault.ANSWER, times=5)
        assert pool["a"].standing.until - pool.harness.reactor.now <= LONGEST_OUTLIER_EJECTION_S
        pool.harness.tick(LONGEST_OUTLIER_EJECTION_S)
    assert pool["a"].standing.times == 12


def test_a_low_success_rate_ejects_once_an_interval_is_over() -> None:
    pool = Pool(count=6)
    for name in NAMES:
        for item in range(LEAST_VOLUME + 10):
            pool.ends(name, HostFault.ANSWER if name == "c" and item % 3 == 0 else None, after_s=0.001)
    pool.harness.tick()
    assert pool.out == []
    pool.harness.tick(QUICK.interval_s)
    assert pool.out == ["c"]
    assert pool["c"].standing.reason == "success rate 66.4 % of 110 items"


def test_success_rates_are_left_alone_where_they_are_off() -> None:
    pool = Pool(count=6, outlier=OutlierDetection(success_rate=False))
    for name in NAMES:
        for item in range(LEAST_VOLUME):
            pool.ends(name, HostFault.ANSWER if name == "c" and item % 3 == 0 else None, after_s=0.001)
    pool.harness.tick(20.0)
    assert pool.out == []


@pytest.mark.parametrize("kind", [Kind.L7, Kind.L4])
def test_a_node_is_not_ejected_for_answers_of_its_endpoints(kind: Kind) -> None:
    harness = Harness()
    host_set = harness.host_set(child("web-1"), child("web-2"), kind=kind)
    one, two = host_set.hosts
    two.done = 1000
    for _ in range(100):
        harness.pass_time(SURVEY_S)
        one.done += 1
        harness.errs(one, HostFault.ANSWER)
    assert available(host_set) == ["web-1", "web-2"]


def test_where_detection_is_off_nobody_is_ejected_and_whoever_is_returns() -> None:
    pool = Pool(outlier=None)
    pool.ends("a", HostFault.GATEWAY, times=100)
    assert pool.out == []
    pool.rebuild_host_sets(NAMES[:4], QUICK)
    pool.ends("b", times=100)
    pool.ends("a", HostFault.GATEWAY, times=5)
    assert pool.out == ["a"]
    pool.rebuild_host_sets(NAMES[:4], None)
    assert pool.out == []
    assert available(pool.host_set) == ["a", "b", "c", "d"]


def test_an_ejection_and_its_end_survive_a_new_snapshot() -> None:
    pool = Pool()
    pool.ends("a", HostFault.ANSWER, times=5)
    pool.rebuild_host_sets(("b", "a", "c", "e"), QUICK)
    assert available(pool.host_set) == ["b", "c", "e"]
    pool.harness.tick(4.0 + WHEEL_TICK_S)
    assert pool.out == []


def test_each_pool_is_judged_by_itself() -> None:
    harness = Harness()
    app, api = harness.host_sets(destination("a", "b"), destination(host_spec("x", "api"), host_spec("y", "api")))
    for host in app.hosts:
        host.done, host.errors = 1000, 1000
        host.standing.runs.faults = 1000
    for _ in range(5):
        harness.pass_time(SURVEY_S)
        by_name(api)["x"].done += 1
        harness.errs(by_name(api)["x"], HostFault.ANSWER)
    assert available(api) == ["y"]


def test_the_reason_is_in_the_log() -> None:
    pool, told = Pool(), []

    class Log:
        def warning(self, event: str, **context: Any) -> None:
            told.append((event, context.get("reason")))

        info = warning

    pool.harness.registry.context.on_change = lambda event, host: log_change(Log(), event, host)
    pool.ends("a", HostFault.ANSWER, times=5)
    pool["b"].reach.connect_failed(refused=True)
    assert told == [("host_ejected", "5 errors in a row"), ("host_ejected", None)]
