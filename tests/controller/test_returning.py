from functools import partial

import attrs
import pytest
import trio

from tests.controller.joined import AGENT, EDGE, WEB, hello, host_names, hosts, settle
from tierlb.controller.controller import Controller
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.node_record import Assignment, Link, NodeRecord
from tierlb.controller.registry import NODE_GONE_S
from tierlb.controller.returning import (
    RETURN_AT_MOST_S,
    RETURN_MORE_S,
    RETURN_S,
    ReturnWindow,
    waits_for_neighbours,
)
from tierlb.net.keep_going import RESTART_PAUSE_S, keep_going
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.frames import ParentAddress


async def test_after_a_restart_an_edge_is_told_nothing_until_all_below_it_are_back(running, autojump_clock):
    edge = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    web = running.join(hello("web-1", "web", 2, control="127.0.0.1:7002", data=str(WEB)), Link())
    await settle()
    assert (edge.assignment.wanted, edge.assignment.parents) == (None, None)
    assert web.assignment.wanted.revision == 1
    running.join(hello("web-2", "web", 3, data="127.0.0.1:4002"), Link())
    await settle()
    assert [(m.name, m.address.port) for m in hosts(edge)] == [
        ("web-1", 4001),
        ("web-2", 4002),
    ]


async def test_after_a_restart_a_child_keeps_its_parents_until_all_are_back(running, autojump_clock):
    web = running.join(hello("web-1", "web", 2, data=str(WEB)), Link())
    await settle()
    assert (web.assignment.wanted, web.assignment.parents) == (None, None)
    running.join(hello("edge-1", "edge", 1, control="127.0.0.1:7001", data=str(EDGE)), Link())
    await settle()
    assert web.assignment.parents == (ParentAddress("edge-1", "ws://127.0.0.1:7001"),)


async def test_who_does_not_come_back_is_not_waited_for_for_ever(running, autojump_clock):
    edge = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    running.join(hello("web-1", "web", 2, data=str(WEB)), Link())
    await trio.sleep(RETURN_S - 1)
    assert edge.assignment.wanted is None
    await trio.sleep(2)
    assert host_names(edge) == ["web-1"]


async def test_later_than_after_a_restart_nobody_waits(running, autojump_clock):
    await trio.sleep(RETURN_S + 1)
    edge = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    await settle()
    assert host_names(edge) == []


async def test_after_a_restart_agents_have_time_to_come_back(with_agents, autojump_clock):
    running = with_agents
    running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    web = running.join(hello("web-1", "web", 2, data=str(WEB)), Link())
    running.join(hello("web-2", "web", 3, data="127.0.0.1:4002"), Link())
    await trio.sleep(RETURN_S - 1)
    running.join(AGENT, Link())
    assert web.assignment.wanted is None
    await trio.sleep(2)
    assert host_names(web) == ["app-1"]


async def test_after_a_restart_who_comes_back_is_given_time(topology, log, nursery, autojump_clock):
    controller = Controller(topology, log, engine=ProcessEngine("{pool}:9000"))
    nursery.start_soon(controller.run)
    edge = controller.join(hello("edge-a", "edge", 1, data=str(EDGE)), Link())
    await trio.sleep(RETURN_S - 1)
    controller.join(hello("web-a", "web", 2, data=str(WEB)), Link())
    await trio.sleep(RETURN_MORE_S - 1)
    assert edge.assignment.wanted is None
    await trio.sleep(2)
    assert host_names(edge) == ["web-a"]


async def test_one_that_serves_is_not_told_that_nobody_is_below_it_because_nobody_is_back(
    topology, log, nursery, autojump_clock
):
    controller = Controller(topology, log, engine=ProcessEngine("{pool}:9000"))
    nursery.start_soon(controller.run)
    await trio.sleep(RETURN_S * 2)
    edge = controller.join(hello("edge-a", "edge", 1, data=str(EDGE)), Link())
    await trio.sleep(NODE_GONE_S)
    assert edge.assignment.wanted is None
    fresh = controller.join(hello("edge-b", "edge", 2), Link())
    await settle()
    assert host_names(fresh) == []
    controller.join(hello("web-a", "web", 3, data=str(WEB)), Link())
    await settle()
    assert host_names(edge) == host_names(fresh) == ["web-a"]


