"""A small tree, looked at from inside."""

import random

import pytest

from tierlb.balance.ticket import PARKED_EARLY
from tierlb.model.topology import Policy
from tierlb.simulate.agenda import Agenda
from tierlb.simulate.kinds import ItemKind, KindSource, Standing
from tierlb.simulate.leaf import Service
from tierlb.simulate.node import Item, SimulatedNode
from tierlb.simulate.run import Scenario, SimulationRun
from tierlb.simulate.tree import Shape, SimulatedTier, Tree


def tree_of(agenda: Agenda, cost_s: float = 0.0, report_delay_s: float = 0.0) -> Tree:
    tiers = [SimulatedTier(2), SimulatedTier(2, parents=2, cost_s=cost_s)]
    shape = Shape(tiers, leaves=4, slots=1, service=Service(0.05, 0), report_delay_s=report_delay_s)
    return Tree(shape, agenda, random.Random(1))


def feed(agenda: Agenda, node: SimulatedNode, rate: float, taken: list[float] | None = None) -> None:
    """An item every 1/rate seconds from now on."""

    def served(item: Item) -> None:
        if taken is not None:
            taken.append(agenda.now - item.began)

    def arrive(_: object) -> None:
        node.accept(Item(agenda.now, node.tallies.outside, served, 0.05))
        agenda.at(agenda.now + 1 / rate, arrive)

    agenda.at(agenda.now, arrive)


def test_counts_agree_all_the_way_down() -> None:
    agenda = Agenda()
    tree = tree_of(agenda)
    for node in tree.levels[0]:
        feed(agenda, node, 20)
    agenda.run(5.01)
    top, web = ([node.tallies.total() for node in level] for level in tree.levels)
    assert sum(t.arrivals for t in top) == sum(t.arrivals for t in web) == sum(leaf.arrivals for leaf in tree.leaves)
    assert sum(t.in_flight for t in top) == sum(t.in_flight for t in web) == sum(leaf.in_flight for leaf in tree.leaves)
    for node in (*tree.levels[0], *tree.levels[1]):
        total = node.tallies.total()
        assert total.in_flight == sum(c.in_flight for c in node.hosts)
        assert total.done == sum(c.done for c in node.hosts)
        assert total.arrivals == total.in_flight + total.done


def test_an_echo_tells_each_parent_its_part() -> None:
    agenda = Agenda()
    tree = tree_of(agenda)
    for node, rate in zip(tree.levels[0], (30, 10), strict=True):
        feed(agenda, node, rate)
    agenda.run(10.0)
    for node, share in zip(tree.levels[0], (0.75, 0.25), strict=True):
        for host in node.hosts:
            assert host.estimate.received.share.value == pytest.approx(share, abs=0.12)
            assert host.estimate.received.echo.arrivals == pytest.approx(host.tally.arrivals, rel=0.05)


@pytest.mark.parametrize("delay_s", [0.0, 2.0])
def test_reports_come_every_quarter_of_a_second_and_as_late_as_asked(delay_s: float) -> None:
    agenda = Agenda()
    tree = tree_of(agenda, report_delay_s=delay_s)
    feed(agenda, tree.levels[0][0], 20)
    agenda.run(10.0)
    sent = sum(node.reports for node in tree.levels[1])
    assert 0.8 * 160 <= sent <= 2 * 160
    for host in tree.levels[0][0].hosts:
        estimate = host.estimate
        assert estimate.received.latest is not None
        assert agenda.now - estimate.received.received_at <= 0.35
        late = host.tally.arrivals - estimate.received.echo.arrivals
        assert late == pytest.approx(10 * delay_s, abs=6)


def test_a_subtree_says_what_its_leaves_can_do() -> None:
    agenda = Agenda()
    tree = tree_of(agenda)
    for node in tree.levels[0]:
        feed(agenda, node, 30)
    agenda.run(20.0)
    for node in tree.levels[1]:
        load = node.subtree(agenda.now)
        assert (load.ready_leaves, load.leaves) == (2, 2)
        assert load.capacity == pytest.approx(sum(c.estimate.learnt_capacity or 0 for c in node.hosts))
        assert load.response_s == pytest.approx(0.05, rel=0.5)


