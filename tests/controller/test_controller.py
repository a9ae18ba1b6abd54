import attrs
import pytest
import trio

from tests.control_plane import tier
from tierlb.channel.admission import by_ticket
from tierlb.controller.admin_states import AdminState
from tierlb.controller.controller import (
    AGENT_GONE_S,
    ASK_REFUSERS_S,
    BACK_AT_MOST_S,
    BACK_S,
    MORE_S,
    NODE_GONE_S,
    OBSERVE_WITHIN_S,
    Controller,
    Unwelcome,
)
from tierlb.controller.engine import Engine
from tierlb.controller.node_record import Link
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address, parse_address
from tierlb.model.load import Echo, HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.topology import Admin, Kind, Tls
from tierlb.net.websocket_upgrade import Caller
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import Ack, Drain, Hello, Parent, Refuse, Report, Watch

EDGE = Address("127.0.0.1", 8080)
WEB = Address("127.0.0.1", 4001)
ENDPOINT = Address("127.0.0.1", 20001)


def hello(node, tier, pid=1, boot_id="one", control="", data=""):
    return Hello(1, node, tier, boot_id, pid, control, data)


WEB_1_OUT = AdminState("web", "web-1", Admin.DRAIN)


@pytest.fixture
async def running(controller, nursery):
    nursery.start_soon(controller.run)
    return controller


async def settle():
    await trio.sleep(1)


async def serve(controller, node, tier, address, pid=1, boot_id="one"):
    """Join a node and let it ack what it is given."""
    record = controller.join(hello(node, tier, pid, boot_id), Link())
    await settle()
    controller.receive(record, Ack(record.wanted.revision, (address,)))
    await settle()
    return record


async def serve_all(controller):
    controller.note_endpoint("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    records = [
        await serve(controller, "edge-1", "edge", EDGE, 1),
        await serve(controller, "web-1", "web", WEB, 2),
        await serve(controller, "web-2", "web", Address("127.0.0.1", 4002), 3),
    ]
    controller.receive(records[0], Ack(records[0].wanted.revision, (EDGE,)))
    return records


def hosts(record):
    return [host.name for host in record.wanted.rules[0].action.destinations[0].hosts]


async def test_a_child_that_bound_its_ports_becomes_a_member_of_its_parent(running, autojump_clock):
    edge = await serve(running, "edge-1", "edge", EDGE)
    assert hosts(edge) == []
    await serve(running, "web-1", "web", WEB)
    assert hosts(edge) == ["web-1"]
    assert edge.wanted.revision == 3


async def test_a_node_whose_configuration_is_the_same_is_left_alone(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    edge_before, web_before = edge.wanted, web.wanted
    running.note_endpoint("demo", EndpointStatus(Address("127.0.0.1", 20002), State.SERVING, 10))
    await settle()
    assert edge.wanted is edge_before
    assert web.wanted.revision > web_before.revision


async def test_changes_that_come_together_are_one_snapshot(running, autojump_clock):
    for node in ("web-1", "web-2"):
        running.join(hello(node, "web"), Link())
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    await settle()
    assert {running.records[node].wanted.revision for node in ("web-1", "web-2")} == {1}


async def test_a_status_counts_as_the_history_does_whatever_was_published(running, autojump_clock):
    running.revision = 5
    edge, *_ = await serve_all(running)
    assert edge.wanted.revision > 1
    assert edge.wanted.accepted == 5
    assert revisions(running) == (5, {5})
    running.revision = 6
    assert revisions(running) == (6, {6}), "it means the same for each of them"


async def test_a_node_shows_the_revision_that_it_serves_until_it_has_taken_the_next(running, autojump_clock):
    running.revision = 5
    await serve_all(running)
    running.revision = 6
    running.note_endpoint("demo", EndpointStatus(Address("127.0.0.1", 20009), State.SERVING, 10))
    await settle()
    web = running.records["web-1"]
    assert web.served != web.wanted.revision
    assert running.status().tiers["web"].nodes[0].revision == 5
    running.receive(web, Ack(web.wanted.revision, web.addresses))
    assert running.status().tiers["web"].nodes[0].revision == 6


def revisions(controller):
    status = controller.status()
    return status.revision, {node.revision for tier in status.tiers.values() for node in tier.nodes}


async def test_what_is_waited_for_is_told_by_tier_and_pool(running, autojump_clock):
    assert running.waiting() == (
        "edge: 0 of 1 node serve; edge-1 has not joined",
        "web: 0 of 2 nodes serve; web-1 has not joined; web-2 has not joined",
    )
    await serve_all(running)
    assert running.status().waiting == ()
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.GONE))
    await settle()
    assert "demo: 0 of 1 endpoint accept connections" in running.status().waiting


async def test_a_cluster_that_starts_does_not_serve_before_it_is_said_to(running, autojump_clock):
    running.starting = True
    await serve_all(running)
    assert (running.status().serving, running.status().starting) == (False, True)
    running.starting = False
    assert (running.status().serving, running.status().starting) == (True, False)


async def test_the_tree_serves_when_nothing_is_missing(running, autojump_clock):
    assert running.missing()[0] == "edge-1 has not joined"
    await serve_all(running)
    assert running.missing() == ()
    assert running.status().serving


async def test_an_endpoint_that_does_not_accept_is_no_member_and_is_missing(running, autojump_clock):
    await serve_all(running)
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.GONE))
    await settle()
    assert hosts(running.records["web-1"]) == []
    assert "pool demo: 127.0.0.1:20001 does not accept connections yet" in running.missing()
    assert not running.status().serving


