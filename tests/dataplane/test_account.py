"""What a node says of itself and of all below it, from counts that the test sets and in time that it passes."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.begun import begun
from tests.dataplane.registries import Harness, child, destination, host_spec
from tierlb.balance.kind_places import OTHER_KINDS
from tierlb.dataplane.account import Account
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.upstream.host import load_of
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.topology import Admin, Kind, Policy
from tierlb.telemetry.sketch import Sketch
from tierlb.wire.frame_fields import MAX_COUNT, MAX_NUMBER
from tierlb.wire.frames import Report, decode_frame, encode_frame


class Books(Harness):
    """An account over a registry; `waited_s` is how long the event loop has waited."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = Counters()
        self.latencies = Sketch()
        self.waited_s = 0.0
        self.account = Account(self.counters, self.registry, self.latencies, self.reactor.now)

    def passes(self, seconds: float, *, busy: float = 0.0) -> None:
        """Time passes in ticks, of which the loop is busy for this part."""
        for _ in range(round(seconds / 0.05)):
            self.waited_s += 0.05 * (1 - busy)
            self.tick(0.05)
            self.account.sample(self.reactor.now, self.waited_s)

    def subtree(self, *, draining: bool = False) -> SubtreeLoad:
        return self.account.subtree(self.reactor.now, draining=draining)

    def items(self, parent: str, count: int, *, connections: int = 0) -> None:
        """So many are over."""
        tally = self.counters.tallies.of(parent)
        tally.arrivals += count
        tally.done += count
        tally.connections += connections
        self.reactor.events += 2 * count


@pytest.fixture
def books() -> Books:
    return Books()


def test_an_idle_node_knows_nothing_and_says_zero(books: Books) -> None:
    books.host_set("a", "b")
    books.passes(2.0)
    load = books.subtree()
    assert load.utilisation == pytest.approx(0, abs=1e-6)
    assert attrs.evolve(load, utilisation=0.0, hottest=0.0) == SubtreeLoad(ready_leaves=2, leaves=2)


def test_a_pool_of_which_no_endpoint_is_known_is_a_leaf_that_is_not_ready(books: Books) -> None:
    for endpoints, unfound, leaves in (((), 2, (0, 2)), (("a",), 1, (1, 2))):
        books.host_set(*endpoints)
        load = books.account.subtree(books.reactor.now, draining=False, unfound=unfound)
        assert (load.ready_leaves, load.leaves, load.capacity) == (*leaves, 0.0)


def test_counts_are_the_nodes_own_of_all_parents(books: Books) -> None:
    books.host_set("a")
    books.items("edge-1", 10, connections=2)
    books.items("edge-2", 5, connections=1)
    books.counters.tallies.outside.arrivals += 1
    books.counters.tallies.outside.in_flight += 1
    books.counters.errors, books.counters.rejected, books.counters.connections = 3, 4, 5
    load = books.subtree()
    assert (load.in_flight, load.arrivals, load.done) == (1, 16, 15)
    assert (load.errors, load.rejected, load.connections) == (3, 4, 5)
    assert books.account.echo("edge-1") == Echo(0, 10, 2)
    assert books.account.echo("edge-3") == Echo()


def test_what_is_parked_is_told_of_all_and_of_each_parents(books: Books) -> None:
    (host,) = books.host_set("a").hosts
    for parent in ("edge-1", "edge-1", "edge-2"):
        begun(host, books.reactor.now, tally=books.counters.tallies.of(parent), long=True)
    assert books.subtree().parked == load_of(host, books.reactor.now).parked == 3
    assert (books.account.echo("edge-1").parked, books.account.echo("edge-2").parked) == (2, 1)


def test_busy_is_the_loops_share_of_the_last_second(books: Books) -> None:
    books.host_set("a")
    books.passes(2.0, busy=0.25)
    assert books.account.busy == pytest.approx(0.25)
    assert books.subtree().utilisation == pytest.approx(0.25)
    books.passes(1.1, busy=0.75)
    assert books.account.busy == pytest.approx(0.75)


