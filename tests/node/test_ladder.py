"""Rungs of the failure ladder that need a look or a hand inside: real nodes with real data planes in one process.

edge (l4) → three l7 nodes, each with an endpoint of its own. The other rungs are in tests/cluster/test_ladder.py.
"""

import os
from statistics import median
from typing import Any

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.traffic import ONE_EACH, Endpoint, Traffic
from tests.control_plane import KeptLog, controller_port, node_of
from tests.joining import identity_of
from tierlb.balance.guidance import NO_GUIDANCE
from tierlb.controller.controller import Controller
from tierlb.controller.parents import with_tickets
from tierlb.dataplane.account import Account
from tierlb.dataplane.plane import Plane, Refused
from tierlb.model.address import parse_address
from tierlb.model.load import HostLoad, SubtreeLoad
from tierlb.node.process import Node
from tierlb.topology.load import load_text

DEADLINE_S = 120.0
TOPOLOGY = "cluster: ladder\n" + ONE_EACH
FAIR = 1 / 3
SOME, MOST = 0.03, 0.5
"""It is twenty times slower than its siblings, and who waits there for an answer asks less often."""
HEEDED_S = 2.0
"""Guidance comes every second, and a hot child is heard to close within that time."""


@attrs.define
class Tree:
    """The whole of it."""

    controller: Controller
    traffic: Traffic
    endpoints: dict[str, Endpoint]
    nodes: dict[str, Node] = attrs.field(factory=dict)
    planes: dict[str, Plane] = attrs.field(factory=dict)

    def host(self, name: str) -> HostLoad:
        """As the edge sees it."""
        return next(each for each in self.planes["edge-1"].load().hosts if each.name == name)

    def capacities(self) -> list[float]:
        return [each.capacity for each in self.planes["edge-1"].load().hosts]

    async def until_all_are_known(self) -> None:
        await self.traffic.until("all capacities are known", lambda: min(self.capacities(), default=0.0) > 0)


@pytest.fixture
async def tree(nursery: trio.Nursery) -> Tree:
    endpoints = {name: Endpoint() for name in ("first", "second", "third")}
    for endpoint in endpoints.values():
        await nursery.start(endpoint.serve)
    listen = free_address()
    places = {name: endpoint.address for name, endpoint in endpoints.items()}
    topology = load_text(TOPOLOGY.format(listen=listen, **places), "ladder.yaml")
    log = KeptLog()
    controller = Controller(topology, log)
    nursery.start_soon(controller.run)
    control = await controller_port(nursery, controller, controller.admission.admit)
    address = parse_address(listen)
    tree = Tree(controller, Traffic((address.host, address.port), work="/work"), endpoints)
    for tier in topology.tiers:
        name = f"{tier}-1"
        plane = Plane(name, log, seed=1, boot_id="boot")
        identity = identity_of(controller.admission, name, f"ws://{control}", pid=os.getpid())
        tree.planes[name], tree.nodes[name] = plane, node_of(identity, plane, Refused, log)
        await nursery.start(plane.run)
        await nursery.start(tree.nodes[name].run)
    with trio.fail_after(DEADLINE_S):
        while controller.readiness.missing():
            await controller.signals.wait_progress()
    return tree


async def test_a_child_whose_reports_are_cut_off_keeps_a_fair_part_of_the_traffic_until_it_is_heard_again(
    tree: Tree,
) -> None:
    """Its own word, that it is slow, counts no longer; that it is silent does not make it the best of all either."""
    traffic, reports = tree.traffic, tree.nodes["one-1"].uplink.parents
    registry = tree.controller.registry
    parents = with_tickets(registry, tree.controller.admission, registry.records["one-1"])
    tree.endpoints["first"].takes_s = 0.2
    assert parents

    def is_slow() -> bool:
        return 0 < tree.host("one-1").capacity < median(tree.capacities()) / 3

    def is_not_known() -> bool:
        return tree.host("one-1").capacity == 0

    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing(kept=0, fresh=7):
            await tree.until_all_are_known()
            await traffic.until("its slowness is known", is_slow)
            reports.report_to(())
            await traffic.until("the edge has lost it", is_not_known)
            assert set(tree.nodes["edge-1"].children.names()) == {"two-1", "three-1"}
            await traffic.until_share("one-1", SOME, MOST)
            assert tree.host("one-1").availability == "available"
            reports.report_to(parents)
            await traffic.until("its own word counts again", is_slow)
    assert traffic.failures == []


async def test_a_child_with_nothing_left_below_it_gets_nothing_new_until_something_is_back(
    tree: Tree, nursery: trio.Nursery
) -> None:
    traffic, endpoint = tree.traffic, tree.endpoints["first"]
    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing(kept=0, fresh=4):
            await traffic.until_share("one-1", FAIR / 2)
            endpoint.scope.cancel()
            await traffic.until("the edge knows", lambda: tree.host("one-1").availability == "unhealthy")
            await traffic.until_share("one-1", 0.0, 0.0)
            failed = len(traffic.failures)
            await traffic.until_share("one-1", 0.0, 0.0)
            assert len(traffic.failures) == failed
            await nursery.start(endpoint.serve)
            await traffic.until_share("one-1", FAIR / 2)
    assert len(traffic.failures) == failed


@pytest.mark.parametrize(("used", "all_hot"), [((0.95, 1.0, 9.0), True), ((0.95, 0.2, 0.2), False)])
async def test_a_hot_child_ends_kept_connections_unless_all_are_hot(
    tree: Tree, used: tuple[float, ...], all_hot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, said = Account.subtree, {}

    def subtree(account: Account, now: float, **options: Any) -> SubtreeLoad:
        load = truth(account, now, **options)
        return attrs.evolve(load, utilisation=said.get(account, load.utilisation))

    monkeypatch.setattr(Account, "subtree", subtree)
    for name, figure in zip(("one-1", "two-1", "three-1"), used, strict=True):
        said[account_of(tree.planes[name])] = figure
    traffic, children = tree.traffic, [tree.planes[f"{name}-1"] for name in ("one", "two", "three")]

    def is_guided(plane: Plane) -> bool:
        """By what holds of all three now. It need not have followed guidance from when the edge knew of less."""
        assert plane.serving.upkeep is not None
        guidance = plane.serving.upkeep.guidance
        return guidance != NO_GUIDANCE and guidance.all_hot is all_hot and guidance.target >= min(used)

    with trio.fail_after(DEADLINE_S):
        await traffic.until("all are guided", lambda: all(map(is_guided, children)))
        async with traffic.flowing(kept=24, fresh=0):
            if all_hot:
                await trio.sleep(HEEDED_S)
            else:
                await traffic.until("the hot one ends some", lambda: traffic.asked_to_leave["one-1"] > 0)
    assert set(traffic.asked_to_leave) == (set() if all_hot else {"one-1"})
    assert traffic.failures == []


def account_of(plane: Plane) -> Account:
    assert plane.serving.upkeep is not None
    return plane.serving.upkeep.account