async def test_a_node_that_only_lost_its_socket_stays_a_member(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    running.lost(web, web.link)
    await settle()
    assert hosts(edge) == ["web-1", "web-2"]
    assert not running.status().tiers["web"].nodes[0].connected


async def test_a_node_whose_process_ended_is_withdrawn(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    link = web.link
    running.exited("web-1", 2)
    await settle()
    assert hosts(edge) == ["web-2"]
    assert link.replaced
    assert running.status().tiers["web"].nodes[0].state is State.GONE


async def test_the_end_of_an_earlier_process_does_not_withdraw_its_successor(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.exited("web-1", 77)
    await settle()
    assert hosts(edge) == ["web-1", "web-2"]


async def test_a_draining_node_is_sent_nothing_new(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    running.receive(web, Drain())
    await settle()
    assert hosts(edge) == ["web-2"]
    assert web.state is State.DRAINING


async def test_what_a_draining_node_placed_below_is_to_end(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    assert web.wanted.parents == ("edge-1/" + edge.hello.boot_id,)
    running.receive(edge, Drain())
    await settle()
    assert web.wanted.parents == ()


async def test_a_reconnected_node_keeps_its_place_and_replaces_its_old_link(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    old, new = web.link, Link()
    assert running.join(hello("web-1", "web", 2), new) is web
    assert (old.replaced, new.replaced) == (True, False)
    running.lost(web, old)
    assert web.link is new
    assert hosts(edge) == ["web-1", "web-2"]


async def test_a_restarted_node_is_a_member_again_at_its_new_address(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.exited("web-1", running.records["web-1"].hello.pid)
    await settle()
    assert hosts(edge) == ["web-2"]
    record = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    running.receive(record, Ack(record.wanted.revision, (Address("127.0.0.1", 4999),)))
    await settle()
    assert edge.wanted.rules[0].action.destinations[0].hosts[0].address.port == 4999


async def test_a_process_that_takes_over_leaves_the_old_address_until_it_serves_itself(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    before = edge.wanted.rules[0].action.destinations[0].hosts
    old = running.records["web-1"]
    record = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    assert edge.wanted.rules[0].action.destinations[0].hosts == before
    running.receive(record, Ack(record.wanted.revision, (Address("127.0.0.1", 4999),)))
    running.exited("web-1", old.hello.pid)
    await settle()
    members_now = edge.wanted.rules[0].action.destinations[0].hosts
    assert [host.address.port for host in members_now if host.name == "web-1"] == [4999]


async def test_a_node_that_the_topology_names_no_more_gets_no_traffic_and_goes_with_its_process(
    running, topology, autojump_clock
):
    edge, _, web2 = await serve_all(running)
    smaller = attrs.evolve(topology.tiers["web"], replicas=1)
    running.adopt(attrs.evolve(topology, tiers={**topology.tiers, "web": smaller}))
    await settle()
    assert hosts(edge) == ["web-1"]
    assert running.records["web-2"].state is State.DRAINING
    running.exited("web-2", web2.hello.pid)
    assert "web-2" not in running.records


async def test_a_new_tier_is_expected_and_its_parents_hear_of_it_when_it_serves(running, topology, autojump_clock):
    edge, _, _ = await serve_all(running)
    mid = tier("mid", Kind.L7, "web")
    moved = tier("edge", Kind.L4, "mid", listen=topology.tiers["edge"].listen)
    running.adopt(attrs.evolve(topology, tiers={"edge": moved, "mid": mid, "web": topology.tiers["web"]}))
    assert "mid-1 has not joined" in running.missing()
    record = running.join(hello("mid-1", "mid", 77), Link())
    await settle()
    running.receive(record, Ack(record.wanted.revision, (Address("127.0.0.1", 4777),)))
    await settle()
    assert hosts(edge) == ["mid-1"]


async def test_what_an_operator_wants_of_a_node_reaches_it_and_its_parents(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    running.want((WEB_1_OUT,))
    await settle()
    assert web1.wanted.admin is Admin.DRAIN
    states = {m.name: m.admin for m in edge.wanted.rules[0].action.destinations[0].hosts}
    assert states == {"web-1": Admin.DRAIN, "web-2": Admin.READY}
    running.want(())
    await settle()
    assert web1.wanted.admin is Admin.READY


async def test_of_another_that_has_the_name_of_a_drained_one_nothing_is_wanted(running, autojump_clock):
    _, web1, _ = await serve_all(running)
    running.want((AdminState("app", "web-1", Admin.DRAIN),))
    await settle()
    assert (web1.wanted.admin, running.admin) == (Admin.READY, {})


async def test_internal_errors_of_the_controller_are_in_its_status(controller):
    assert controller.status().internal_errors == 0
    with controller.errors.barrier("reaper"):
        raise ZeroDivisionError
    assert controller.status().internal_errors == 1


async def test_what_drained_nodes_lack_can_be_left_out(running, autojump_clock):
    await serve_all(running)
    running.exited("web-1", running.records["web-1"].hello.pid)
    running.want((WEB_1_OUT,))
    assert [phrase for phrase in running.missing() if "web-1" in phrase] == ["web-1 has not joined"]
    assert not [phrase for phrase in running.missing(drained=False) if "web-1" in phrase]


@pytest.mark.parametrize(("node", "tier"), [("db-1", "db"), ("web-1", "edge")])
def test_a_node_of_no_such_tier_is_turned_away(controller, node, tier):
    with pytest.raises(Unwelcome, match="check --name and --tier"):
        controller.join(hello(node, tier), Link())
    assert set(controller.records) == {"edge-1", "web-1", "web-2"}


async def test_a_refusal_is_told_until_a_later_snapshot_is_served(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.receive(edge, Refuse(edge.wanted.revision - 1, "of something older"))
    assert running.missing() == ()
    running.receive(edge, Refuse(edge.wanted.revision, "port taken"))
    assert "edge-1 refused its configuration: port taken" in running.missing()
    running.receive(edge, Ack(edge.wanted.revision, (EDGE,)))
    assert running.missing() == ()


def row(node, tier, arrivals, age_s=0.0, hosts=()):
    load = NodeLoad(1, 2, 3, 0, 0, 0, 0, 0.5, hosts)
    return NodeRow(node, tier, age_s, load, SubtreeLoad(capacity=9.0, arrivals=arrivals))


async def test_the_rate_is_what_came_between_two_rows(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    for arrivals in (100, 150):
        running.receive(edge, Report(SubtreeLoad(), Echo(), (row("web-1", "web", arrivals),)))
        await trio.sleep(0.5)
    status = running.status().tiers["web"].nodes[0]
    assert status.items_per_s == pytest.approx(100)
    assert status.report_age_s == pytest.approx(0.5)
    assert (status.load.items, status.subtree.arrivals, status.subtree.capacity) == (3, 150, 9.0)


async def test_each_node_is_told_who_its_parents_are_as_they_come_and_go(running, autojump_clock):
    running.join(hello("web-1", "web", 2), Link())
    await settle()
    web = running.records["web-1"]
    assert web.parents == ()
    woken = web.link.wake
    running.join(hello("edge-1", "edge", 1, control="127.0.0.1:7001"), Link())
    await settle()
    assert web.parents == (Parent("edge-1", "ws://127.0.0.1:7001"),)
    assert woken.is_set()
    assert running.records["edge-1"].parents == ()
    running.exited("edge-1", 1)
    await settle()
    assert web.parents == ()


async def test_a_parent_that_only_lost_its_socket_or_drains_stays_a_parent(running, autojump_clock):
    record = running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    running.join(hello("web-1", "web"), Link())
    running.lost(record, record.link)
    running.receive(record, Drain())
    await settle()
    assert [parent.name for parent in running.records["web-1"].parents] == ["edge-1"]


async def test_with_tls_the_parents_are_joined_by_wss(topology, log, nursery, autojump_clock):
    controller = Controller(attrs.evolve(topology, tls=Tls("c", "k", "a")), log)
    nursery.start_soon(controller.run)
    controller.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    controller.join(hello("web-1", "web"), Link())
    await settle()
    assert controller.records["web-1"].parents == (Parent("edge-1", "wss://127.0.0.1:7001"),)


async def test_a_watch_goes_to_the_top_of_the_tree_and_to_those_who_join_there_later(running, autojump_clock):
    running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    running.join(hello("web-1", "web"), Link())
    await settle()
    edge, web = running.records["edge-1"], running.records["web-1"]
    running.watch(5.0, "n0nce")
    running.watch(5.0, "n0nce")
    assert list(edge.link.watches) == [Watch(5.0, "n0nce")]
    assert list(web.link.watches) == []
    await trio.sleep(1)
    late = Link()
    running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), late)
    assert list(late.watches) == [Watch(4.0), Watch(4.0, "n0nce")]


async def test_all_who_want_explanations_share_a_nonce_until_nobody_has_asked_for_its_time(running, autojump_clock):
    running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    await settle()
    link = running.records["edge-1"].link
    nonce = running.explain(10.0)
    assert len(nonce) >= 20
    await trio.sleep(9)
    assert running.explain(10.0) == nonce
    assert list(link.watches) == [Watch(10.0, nonce)] * 2
    await trio.sleep(10)
    assert running.explain(10.0) != nonce


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
    status = await running.observe()
    assert trio.current_time() - started == pytest.approx(0.4)
    assert [node.items_per_s for node in status.tiers["web"].nodes] == [pytest.approx(250)] * 2


async def test_to_observe_is_not_to_wait_for_those_who_do_not_answer(running, autojump_clock):
    await serve_all(running)
    started = trio.current_time()
    status = await running.observe()
    assert trio.current_time() - started == pytest.approx(OBSERVE_WITHIN_S)
    assert status.tiers["web"].nodes[0].load is None


async def test_endpoints_are_shown_as_the_nodes_see_them(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    host = HostLoad(f"demo/{ENDPOINT}", 1, 2, 3, "ejected")
    running.receive(edge, Report(SubtreeLoad(), Echo(), (row("web-1", "web", 1, hosts=(host,)),)))
    (endpoint,) = running.status().pools["demo"].endpoints
    assert (endpoint.seen_by, endpoint.observed) == ({"web-1": host}, "ejected")


@pytest.fixture
async def with_agents(shop_with_agents, log, nursery):
    controller = Controller(shop_with_agents, log)
    nursery.start_soon(controller.run)
    return controller


AGENT = hello("app-1", "apps", 9, data="127.0.0.1:9001")


async def test_a_pool_that_fills_itself_may_be_empty_in_a_tree_that_serves(with_agents, autojump_clock):
    assert not with_agents.status().serving
    await serve_all(with_agents)
    status = with_agents.status()
    assert (status.serving, status.pools["apps"].endpoints) == (True, ())


async def test_a_pool_found_by_name_need_not_be_watched_for_the_tree_to_serve(open_to_all, autojump_clock):
    assert not open_to_all.status().serving
    await come(open_to_all, "edge-a", "edge", 8080)
    await come(open_to_all, "web-a", "web", 4001)
    status = open_to_all.status()
    assert (status.serving, status.pools["demo"].endpoints) == (True, ())


async def test_after_a_restart_an_edge_is_told_nothing_until_all_below_it_are_back(running, autojump_clock):
    edge = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    web = running.join(hello("web-1", "web", 2, control="127.0.0.1:7002", data=str(WEB)), Link())
    await settle()
    assert (edge.wanted, edge.parents) == (None, None)
    assert web.wanted.revision == 1
    running.join(hello("web-2", "web", 3, data="127.0.0.1:4002"), Link())
    await settle()
    assert [(m.name, m.address.port) for m in edge.wanted.rules[0].action.destinations[0].hosts] == [
        ("web-1", 4001),
        ("web-2", 4002),
    ]


async def test_after_a_restart_a_child_keeps_its_parents_until_all_are_back(running, autojump_clock):
    web = running.join(hello("web-1", "web", 2, data=str(WEB)), Link())
    await settle()
    assert (web.wanted, web.parents) == (None, None)
    running.join(hello("edge-1", "edge", 1, control="127.0.0.1:7001", data=str(EDGE)), Link())
    await settle()
    assert web.parents == (Parent("edge-1", "ws://127.0.0.1:7001"),)


async def test_who_does_not_come_back_is_not_waited_for_for_ever(running, autojump_clock):
    edge = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    running.join(hello("web-1", "web", 2, data=str(WEB)), Link())
    await trio.sleep(BACK_S - 1)
    assert edge.wanted is None
    await trio.sleep(2)
    assert hosts(edge) == ["web-1"]


async def test_later_than_after_a_restart_nobody_waits(running, autojump_clock):
    await trio.sleep(BACK_S + 1)
    edge = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    await settle()
    assert hosts(edge) == []


async def test_after_a_restart_agents_have_time_to_come_back(with_agents, autojump_clock):
    running = with_agents
    running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    web = running.join(hello("web-1", "web", 2, data=str(WEB)), Link())
    running.join(hello("web-2", "web", 3, data="127.0.0.1:4002"), Link())
    await trio.sleep(BACK_S - 1)
    running.join(AGENT, Link())
    assert web.wanted is None
    await trio.sleep(2)
    assert hosts(web) == ["app-1"]


async def web_of(controller):
    record = controller.join(hello("web-1", "web", control="127.0.0.1:7002"), Link())
    await settle()
    return record


async def test_an_agent_is_a_member_from_its_hello_and_reports_to_the_pools_parents(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    await settle()
    (host,) = web.wanted.rules[0].action.destinations[0].hosts
    assert (host.name, str(host.address), host.reports) == ("app-1", "127.0.0.1:9001", True)
    assert agent.parents == (Parent("web-1", "ws://127.0.0.1:7002"),)
    assert (agent.wanted, agent.state) == (None, State.SERVING)
    status = with_agents.status().pools["apps"]
    assert [(e.name, e.state, e.pid) for e in status.endpoints] == [("app-1", State.SERVING, 9)]
    assert [node.name for node in status.agents] == ["app-1"]


async def test_an_agent_that_drains_is_no_member_and_gone_with_its_socket(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    await settle()
    with_agents.receive(agent, Drain())
    await settle()
    assert hosts(web) == []
    assert "app-1" in with_agents.records
    with_agents.lost(agent, agent.link)
    assert "app-1" not in with_agents.records


async def test_an_agent_that_is_away_is_a_member_for_ten_more_seconds(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    with_agents.lost(agent, agent.link)
    await trio.sleep(AGENT_GONE_S - 1)
    assert hosts(web) == ["app-1"]
    agent = with_agents.join(AGENT, Link())
    await trio.sleep(AGENT_GONE_S * 2)
    assert hosts(web) == ["app-1"]
    with_agents.lost(agent, agent.link)
    await trio.sleep(AGENT_GONE_S + 2)
    assert hosts(web) == []
    assert "app-1" not in with_agents.records


async def test_an_agent_leaves_only_while_the_nodes_are_there(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    with_agents.lost(agent, agent.link)
    with_agents.lost(web, web.link)
    await trio.sleep(AGENT_GONE_S * 3)
    with_agents.join(web.hello, Link())
    await trio.sleep(AGENT_GONE_S - 2)
    assert hosts(web) == ["app-1"]
    await trio.sleep(5)
    assert hosts(web) == []


async def test_an_agent_that_restarts_elsewhere_is_sent_to_there(with_agents, autojump_clock):
    web = await web_of(with_agents)
    with_agents.join(AGENT, Link())
    with_agents.join(attrs.evolve(AGENT, boot_id="two", data="127.0.0.1:9002"), Link())
    await settle()
    (host,) = web.wanted.rules[0].action.destinations[0].hosts
    assert host.address.port == 9002


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (attrs.evolve(AGENT, data=""), "without an address: give --address"),
        (attrs.evolve(AGENT, node="web-1"), "check --name and --tier"),
        (attrs.evolve(AGENT, tier="web", node="app-1x"), None),
    ],
)
async def test_an_agent_needs_an_address_and_a_name_of_its_own(shop_with_agents, log, who, reason):
    controller = Controller(shop_with_agents, log)
    if reason is None:
        assert not controller.join(who, Link()).agent
    else:
        with pytest.raises(Unwelcome, match=reason):
            controller.join(who, Link())


async def test_a_pool_without_agents_takes_none(controller):
    with pytest.raises(Unwelcome):
        controller.join(attrs.evolve(AGENT, tier="demo"), Link())


def test_agents_are_not_waited_for_when_the_cluster_starts(shop_with_agents, log):
    phrases = Controller(shop_with_agents, log).missing()
    assert phrases == ("edge-1 has not joined", "web-1 has not joined", "web-2 has not joined")


async def test_there_is_an_end_to_how_many_may_join(shop_with_agents, log, monkeypatch):
    monkeypatch.setattr("tierlb.controller.controller.MAX_RECORDS", 5)
    controller = Controller(shop_with_agents, log)
    for number in (1, 2):
        controller.join(attrs.evolve(AGENT, node=f"app-{number}"), Link())
    with pytest.raises(Unwelcome, match="5 nodes and agents already"):
        controller.join(attrs.evolve(AGENT, node="app-3"), Link())


async def test_a_process_that_was_taken_over_from_does_not_get_its_record_back(running, autojump_clock):
    await serve_all(running)
    old = running.records["web-1"].hello
    running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    with pytest.raises(Unwelcome, match="took over"):
        running.join(old, Link())
    running.exited("web-1", 22)
    assert running.join(old, Link()).hello is old


async def test_a_process_that_fails_to_take_over_leaves_everything_as_it_was(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    before = edge.wanted.rules
    record = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    assert (record.served, running.records["web-1"]) == (0, record)
    running.exited("web-1", 22)
    await settle()
    assert running.records["web-1"] is web1
    assert (edge.wanted.rules, web1.state) == (before, State.SERVING)
    assert web1.hello.pid == 2


async def test_the_end_of_a_process_that_was_taken_over_from_is_nobodys_loss(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    record = await serve(running, "web-1", "web", Address("127.0.0.1", 4999), pid=22, boot_id="two")
    running.exited("web-1", web1.hello.pid)
    await settle()
    assert (running.records["web-1"], hosts(edge)) == (record, ["web-1", "web-2"])
    running.exited("web-1", 22)
    await settle()
    assert hosts(edge) == ["web-2"]
    assert running.records["web-1"].hello is None


async def test_where_the_new_process_is_lost_the_old_one_may_come_back(running, autojump_clock):
    _, web1, _ = await serve_all(running)
    link = Link()
    record = running.join(hello("web-1", "web", 22, boot_id="two"), link)
    running.lost(record, link)
    assert running.join(web1.hello, Link()).hello == web1.hello


async def test_a_refusal_of_what_is_wanted_no_more_says_nothing(running, topology, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.receive(edge, Refuse(edge.wanted.revision, "port taken"))
    assert running.refused() == "edge-1 refused its configuration: port taken"
    moved = attrs.evolve(topology.tiers["edge"], listen=Address("127.0.0.1", 8081))
    running.adopt(attrs.evolve(topology, tiers={**topology.tiers, "edge": moved}))
    assert running.refused() == "", "at once, not only when it is told something else"
    await settle()
    assert (edge.refusal, running.refused()) == ("", "")


async def test_local_endpoints_that_do_not_accept_are_named(running, autojump_clock):
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.STARTING, 9))
    assert running.unready_endpoints() == ("pool demo: 127.0.0.1:20001 does not accept connections yet",)
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    assert running.unready_endpoints() == ()


async def test_a_node_that_is_about_to_be_stopped_ends_its_connections_though_it_is_named_no_more(
    running, topology, autojump_clock
):
    _, _, web2 = await serve_all(running)
    before = web2.wanted
    smaller = attrs.evolve(topology.tiers["web"], replicas=1)
    running.adopt(attrs.evolve(topology, tiers={**topology.tiers, "web": smaller}))
    await settle()
    assert web2.wanted is before
    running.retire(["web-2"])
    await settle()
    assert attrs.evolve(web2.wanted, revision=before.revision, admin=Admin.READY) == before
    assert web2.wanted.admin is Admin.DRAIN


async def test_a_node_knows_all_processes_through_which_connections_may_come(topology, log, nursery, autojump_clock):
    edge = attrs.evolve(topology.tiers["edge"], listen=None)
    front = tier("front", Kind.L4, "edge", listen=Address("127.0.0.1", 8080))
    controller = Controller(attrs.evolve(topology, tiers={**topology.tiers, "edge": edge, "front": front}), log)
    nursery.start_soon(controller.run)
    for name, pid in (("front-1", 1), ("edge-1", 2), ("web-1", 3)):
        controller.join(hello(name, name[:-2], pid, boot_id=f"b{pid}"), Link())
    await settle()
    assert controller.records["web-1"].wanted.parents == ("edge-1/b2", "front-1/b1")
    controller.retire(["front-1"])
    await settle()
    assert controller.records["web-1"].wanted.parents == ("edge-1/b2",)


async def test_a_process_that_is_started_again_before_it_is_stopped_gets_nothing(running, topology, autojump_clock):
    """It is named no more, and crashed meanwhile; when it is named again, all is forgotten."""
    edge, _, _ = await serve_all(running)
    smaller = attrs.evolve(topology.tiers["web"], replicas=1)
    running.adopt(attrs.evolve(topology, tiers={**topology.tiers, "web": smaller}))
    running.exited("web-2", 3)
    assert "web-2" not in running.records
    running.join(hello("web-2", "web", 33, boot_id="two"), Link())
    await settle()
    assert (hosts(edge), running.records["web-2"].wanted) == (["web-1"], None)
    assert not any("web-2" in phrase for phrase in running.missing())
    running.exited("web-2", 33)
    assert "web-2" not in running.records
    running.adopt(topology)
    record = running.join(hello("web-2", "web", 34, boot_id="three"), Link())
    await settle()
    assert (record.leaving, record.wanted is not None) == (False, True)


async def test_who_has_settled_can_be_asked_of_some(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    assert running.settled()
    running.want((WEB_1_OUT,))
    await settle()
    running.receive(edge, Ack(edge.wanted.revision, (EDGE,)))
    assert (running.settled(), running.settled(["edge-1", "web-2"]), running.settled(["web-1"])) == (False, True, False)
    running.receive(web1, Refuse(web1.wanted.revision, "no"))
    assert (bool(running.refused()), running.refused(["edge-1"])) == (True, "")


# Open membership: somebody else starts the processes.


@pytest.fixture
async def open_to_all(topology, log, nursery):
    controller = Controller(topology, log, engine=Engine("{pool}:9000"))
    nursery.start_soon(controller.run)
    return controller


async def come(controller, node, tier, port, boot_id="one", control=""):
    record = controller.join(attrs.evolve(hello(node, tier, port, boot_id), control=control), Link())
    await settle()
    controller.receive(record, Ack(record.wanted.revision, (Address("127.0.0.1", port),)))
    await settle()
    return record


async def test_any_node_of_a_tier_is_taken_in_and_makes_the_tier_larger(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a1b2", "edge", 8080)
    assert open_to_all.missing() == ("no node of web has joined",)
    for number in range(5):
        await come(open_to_all, f"web-{number}x", "web", 4000 + number)
    assert hosts(edge) == [f"web-{number}x" for number in range(5)]
    assert edge.wanted.rules[0].action.destinations[0].hosts[0].parents == 1
    web = open_to_all.records["web-0x"].wanted
    assert [(pool.name, pool.dns) for pool in web.pools] == [("demo", "demo:9000")]
    assert open_to_all.expected(open_to_all.topology.tiers["web"]) == tuple(f"web-{n}x" for n in range(5))
    with pytest.raises(Unwelcome, match="is not a node of tier"):
        open_to_all.join(hello("mid-1", "mid"), Link())


async def test_nodes_that_are_found_by_one_name_are_one_parent(open_to_all, autojump_clock):
    await come(open_to_all, "edge-a", "edge", 8080, control="edge:7946")
    await come(open_to_all, "edge-b", "edge", 8081, control="edge:7946")
    web = await come(open_to_all, "web-a", "web", 4001)
    assert web.parents == (Parent("edge", "ws://edge:7946"),)


async def test_a_node_that_drains_is_gone_with_its_connection(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    web = await come(open_to_all, "web-a", "web", 4001)
    open_to_all.receive(web, Drain())
    await settle()
    assert hosts(edge) == []
    open_to_all.lost(web, web.link)
    assert "web-a" not in open_to_all.records


async def test_one_of_many_that_is_away_for_long_leaves(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    webs = [await come(open_to_all, f"web-{n}", "web", 4000 + n) for n in range(2)]
    open_to_all.lost(webs[0], webs[0].link)
    await trio.sleep(NODE_GONE_S - 2)
    assert hosts(edge) == ["web-0", "web-1"]
    await trio.sleep(5)
    assert hosts(edge) == ["web-1"]
    assert "web-0" not in open_to_all.records


async def test_where_most_of_a_tier_is_away_nobody_leaves(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    webs = [await come(open_to_all, f"web-{n}", "web", 4000 + n) for n in range(3)]
    for web in webs[:2]:
        open_to_all.lost(web, web.link)
    await trio.sleep(NODE_GONE_S * 3)
    assert hosts(edge) == ["web-0", "web-1", "web-2"]


async def test_when_all_were_away_for_long_each_is_given_the_time_to_come_back(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    webs = [await come(open_to_all, f"web-{n}", "web", 4000 + n) for n in range(4)]
    for web in webs:
        open_to_all.lost(web, web.link)
    await trio.sleep(NODE_GONE_S * 3)
    for web in webs[:2]:
        open_to_all.join(web.hello, Link())
    await trio.sleep(NODE_GONE_S - 2)
    open_to_all.join(webs[2].hello, Link())
    assert hosts(edge) == ["web-0", "web-1", "web-2", "web-3"]
    await trio.sleep(5)
    assert hosts(edge) == ["web-0", "web-1", "web-2"]


async def test_one_that_restarts_under_its_name_is_another_process_of_the_same_node(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    web = await come(open_to_all, "web-a", "web", 4001)
    open_to_all.lost(web, web.link)
    again = await come(open_to_all, "web-a", "web", 4009, boot_id="two")
    assert again.former is None
    assert [str(m.address) for m in edge.wanted.rules[0].action.destinations[0].hosts] == ["127.0.0.1:4009"]


async def test_a_node_of_a_tier_that_is_named_no_more_goes_with_its_connection(open_to_all, topology, autojump_clock):
    await come(open_to_all, "edge-a", "edge", 8080)
    web = await come(open_to_all, "web-a", "web", 4001)
    straight = tier("edge", Kind.L4, "demo", listen=Address("127.0.0.1", 8080))
    open_to_all.adopt(attrs.evolve(topology, tiers={"edge": straight}))
    await settle()
    assert web.state is State.DRAINING
    open_to_all.lost(web, web.link)
    assert "web-a" not in open_to_all.records


async def test_after_a_restart_who_comes_back_is_given_time(topology, log, nursery, autojump_clock):
    controller = Controller(topology, log, engine=Engine("{pool}:9000"))
    nursery.start_soon(controller.run)
    edge = controller.join(hello("edge-a", "edge", 1, data=str(EDGE)), Link())
    await trio.sleep(BACK_S - 1)
    controller.join(hello("web-a", "web", 2, data=str(WEB)), Link())
    await trio.sleep(MORE_S - 1)
    assert edge.wanted is None
    await trio.sleep(2)
    assert hosts(edge) == ["web-a"]


async def test_one_that_serves_is_not_told_that_nobody_is_below_it_because_nobody_is_back(
    topology, log, nursery, autojump_clock
):
    controller = Controller(topology, log, engine=Engine("{pool}:9000"))
    nursery.start_soon(controller.run)
    await trio.sleep(BACK_S * 2)
    edge = controller.join(hello("edge-a", "edge", 1, data=str(EDGE)), Link())
    await trio.sleep(NODE_GONE_S)
    assert edge.wanted is None
    fresh = controller.join(hello("edge-b", "edge", 2), Link())
    await settle()
    assert hosts(fresh) == []
    controller.join(hello("web-a", "web", 3, data=str(WEB)), Link())
    await settle()
    assert hosts(edge) == hosts(fresh) == ["web-a"]


async def test_who_waits_for_others_does_not_wait_for_ever(topology, log, nursery, autojump_clock):
    controller = Controller(topology, log, engine=Engine("{pool}:9000"))
    nursery.start_soon(controller.run)
    edge = controller.join(hello("edge-a", "edge", 1, data=str(EDGE)), Link())
    for number in range(int(BACK_AT_MOST_S)):
        controller.join(hello(f"web-{number}", "web", number, data=f"127.0.0.1:{4000 + number}"), Link())
        assert edge.wanted is None
        await trio.sleep(1)
    await trio.sleep(1)
    assert len(hosts(edge)) == BACK_AT_MOST_S


async def test_endpoints_that_nodes_find_by_name_are_shown_as_they_see_them(open_to_all, autojump_clock):
    await come(open_to_all, "edge-a", "edge", 8080)
    await come(open_to_all, "web-a", "web", 4001)
    seen = HostLoad("demo/10.0.0.7:9000", 2, 30, 0, "available", 90.0, 1.0, 0.0)
    controller = open_to_all
    controller.receive(
        controller.records["edge-a"], Report(SubtreeLoad(), Echo(), (row("web-a", "web", 30, 0.0, (seen,)),))
    )
    (endpoint,) = controller.status().pools["demo"].endpoints
    assert (str(endpoint.address), endpoint.seen_by) == ("10.0.0.7:9000", {"web-a": seen})


async def test_a_revision_that_cannot_be_made_is_made_a_moment_later(running, monkeypatch, autojump_clock):
    works = Controller._publish
    failed = []

    def fail(self):
        monkeypatch.setattr(Controller, "_publish", works)
        failed.append(self)
        raise ValueError

    monkeypatch.setattr(Controller, "_publish", fail)
    record = running.join(hello("web-1", "web", 2), Link())
    await settle()
    assert (failed, record.wanted) == ([running], None)
    await settle()
    assert record.wanted is not None
    await serve_all(running)
    assert running.missing() == ()
    assert running.errors.counts == {"publishing": 1}


async def test_a_look_for_who_is_gone_that_fails_is_followed_by_others(running, monkeypatch, autojump_clock):
    def fail(self, now):
        monkeypatch.undo()
        raise ZeroDivisionError

    await serve_all(running)
    record = running.join(hello("web-1", "web", 22, "two"), Link())
    await settle()
    first = record.wanted
    running.receive(record, Refuse(first.revision, "no descriptor is free"))
    monkeypatch.setattr(Controller, "_ask_refusers", fail)
    await trio.sleep(ASK_REFUSERS_S + 4)
    assert record.wanted.revision > first.revision
    assert running.errors.counts == {"reaper": 1}


async def test_the_end_of_waiting_for_nodes_to_come_back_is_not_lost_in_an_error(running, monkeypatch, autojump_clock):
    works = Controller._changed

    def fail(self):
        if trio.current_time() < running._all_back_s:
            return works(self)
        monkeypatch.undo()
        raise ZeroDivisionError

    await settle()
    back = running.join(hello("edge-1", "edge", 1, data=str(EDGE)), Link())
    await settle()
    assert back.wanted is None, "it serves on until the others are back"
    monkeypatch.setattr(Controller, "_changed", fail)
    await trio.sleep(BACK_S + 3)
    assert back.wanted is not None
    assert running.errors.counts == {"return of nodes": 1}


async def test_a_node_that_refused_is_asked_again_until_it_serves(running, autojump_clock):
    await serve_all(running)
    record = running.join(hello("web-1", "web", 22, "two"), Link())
    await settle()
    for _ in range(2):
        first = record.wanted
        running.receive(record, Refuse(first.revision, "no descriptor is free"))
        assert "no descriptor is free" in running.refused()
        await trio.sleep(ASK_REFUSERS_S - 2)
        assert record.wanted == first
        await trio.sleep(4)
        assert attrs.evolve(record.wanted, revision=first.revision) == first
        assert record.wanted.revision > first.revision
        assert "no descriptor is free" in running.refused(), "it is the reason until it serves"
    running.receive(record, Ack(record.wanted.revision, (WEB,)))
    served = record.wanted
    await trio.sleep(3 * ASK_REFUSERS_S)
    assert (record.wanted, running.refused()) == (served, "")


# Who may join, as what and in whose place.


def link_of(principal, host="10.0.0.7"):
    return Link(caller=Caller(principal, host))


THERE = attrs.evolve(AGENT, data="10.0.0.7:9001")
AN_AGENT, A_NODE = Principal(Role.AGENT, "apps", "app-1"), Principal(Role.NODE, "web", "web-1")


@pytest.mark.parametrize(
    ("principal", "said", "reason"),
    [
        (AN_AGENT, hello("web-1", "web"), "for agent app-1 of pool apps, not for node web-1"),
        (Principal(Role.NODE), AGENT, "for all nodes, not for agent app-1"),
        (A_NODE, hello("web-2", "web"), "for node web-1 of tier web, not for node web-2"),
        (Principal(Role.AGENT), hello("evil", "nowhere"), "for all agents, not for node evil"),
    ],
)
async def test_what_a_token_is_not_for_it_does_not_open(with_agents, principal, said, reason):
    with pytest.raises(Unwelcome, match=reason):
        with_agents.check(said, principal)


@pytest.mark.parametrize("only_started", [False, True])
async def test_no_other_address_takes_a_name_that_is_held_until_its_connection_is_lost(
    with_agents, only_started, autojump_clock
):
    """Agents are started by others also where a supervisor starts the nodes."""
    with_agents.admission.only_started = only_started
    record = with_agents.join(THERE, link_of(AN_AGENT))
    elsewhere = attrs.evolve(THERE, data="10.0.0.8:9001", boot_id="two")
    with pytest.raises(Unwelcome, match=r"10\.0\.0\.7 has this name and is connected"):
        with_agents.join(elsewhere, link_of(AN_AGENT, "10.0.0.8"))
    assert (record.link.replaced, with_agents.records["app-1"].addresses) == (False, (parse_address("10.0.0.7:9001"),))
    with_agents.lost(record, record.link)
    record = with_agents.join(elsewhere, link_of(AN_AGENT, "10.0.0.8"))
    assert record.addresses == (parse_address("10.0.0.8:9001"),)


async def test_a_process_that_the_supervisor_started_takes_over_from_wherever(with_agents, autojump_clock):
    with_agents.admission.only_started = True
    old = with_agents.join(hello("web-1", "web"), link_of(A_NODE))
    with_agents.join(hello("web-1", "web", 22, boot_id="two"), link_of(A_NODE, "10.0.0.8"))
    assert old.link.replaced


async def test_an_application_is_where_its_agent_is_unless_its_pool_allows_more(with_agents, autojump_clock):
    with pytest.raises(Unwelcome, match=r"--address is 10\.9\.9\.9:80: allow that in pools\.apps\.agents\.networks"):
        with_agents.join(attrs.evolve(AGENT, data="10.9.9.9:80"), link_of(AN_AGENT))
    assert "app-1" not in with_agents.records
    pools = {"apps": attrs.evolve(with_agents.topology.pools["apps"], networks=("10.9.0.0/16",))}
    with_agents.adopt(attrs.evolve(with_agents.topology, pools=pools))
    record = with_agents.join(attrs.evolve(AGENT, data="10.9.9.9:80"), link_of(AN_AGENT))
    assert record.addresses == (parse_address("10.9.9.9:80"),)


@pytest.mark.parametrize("is_expected", [True, False])
async def test_an_agent_keeps_no_node_out_by_its_name(with_agents, autojump_clock, is_expected):
    """web-3 is named by a later topology, or joins by itself where others start the nodes."""
    squatter = with_agents.join(attrs.evolve(THERE, node="web-3"), link_of(Principal(Role.AGENT, "apps", "web-3")))
    if is_expected:
        tiers = {**with_agents.topology.tiers, "web": attrs.evolve(with_agents.topology.tiers["web"], replicas=3)}
        with_agents.adopt(attrs.evolve(with_agents.topology, tiers=tiers))
    record = with_agents.join(hello("web-3", "web"), link_of(Principal(Role.NODE, "web", "web-3"), "10.0.0.9"))
    assert squatter.link.replaced
    assert with_agents.records["web-3"] is record
    assert not record.agent
    with pytest.raises(Unwelcome, match="web-3 is not a node of tier apps"):
        with_agents.join(attrs.evolve(THERE, node="web-3"), link_of(Principal(Role.AGENT, "apps", "web-3")))


async def test_nodes_are_told_the_data_key_and_what_to_show_their_parents_and_agents_no_more_than_the_latter(
    with_agents, autojump_clock
):
    web = await web_of(with_agents)
    agent = with_agents.join(THERE, link_of(AN_AGENT))
    await settle()
    assert web.wanted.data_key == with_agents.admission.data_key
    assert web.wanted.data_key not in repr(web.wanted)
    assert agent.wanted is None
    (parent,) = with_agents.with_tickets(agent)
    admits = by_ticket([with_agents.admission.reception("web", "web-1")])
    assert (parent.name, admits(parent.ticket)) == ("web-1", AN_AGENT)
    assert parent.ticket not in repr(parent)


async def test_an_agent_is_not_told_how_requests_are_explained_and_says_nothing_of_others(with_agents, autojump_clock):
    with_agents.explain(60.0)
    agent, web = with_agents.join(THERE, link_of(AN_AGENT)), with_agents.join(hello("web-1", "web"), Link())
    with_agents.watch(30.0, "nonce")
    assert {watch.explain for watch in agent.link.watches} == {""}
    assert "nonce" in {watch.explain for watch in web.link.watches}
    rows = tuple(
        NodeRow(name, "web", 0.0, NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (HostLoad("app-2", 0, 0, 9),)), SubtreeLoad())
        for name in ("app-1", "web-1")
    )
    with_agents.receive(agent, Report(SubtreeLoad(), Echo(), rows))
    assert with_agents.cluster_view.of("app-1").row.own.hosts == ()
    assert with_agents.cluster_view.of("web-1").row is None


async def test_a_top_tier_that_hangs_or_finds_nothing_ready_does_not_serve(running, autojump_clock):
    await serve_all(running)
    running.starting = False
    edge = running.records["edge-1"]
    for since_s, ready, phrase in (
        (0.0, 2, ""),
        (0.0, 0, ""),
        (2.5, 0, "edge: no node finds anything ready below"),
        (0.0, 1, ""),
    ):
        await trio.sleep(since_s)
        running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=ready), Echo()))
        status = running.status()
        assert (status.serving, phrase in (*status.missing, "")) == (not phrase, True)
    await trio.sleep(6.0)
    status = running.status()
    assert (status.serving, status.waiting[-1]) == (False, "edge: no node has reported for 5 s")
    running.lost(edge, edge.link)
    assert not running.status().serving


async def test_a_pool_that_is_down_for_all_nodes_of_a_top_tier_is_missing(running, autojump_clock):
    await serve_all(running)
    edge = running.records["edge-1"]
    running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=1, down=("demo", "gone")), Echo()))
    status = running.status()
    assert (status.serving, status.down) == (False, ("demo",))
    assert status.missing == ("pool demo: no endpoint is available",)
    running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=2), Echo()))
    web = running.records["web-1"]
    web.parents = (Parent("edge-1", "ws://127.0.0.1:7001"),)
    running.receive(web, Report(SubtreeLoad(leaves=1, down=("demo",)), Echo()))
    status = running.status()
    assert (status.serving, status.missing) == (True, ()), "where the top tier finds a way there is one"
    running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=1, down=("demo",)), Echo()))
    assert running.status().down == ("demo",)
    running.lost(edge, edge.link)
    assert running.status().down == (), "it may find one by now"