def test_what_the_node_itself_could_do_follows_from_what_it_does(books: Books) -> None:
    books.host_set("a")
    for _ in range(40):
        books.items("edge-1", 10)
        books.passes(0.05, busy=0.5)
    assert 200 < books.subtree().own_capacity < 1.05 * 0.9 * 200 / 0.5
    assert books.account.recent.done_per_s == pytest.approx(200, rel=0.05)


def test_times_are_means_of_the_last_second(books: Books) -> None:
    books.host_set("a")
    books.passes(1.0)
    for _ in range(20):
        books.items("edge-1", 1)
        books.counters.timed += 1
        books.counters.seconds += 0.03
        books.counters.ended += 1
        books.counters.lived_s += 7.0
        books.passes(0.05)
    load = books.subtree()
    assert (load.response_s, load.connection_s) == (pytest.approx(0.03), pytest.approx(7.0))


def test_what_is_parked_moves_neither_the_times_nor_the_rates(books: Books) -> None:
    """300 requests of 10 ms in a second, and 100 polls that end after 5 s."""
    (host,) = books.host_set("a").hosts
    tally, kinds = books.counters.tallies.outside, books.registry.kinds
    poll = kinds.number("poll")
    for _ in range(1000):
        kinds.note_parked(poll)
    for _ in range(40):
        books.items("edge-1", 15)
        host.times[OTHER_KINDS].extend([0.01] * 15)
        tally.done += 5
        books.counters.waited += 5
        host.times[poll].extend([5.0] * 5)
        books.passes(0.05)
    load = books.subtree()
    assert load.response_s == pytest.approx(0.01)
    assert books.account.recent.done_per_s == pytest.approx(300, rel=0.05)
    assert load.done == 40 * 20, "counted is all"


def test_times_of_connections_and_of_requests_are_not_mixed(books: Books) -> None:
    """An l4 node counts connections until the first child says what it counts; the two sums have nothing in common."""
    books.host_sets(destination(child("a")), kind=Kind.L4)
    books.passes(1.0)
    books.items("edge-1", 5)
    books.counters.timed += 5
    books.counters.seconds += 40.0
    books.passes(0.2)
    reported(books, "a")
    for number in range(1, 30):
        books.report("a", Echo(1, 2 * number, 1), capacity=100.0)
        books.passes(0.05)
        assert books.subtree().response_s >= 0
        assert books.account.recent.done_per_s >= 0
    assert books.subtree().response_s == pytest.approx(0.05 / 2, rel=0.1)


def test_recent_latencies_can_be_read(books: Books) -> None:
    books.host_set("a")
    books.latencies.add(0.5)
    books.passes(0.05)
    assert books.account.latencies.value().count == 1


# Below.


def reported(books: Books, name: str, **load: Any) -> None:
    books.report(name, **{"capacity": 100.0, "leaves": 4, "ready_leaves": 4, **load})


def test_capacity_and_leaves_are_sums_over_the_children(books: Books) -> None:
    books.host_set(child("a"), child("b"))
    reported(books, "a", ready_leaves=3, hottest=0.4)
    reported(books, "b", capacity=50.0, hottest=0.8)
    load = books.subtree()
    assert (load.capacity, load.ready_leaves, load.leaves, load.hottest) == (150.0, 7, 8, 0.8)


def test_a_parent_counts_its_part_of_what_several_share(books: Books) -> None:
    books.host_set(child("a", "app", parents=2), host_spec("b", parents=4))
    reported(books, "a")
    books.serve(books.registry.named("b")[0], 40, 0.01)
    books.tick()
    learnt = books.registry.named("b")[0].estimate.learnt_capacity
    assert learnt is not None
    assert books.subtree().capacity == pytest.approx(100 / 2 + learnt / 4)


def test_who_is_out_is_not_counted_on(books: Books) -> None:
    books.host_set(child("a"), child("b"), child("c", admin=Admin.DRAIN), child("d"))
    for name in "abcd":
        reported(books, name)
    books.registry.named("b")[0].reach.connect_failed(refused=True)
    reported(books, "d", draining=True)
    load = books.subtree()
    assert (load.capacity, load.ready_leaves, load.leaves) == (100.0, 4, 16)


