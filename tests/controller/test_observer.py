import pytest
import trio

from tests.controller.joined import AN_AGENT, ELSEWHERE, hello, link_of, row, serve_all, settle
from tierlb.controller.node_record import Link
from tierlb.controller.observer import OBSERVE_WITHIN_S
from tierlb.model.load import Echo, HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.wire.frames import Report, Watch


async def test_a_watch_goes_to_the_top_of_the_tree_and_to_those_who_join_there_later(running, autojump_clock):
    running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    running.join(hello("web-1", "web"), Link())
    await settle()
    edge, web = running.registry.records["edge-1"], running.registry.records["web-1"]
    running.observer.watch(5.0, "n0nce")
    running.observer.watch(5.0, "n0nce")
    assert list(edge.link.watches) == [Watch(5.0, "n0nce")]
    assert list(web.link.watches) == []
    await trio.sleep(1)
    late = Link()
    running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), late)
    assert list(late.watches) == [Watch(4.0), Watch(4.0, "n0nce")]


async def test_all_who_want_explanations_share_a_nonce_until_nobody_has_asked_for_its_time(running, autojump_clock):
    running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    await settle()
    link = running.registry.records["edge-1"].link
    nonce = running.observer.explain(10.0)
    assert len(nonce) >= 20
    await trio.sleep(9)
    assert running.observer.explain(10.0) == nonce
    assert list(link.watches) == [Watch(10.0, nonce)] * 2
    await trio.sleep(10)
    assert running.observer.explain(10.0) != nonce


async def test_to_observe_is_to_wait_for_rows_of_all_that_serve(running, autojump_clock, nursery):
    edge, _, _ = await serve_all(running)

    async def answer():
        await trio.lowlevel.checkpoint()
        assert edge.link.watches
        for arrivals in (100, 150):
            await trio.sleep(0.2)
            rows = tuple(row(name, "web", arrivals) for name in ("edge-1", "web-1", "web-2"))
            running.receive(edge, Report(SubtreeLoad(), Echo(), rows))

    nursery.start_soon(answer)
    started = trio.current_time()
    status = await running.observer.observe()
    assert trio.current_time() - started == pytest.approx(0.4)
    assert [node.items_per_s for node in status.tiers["web"].nodes] == [pytest.approx(250)] * 2


async def test_to_observe_is_not_to_wait_for_those_who_do_not_answer(running, autojump_clock):
    await serve_all(running)
    started = trio.current_time()
    status = await running.observer.observe()
    assert trio.current_time() - started == pytest.approx(OBSERVE_WITHIN_S)
    assert status.tiers["web"].nodes[0].load is None


async def test_an_agent_is_not_told_how_requests_are_explained_and_says_nothing_of_others(with_agents, autojump_clock):
    with_agents.observer.explain(60.0)
    agent, web = with_agents.join(ELSEWHERE, link_of(AN_AGENT)), with_agents.join(hello("web-1", "web"), Link())
    with_agents.observer.watch(30.0, "nonce")
    assert {watch.explain for watch in agent.link.watches} == {""}
    assert "nonce" in {watch.explain for watch in web.link.watches}
    rows = tuple(
        NodeRow(name, "web", 0.0, NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (HostLoad("app-2", 0, 0, 9),)), SubtreeLoad())
        for name in ("app-1", "web-1")
    )
    with_agents.receive(agent, Report(SubtreeLoad(), Echo(), rows))
    assert with_agents.registry.records["app-1"].reports.row.own.hosts == ()
    assert with_agents.registry.records["web-1"].reports.row is None