async def test_who_waits_for_others_does_not_wait_for_ever(topology, log, nursery, autojump_clock):
    controller = Controller(topology, log, engine=ProcessEngine("{pool}:9000"))
    nursery.start_soon(controller.run)
    edge = controller.join(hello("edge-a", "edge", 1, data=str(EDGE)), Link())
    for number in range(int(RETURN_AT_MOST_S)):
        controller.join(hello(f"web-{number}", "web", number, data=f"127.0.0.1:{4000 + number}"), Link())
        assert edge.assignment.wanted is None
        await trio.sleep(1)
    await trio.sleep(1)
    assert len(host_names(edge)) == RETURN_AT_MOST_S


async def test_the_end_of_the_window_is_not_lost_in_an_error(log, nursery, autojump_clock):
    window, errors, ended = ReturnWindow(), InternalErrors(log), []

    def on_end():
        ended.append(trio.current_time())
        if len(ended) == 1:
            raise ZeroDivisionError

    began = trio.current_time()
    window.begin(began)
    nursery.start_soon(keep_going, errors, "return of nodes", partial(window.run, on_end))
    await trio.sleep(RETURN_S + 3)
    assert [at - began for at in ended] == [pytest.approx(RETURN_S), pytest.approx(RETURN_S + RESTART_PAUSE_S)]
    assert errors.counts == {"return of nodes": 1}


@pytest.mark.parametrize(
    ("returns_s", "ends_s"),
    [
        ([], RETURN_S),
        ([1.0], RETURN_S),
        ([4.0], 4.0 + RETURN_MORE_S),
        ([4.0, 6.0], 6.0 + RETURN_MORE_S),
        ([6.0, 4.0], 6.0 + RETURN_MORE_S),
        ([19.0], RETURN_AT_MOST_S),
        ([100.0], RETURN_AT_MOST_S),
    ],
)
def test_each_node_that_returns_extends_the_window_up_to_a_limit(returns_s, ends_s):
    window = ReturnWindow()
    window.begin(0.0)
    for at in returns_s:
        window.extend(at)
    assert [window.is_over(now) for now in (ends_s - 0.1, ends_s)] == [False, True]


EDGE_BACK = NodeRecord("edge-1", "edge", hello=hello("edge-1", "edge", data=str(EDGE)))
WEB_BACK = NodeRecord("web-1", "web", hello=hello("web-1", "web", data=str(WEB)), inner=WEB)
WEB_STARTS, WEB_GONE = NodeRecord("web-1", "web", hello=hello("web-1", "web")), NodeRecord("web-1", "web")


@pytest.mark.parametrize(
    ("record", "others", "is_open", "is_over", "waits"),
    [
        (EDGE_BACK, [WEB_GONE], False, False, True),
        (EDGE_BACK, [WEB_STARTS], False, False, True),
        (EDGE_BACK, [WEB_BACK], False, False, False),
        (EDGE_BACK, [WEB_GONE], False, True, False),
        (EDGE_BACK, [WEB_BACK], True, False, True),
        (EDGE_BACK, [WEB_BACK], True, True, False),
        (EDGE_BACK, [], True, True, True),
        (attrs.evolve(EDGE_BACK, assignment=Assignment(parents=())), [WEB_GONE], False, False, False),
        (attrs.evolve(EDGE_BACK, hello=hello("edge-1", "edge")), [WEB_GONE], False, False, False),
        (WEB_BACK, [NodeRecord("edge-1", "edge")], False, False, True),
        (WEB_BACK, [EDGE_BACK], False, False, False),
        (WEB_BACK, [], True, True, False),
    ],
)
def test_a_node_that_served_before_waits_for_those_next_to_it(topology, record, others, is_open, is_over, waits):
    announced = {other.tier for other in others if other.inner is not None}
    found = waits_for_neighbours(record, topology, others, announced, is_open=is_open, is_over=is_over)
    assert found is waits


def test_agents_of_a_pool_below_have_the_whole_window(shop_with_agents):
    found = [
        waits_for_neighbours(WEB_BACK, shop_with_agents, [EDGE_BACK], {"web"}, is_open=False, is_over=is_over)
        for is_over in (False, True)
    ]
    assert found == [True, False]