def test_a_reserve_counts_only_while_it_is_used(books: Books) -> None:
    host_set = books.host_set(child("a"), child("b", level=1))
    reported(books, "a", capacity=10.0, ready_leaves=1, leaves=1)
    reported(books, "b", capacity=70.0, ready_leaves=1, leaves=1)
    assert (books.subtree().capacity, books.subtree().ready_leaves) == (10.0, 1)
    host_set.hosts[0].reach.connect_failed(refused=True)
    assert (books.subtree().capacity, books.subtree().ready_leaves) == (70.0, 1)


def test_the_oldest_report_below_is_the_age(books: Books) -> None:
    books.host_set(child("a"), child("b"))
    reported(books, "a", age_s=0.3)
    books.tick(0.1)
    reported(books, "b")
    books.tick(0.1)
    assert books.subtree().age_s == pytest.approx(0.5)


def test_a_child_that_is_lost_makes_nothing_old(books: Books) -> None:
    """Its capacity is not from a report any more, so how old its last one is says nothing of the others."""
    books.host_set(child("a"), child("b"))
    reported(books, "a")
    books.registry.note_lost("a")
    books.tick(60.0)
    reported(books, "b")
    load = books.subtree()
    assert load.age_s == 0.0
    assert (load.capacity, load.ready_leaves) == (200.0, 8), "the lost one counts like its sibling"


def test_the_scarcest_pool_for_its_traffic_is_the_limit(books: Books) -> None:
    books.host_sets(destination(child("a", "api")), destination(child("b", "web")))
    a, b = books.registry.named("a")[0], books.registry.named("b")[0]
    reported(books, "a")
    reported(books, "b", capacity=900.0)
    a.done, b.done = 2000, 8000
    assert books.subtree().capacity == pytest.approx(100 / 0.2, rel=0.01)


def test_draining_is_said(books: Books) -> None:
    books.host_set("a")
    assert books.subtree(draining=True).draining


