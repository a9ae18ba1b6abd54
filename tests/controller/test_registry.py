import attrs
import pytest
import trio

from tests.control_plane import tier
from tests.controller.joined import (
    A_NODE,
    AGENT,
    AN_AGENT,
    ELSEWHERE,
    come,
    hello,
    host_names,
    hosts,
    link_of,
    serve,
    serve_all,
    settle,
    web_of,
)
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.registry import AGENT_GONE_S, ALL_TIERS, NODE_GONE_S, Unwelcome, tiers_out_of_sight
from tierlb.controller.status import State
from tierlb.model.address import Address, parse_address
from tierlb.model.topology import Kind
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import Ack, Leaving


async def test_a_node_that_only_lost_its_socket_stays_a_member(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    running.registry.lost(web, web.link)
    await settle()
    assert host_names(edge) == ["web-1", "web-2"]
    assert not running.observer.status().tiers["web"].nodes[0].connected


async def test_a_node_whose_process_ended_is_withdrawn(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    link = web.link
    running.registry.exited("web-1", 2)
    await settle()
    assert host_names(edge) == ["web-2"]
    assert link.replaced
    assert running.observer.status().tiers["web"].nodes[0].state is State.GONE


async def test_the_end_of_an_earlier_process_does_not_withdraw_its_successor(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.registry.exited("web-1", 77)
    await settle()
    assert host_names(edge) == ["web-1", "web-2"]


async def test_a_reconnected_node_keeps_its_place_and_replaces_its_old_link(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    old, new = web.link, Link()
    assert running.join(hello("web-1", "web", 2), new) is web
    assert (old.replaced, new.replaced) == (True, False)
    running.registry.lost(web, old)
    assert web.link is new
    assert host_names(edge) == ["web-1", "web-2"]


async def test_a_restarted_node_is_a_member_again_at_its_new_address(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.registry.exited("web-1", running.registry.records["web-1"].hello.pid)
    await settle()
    assert host_names(edge) == ["web-2"]
    record = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    running.receive(record, Ack(record.assignment.wanted.revision, (Address("127.0.0.1", 4999),)))
    await settle()
    assert hosts(edge)[0].address.port == 4999


async def test_a_process_that_takes_over_leaves_the_old_address_until_it_serves_itself(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    before = hosts(edge)
    old = running.registry.records["web-1"]
    record = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    assert hosts(edge) == before
    running.receive(record, Ack(record.assignment.wanted.revision, (Address("127.0.0.1", 4999),)))
    running.registry.exited("web-1", old.hello.pid)
    await settle()
    hosts_now = hosts(edge)
    assert [host.address.port for host in hosts_now if host.name == "web-1"] == [4999]


async def test_a_node_that_the_topology_names_no_more_gets_no_traffic_and_goes_with_its_process(
    running, topology, autojump_clock
):
    edge, _, web2 = await serve_all(running)
    smaller = attrs.evolve(topology.tiers["web"], replicas=1)
    running.registry.adopt(attrs.evolve(topology, tiers={**topology.tiers, "web": smaller}))
    await settle()
    assert host_names(edge) == ["web-1"]
    assert running.registry.records["web-2"].state is State.DRAINING
    running.registry.exited("web-2", web2.hello.pid)
    assert "web-2" not in running.registry.records


@pytest.mark.parametrize(("node", "tier"), [("db-1", "db"), ("web-1", "edge")])
def test_a_node_of_no_such_tier_is_turned_away(controller, node, tier):
    with pytest.raises(Unwelcome, match="check --name and --tier"):
        controller.join(hello(node, tier), Link())
    assert set(controller.registry.records) == {"edge-1", "web-1", "web-2"}


async def test_an_agent_that_drains_is_no_member_and_gone_with_its_socket(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    await settle()
    with_agents.receive(agent, Leaving())
    await settle()
    assert host_names(web) == []
    assert "app-1" in with_agents.registry.records
    with_agents.registry.lost(agent, agent.link)
    assert "app-1" not in with_agents.registry.records


async def test_an_agent_that_is_away_is_a_member_for_ten_more_seconds(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    with_agents.registry.lost(agent, agent.link)
    await trio.sleep(AGENT_GONE_S - 1)
    assert host_names(web) == ["app-1"]
    agent = with_agents.join(AGENT, Link())
    await trio.sleep(AGENT_GONE_S * 2)
    assert host_names(web) == ["app-1"]
    with_agents.registry.lost(agent, agent.link)
    await trio.sleep(AGENT_GONE_S + 2)
    assert host_names(web) == []
    assert "app-1" not in with_agents.registry.records


async def test_an_agent_leaves_only_while_the_nodes_are_there(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    with_agents.registry.lost(agent, agent.link)
    with_agents.registry.lost(web, web.link)
    await trio.sleep(AGENT_GONE_S * 3)
    with_agents.join(web.hello, Link())
    await trio.sleep(AGENT_GONE_S - 2)
    assert host_names(web) == ["app-1"]
    await trio.sleep(5)
    assert host_names(web) == []


async def test_an_agent_that_restarts_elsewhere_is_sent_to_there(with_agents, autojump_clock):
    web = await web_of(with_agents)
    with_agents.join(AGENT, Link())
    with_agents.join(attrs.evolve(AGENT, boot_id="two", data="127.0.0.1:9002"), Link())
    await settle()
    (host,) = web.assignment.wanted.rules[0].action.destinations[0].hosts
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


async def test_there_is_an_end_to_how_many_may_join(shop_with_agents, log, monkeypatch):
    monkeypatch.setattr("tierlb.controller.registry.MAX_RECORDS", 5)
    controller = Controller(shop_with_agents, log)
    for number in (1, 2):
        controller.join(attrs.evolve(AGENT, node=f"app-{number}"), Link())
    with pytest.raises(Unwelcome, match="5 nodes and agents already"):
        controller.join(attrs.evolve(AGENT, node="app-3"), Link())


async def test_a_process_that_was_taken_over_from_does_not_get_its_record_back(running, autojump_clock):
    await serve_all(running)
    old = running.registry.records["web-1"].hello
    running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    with pytest.raises(Unwelcome, match="took over"):
        running.join(old, Link())
    running.registry.exited("web-1", 22)
    assert running.join(old, Link()).hello is old


async def test_a_process_that_fails_to_take_over_leaves_everything_as_it_was(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    before = edge.assignment.wanted.rules
    record = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    assert (record.assignment.served, running.registry.records["web-1"]) == (0, record)
    running.registry.exited("web-1", 22)
    await settle()
    assert running.registry.records["web-1"] is web1
    assert (edge.assignment.wanted.rules, web1.state) == (before, State.SERVING)
    assert web1.hello.pid == 2


async def test_the_end_of_a_process_that_was_taken_over_from_is_nobodys_loss(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    record = await serve(running, "web-1", "web", Address("127.0.0.1", 4999), pid=22, boot_id="two")
    running.registry.exited("web-1", web1.hello.pid)
    await settle()
    assert (running.registry.records["web-1"], host_names(edge)) == (record, ["web-1", "web-2"])
    running.registry.exited("web-1", 22)
    await settle()
    assert host_names(edge) == ["web-2"]
    assert running.registry.records["web-1"].hello is None


async def test_where_the_new_process_is_lost_the_old_one_may_come_back(running, autojump_clock):
    _, web1, _ = await serve_all(running)
    link = Link()
    record = running.join(hello("web-1", "web", 22, boot_id="two"), link)
    running.registry.lost(record, link)
    assert running.join(web1.hello, Link()).hello == web1.hello


async def test_any_node_of_a_tier_is_taken_in_and_makes_the_tier_larger(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a1b2", "edge", 8080)
    assert open_to_all.readiness.missing() == ("no node of web has joined",)
    for number in range(5):
        await come(open_to_all, f"web-{number}x", "web", 4000 + number)
    assert host_names(edge) == [f"web-{number}x" for number in range(5)]
    assert hosts(edge)[0].parents == 1
    web = open_to_all.registry.records["web-0x"].assignment.wanted
    assert [(pool.name, pool.dns) for pool in web.pools] == [("demo", "demo:9000")]
    assert open_to_all.registry.expected(open_to_all.topology.tiers["web"]) == tuple(f"web-{n}x" for n in range(5))
    with pytest.raises(Unwelcome, match="is not a node of tier"):
        open_to_all.join(hello("mid-1", "mid"), Link())


async def test_a_node_that_drains_is_gone_with_its_connection(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    web = await come(open_to_all, "web-a", "web", 4001)
    open_to_all.receive(web, Leaving())
    await settle()
    assert host_names(edge) == []
    open_to_all.registry.lost(web, web.link)
    assert "web-a" not in open_to_all.registry.records


async def test_one_of_many_that_is_away_for_long_leaves(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    webs = [await come(open_to_all, f"web-{n}", "web", 4000 + n) for n in range(2)]
    open_to_all.registry.lost(webs[0], webs[0].link)
    await trio.sleep(NODE_GONE_S - 2)
    assert host_names(edge) == ["web-0", "web-1"]
    await trio.sleep(5)
    assert host_names(edge) == ["web-1"]
    assert "web-0" not in open_to_all.registry.records


async def test_where_most_of_a_tier_is_away_nobody_leaves(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    webs = [await come(open_to_all, f"web-{n}", "web", 4000 + n) for n in range(3)]
    for web in webs[:2]:
        open_to_all.registry.lost(web, web.link)
    await trio.sleep(NODE_GONE_S * 3)
    assert host_names(edge) == ["web-0", "web-1", "web-2"]


async def test_when_all_were_away_for_long_each_is_given_the_time_to_come_back(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    webs = [await come(open_to_all, f"web-{n}", "web", 4000 + n) for n in range(4)]
    for web in webs:
        open_to_all.registry.lost(web, web.link)
    await trio.sleep(NODE_GONE_S * 3)
    for web in webs[:2]:
        open_to_all.join(web.hello, Link())
    await trio.sleep(NODE_GONE_S - 2)
    open_to_all.join(webs[2].hello, Link())
    assert host_names(edge) == ["web-0", "web-1", "web-2", "web-3"]
    await trio.sleep(5)
    assert host_names(edge) == ["web-0", "web-1", "web-2"]


async def test_one_that_restarts_under_its_name_is_another_process_of_the_same_node(open_to_all, autojump_clock):
    edge = await come(open_to_all, "edge-a", "edge", 8080)
    web = await come(open_to_all, "web-a", "web", 4001)
    open_to_all.registry.lost(web, web.link)
    await come(open_to_all, "web-a", "web", 4009, boot_id="two")
    assert [str(m.address) for m in hosts(edge)] == ["127.0.0.1:4009"]


async def test_a_node_of_a_tier_that_is_named_no_more_goes_with_its_connection(open_to_all, topology, autojump_clock):
    await come(open_to_all, "edge-a", "edge", 8080)
    web = await come(open_to_all, "web-a", "web", 4001)
    straight = tier("edge", Kind.L4, "demo", listen=Address("127.0.0.1", 8080))
    open_to_all.registry.adopt(attrs.evolve(topology, tiers={"edge": straight}))
    await settle()
    assert web.state is State.DRAINING
    open_to_all.registry.lost(web, web.link)
    assert "web-a" not in open_to_all.registry.records


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
        with_agents.registry.check(said, principal)


@pytest.mark.parametrize("only_started", [False, True])
async def test_no_other_address_takes_a_name_that_is_held_until_its_connection_is_lost(
    with_agents, only_started, autojump_clock
):
    """Agents are started by others also where a supervisor starts the nodes."""
    with_agents.admission.only_started = only_started
    record = with_agents.join(ELSEWHERE, link_of(AN_AGENT))
    elsewhere = attrs.evolve(ELSEWHERE, data="10.0.0.8:9001", boot_id="two")
    with pytest.raises(Unwelcome, match=r"10\.0\.0\.7 has this name and is connected"):
        with_agents.join(elsewhere, link_of(AN_AGENT, "10.0.0.8"))
    assert (record.link.replaced, with_agents.registry.records["app-1"].addresses) == (
        False,
        (parse_address("10.0.0.7:9001"),),
    )
    with_agents.registry.lost(record, record.link)
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
    assert "app-1" not in with_agents.registry.records
    pools = {"apps": attrs.evolve(with_agents.topology.pools["apps"], networks=("10.9.0.0/16",))}
    with_agents.registry.adopt(attrs.evolve(with_agents.topology, pools=pools))
    record = with_agents.join(attrs.evolve(AGENT, data="10.9.9.9:80"), link_of(AN_AGENT))
    assert record.addresses == (parse_address("10.9.9.9:80"),)


@pytest.mark.parametrize("is_expected", [True, False])
async def test_an_agent_keeps_no_node_out_by_its_name(with_agents, autojump_clock, is_expected):
    """web-3 is named by a later topology, or joins by itself where others start the nodes."""
    squatter = with_agents.join(attrs.evolve(ELSEWHERE, node="web-3"), link_of(Principal(Role.AGENT, "apps", "web-3")))
    if is_expected:
        tiers = {**with_agents.topology.tiers, "web": attrs.evolve(with_agents.topology.tiers["web"], replicas=3)}
        with_agents.registry.adopt(attrs.evolve(with_agents.topology, tiers=tiers))
    record = with_agents.join(hello("web-3", "web"), link_of(Principal(Role.NODE, "web", "web-3"), "10.0.0.9"))
    assert squatter.link.replaced
    assert with_agents.registry.records["web-3"] is record
    assert not record.agent
    with pytest.raises(Unwelcome, match="web-3 is not a node of tier apps"):
        with_agents.join(attrs.evolve(ELSEWHERE, node="web-3"), link_of(Principal(Role.AGENT, "apps", "web-3")))


def node(tier, number, *, connected):
    name = f"{tier}-{number}"
    return NodeRecord(name, tier, hello=hello(name, tier), link=Link() if connected else None)


@pytest.mark.parametrize(
    ("connected", "unseen"),
    [
        ({"web": [True, True]}, set()),
        ({"web": [True, False]}, set()),
        ({"web": [True, False, False]}, {"web", ALL_TIERS}),
        ({"web": [True, False, False], "edge": [True, True]}, {"web"}),
        ({"web": [False], "edge": [False]}, {"web", "edge", ALL_TIERS}),
        ({}, set()),
    ],
)
def test_a_tier_is_out_of_sight_if_less_than_half_of_it_is_connected(connected, unseen):
    records = [node(tier, n, connected=one) for tier, nodes in connected.items() for n, one in enumerate(nodes)]
    records += [NodeRecord("edge-9", "edge"), NodeRecord("app-1", "web", agent=True, hello=AGENT)]
    assert tiers_out_of_sight(records) == unseen