def test_a_node_with_a_cost_is_a_queue_and_learns_its_own_capacity() -> None:
    """10 ms an item, 80 a second: busy four fifths of the time, good for 90 by its own account."""
    agenda, taken = Agenda(), []
    tree = Tree(
        Shape([SimulatedTier(1, cost_s=0.01)], leaves=8, slots=1, service=Service(0.05, 0)), agenda, random.Random(1)
    )
    [node] = tree.levels[0]
    feed(agenda, node, 80, taken)
    agenda.run(10.0)
    load = node.subtree(agenda.now)
    assert taken[0] == pytest.approx(0.06)
    assert load.own_capacity == pytest.approx(90, rel=0.05)
    assert load.utilisation >= 0.75
    assert node.waited_s() == pytest.approx(2.0, abs=0.2)


def test_response_times_are_taken_to_the_end_by_peak_ewma_and_to_the_head_by_least_time() -> None:
    agenda = Agenda()
    shape = Shape([SimulatedTier(1)], leaves=1, service=Service(0.05, 0), rule=Policy.PEAK_EWMA)
    tree = Tree(shape, agenda, random.Random(1))
    [node] = tree.levels[0]
    kind = ItemKind("stream", Service(0.2, 0), body=Service(0.8, 0))
    node.accept(Item(0.0, node.tallies.outside, lambda _: None, KindSource(kind, random.Random(1))))
    agenda.run(1.01)
    [host] = node.hosts
    assert host.peak.cost == pytest.approx(1.0, rel=0.01)
    assert host.times_to_head.value == pytest.approx(0.2)


def mixed_run(*kinds: ItemKind, seconds: float) -> SimulatedNode:
    """One node over two leaves with light short traffic and these kinds."""
    shape = Shape([SimulatedTier(1)], leaves=2, service=Service(0.02))
    run = SimulationRun(Scenario(shape, 0.3, seconds, kinds=kinds))
    run.agenda.run(seconds)
    [[node]] = run.tree.levels
    return node


def usual_s(node: SimulatedNode, route: str, form: int = 0) -> float:
    return node.kinds.usual_s[node.kinds.number(route) + form]


def test_what_waits_is_parked_and_its_kind_begins_parked_once_that_is_known() -> None:
    node = mixed_run(ItemKind("poll", Service(2.0, 0), standing=Standing(8, over_s=0.1)), seconds=7.9)
    assert [host.parked for host in node.hosts] == [4, 4]
    assert [node.kinds.long[node.kinds.number(route)] for route in ("short", "poll")] == [False, True]
    assert sum(item.stage is PARKED_EARLY for host in node.hosts for item in host.parked_items) == 8
    assert usual_s(node, "short") < 0.03
    assert usual_s(node, "poll") == 0, "their times tell nothing"
    load = sum(host.in_flight - host.parked for host in node.hosts)
    assert load == sum(len(host.under_way) for host in node.hosts) < 10


def test_the_time_of_an_answer_is_from_the_end_of_the_request_to_the_head() -> None:
    upload = ItemKind("upload", Service(0.1, 0), sending=Service(1.0, 0), standing=Standing(10))
    stream = ItemKind("stream", Service(0.1, 0), body=Service(0.3, 0), standing=Standing(10), streamed=True)
    node = mixed_run(upload, stream, seconds=8.0)
    assert usual_s(node, "stream") == 0
    of_short = usual_s(node, "short")
    assert usual_s(node, "upload") / of_short == pytest.approx(0.1 / 0.02, rel=0.4), "a client sends for 1 s"
    assert usual_s(node, "stream", 1) / of_short == pytest.approx(0.1 / 0.02, rel=0.3)


def test_kinds_of_one_route_are_one() -> None:
    node = mixed_run(ItemKind("poll", Service(2.0, 0), standing=Standing(8), route="short"), seconds=6.0)
    assert node.kinds.long[node.kinds.number("short")] is False
    assert sum(host.parked for host in node.hosts) == pytest.approx(8, abs=2)