def test_the_work_of_a_member_that_left_was_done(books: Books) -> None:
    """A negative growth of the sum would hide for a second how busy the others are."""

    def work(seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            for each in books.registry.hosts:
                each.times[0] += [0.01] * 20
            books.passes(0.05)

    books.host_set("a", "b", "c")
    work(3.0)
    busy = books.subtree().utilisation
    assert busy > 0.1
    books.host_set("b", "c")
    work(0.2)
    assert books.subtree().utilisation > 0.8 * busy
    books.host_set(host_spec("d", "other"))
    assert books.registry.work.done_s() == {"other": 0.0}, "a target without hosts is forgotten"


# An l4 node over children that count requests.


def above_l7(books: Books) -> None:
    """50 requests came over ten connections, 30 of them of one parent's; six are in flight."""
    books.host_set(child("a"), child("b"), kind=Kind.L4)
    books.items("edge-1", 6, connections=6)
    books.items("edge-2", 4, connections=4)
    books.counters.connections = 10
    for name, echo in (("a", Echo(4, 30, 5)), ("b", Echo(2, 20, 5))):
        books.report(name)
        books.report(name, echo)


def test_an_l4_node_says_how_many_requests_pass_it(books: Books) -> None:
    above_l7(books)
    load = books.subtree()
    assert (load.in_flight, load.arrivals, load.done, load.connections) == (6, 50, 44, 10)


def test_its_parents_are_told_their_part_by_their_connections(books: Books) -> None:
    above_l7(books)
    assert books.account.echo("edge-1") == Echo(4, 30, 6)
    assert books.account.echo("edge-2") == Echo(2, 20, 4)
    assert books.account.echo("edge-3") == Echo()


def test_what_a_parent_is_told_of_its_requests_never_falls(books: Books) -> None:
    """It would be taken for a restart, and all of it for new."""
    above_l7(books)
    told = [books.account.echo("edge-1").arrivals]
    for count in range(1, 20):
        books.items("edge-2", 1, connections=1)
        books.report("a", Echo(4, 30 + count // 9, 5))
        told.append(books.account.echo("edge-1").arrivals)
    books.counters.tallies.of("edge-1").connections = books.counters.tallies.of("edge-2").connections = 0
    books.report("a", Echo(0, 62, 5))
    told.append(books.account.echo("edge-1").arrivals)
    assert told == sorted(told)
    assert told[-1] + books.account.echo("edge-2").arrivals == 82
    assert told[-1] > told[-2]


def test_what_is_parked_below_an_l4_node_is_parked_there_too(books: Books) -> None:
    above_l7(books)
    books.report("a", Echo(4, 30, 5, 3))
    books.report("b", Echo(2, 20, 5, 2))
    assert books.subtree().parked == 5
    assert [books.account.echo(name).parked for name in ("edge-1", "edge-2", "edge-3")] == [3, 2, 0]
    books.registry.note_lost("a")
    assert (books.subtree().parked, books.subtree().in_flight) == (2, 2)
    books.report("b", Echo(1, 21, 5))
    assert books.subtree().parked == 0


def test_the_time_of_requests_follows_from_how_many_are_in_flight(books: Books) -> None:
    above_l7(books)
    arrivals = 30
    for _ in range(30):
        books.passes(0.05)
        arrivals += 3
        books.report("a", Echo(4, arrivals, 5))
    assert books.subtree().response_s == pytest.approx(6 / 60, rel=0.1)


def test_what_is_parked_below_takes_no_time_of_requests(books: Books) -> None:
    above_l7(books)
    arrivals = 30
    for _ in range(60):
        books.passes(0.05)
        arrivals += 3
        books.report("a", Echo(54, arrivals, 5, 50))
    assert books.subtree().response_s == pytest.approx(6 / 60, rel=0.1)


def test_without_children_that_count_requests_its_items_are_connections(books: Books) -> None:
    books.host_set("a", kind=Kind.L4)
    books.items("edge-1", 7, connections=3)
    assert books.subtree().arrivals == 7
    assert books.account.echo("edge-1") == Echo(0, 7, 3)


FIGURE = st.sampled_from([0.0, 5e-324, 1e-300, 1e-6, 0.5, 1.0, 1e6, MAX_NUMBER])
COUNT = st.sampled_from([0, 1, 7, 10**9, MAX_COUNT])
ANY_LOAD = st.builds(
    SubtreeLoad,
    **{field.name: FIGURE for field in attrs.fields(SubtreeLoad) if field.type is float},
    **{field.name: COUNT for field in attrs.fields(SubtreeLoad) if field.type is int},
    draining=st.booleans(),
)
REPORTS = st.lists(st.tuples(st.sampled_from("abc"), ANY_LOAD, st.builds(Echo, COUNT, COUNT, COUNT, COUNT)), max_size=8)


@given(reports=REPORTS, kind=st.sampled_from(Kind), policy=st.sampled_from([Policy.LOAD_AWARE, Policy.PEAK_EWMA]))
def test_whatever_children_say_a_node_goes_on_choosing_and_says_what_its_parents_accept(
    reports: list[tuple[str, SubtreeLoad, Echo]], kind: Kind, policy: Policy
) -> None:
    """Figures at the bounds of what a frame may hold, from children that are wrong or lie."""
    books = Books()
    host_set = books.host_set(child("a"), child("b"), child("c"), "d", kind=kind, balance=policy)
    books.items("parent", 50, connections=3)
    for name, load, echo in reports:
        books.registry.note_report(name, load, echo)
        books.passes(0.3, busy=0.5)
        host = host_set.choose()
        if host is not None:
            books.connects(host)
        for each in host_set.hosts:
            guidance = host_set.guidance(each, books.reactor.now)
            assert guidance is None or decode_frame(encode_frame(guidance)) == guidance
    said = books.subtree()
    frame = decode_frame(encode_frame(Report(said, books.account.echo("parent"), ())))
    assert isinstance(frame, Report)
    assert host_set.choose() is not None or not host_set.available


def test_pools_without_an_available_endpoint_are_told_with_those_of_the_nodes_below(books: Books) -> None:
    own, _ = books.host_sets(destination("a", "b"), destination(child("web-1"), child("web-2")))
    books.report("web-1", down=("api", "db"))
    books.report("web-2", down=("db",))
    assert books.subtree().down == ("db",)
    for host in own.hosts:
        host.reach.connect_failed(refused=True)
    assert books.subtree().down == ("app", "db")
    own.hosts[0].reach.connected()
    books.registry.note_lost("web-2")
    assert books.subtree().down == ("api", "db"), "of a node that is not heard nothing is known"
