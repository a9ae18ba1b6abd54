import attrs

from tests.controller.joined import AN_AGENT, ELSEWHERE, come, hello, link_of, settle, web_of
from tierlb.channel.admission import by_ticket
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link
from tierlb.controller.parents import with_tickets
from tierlb.model.tls import Tls
from tierlb.wire.frames import Leaving, ParentAddress


async def test_each_node_is_told_who_its_parents_are_as_they_come_and_go(running, autojump_clock):
    running.join(hello("web-1", "web", 2), Link())
    await settle()
    web = running.registry.records["web-1"]
    assert web.assignment.parents == ()
    woken = web.link.wake
    running.join(hello("edge-1", "edge", 1, control="127.0.0.1:7001"), Link())
    await settle()
    assert web.assignment.parents == (ParentAddress("edge-1", "ws://127.0.0.1:7001"),)
    assert woken.is_set()
    assert running.registry.records["edge-1"].assignment.parents == ()
    running.registry.exited("edge-1", 1)
    await settle()
    assert web.assignment.parents == ()


async def test_a_parent_that_only_lost_its_socket_or_drains_stays_a_parent(running, autojump_clock):
    record = running.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    running.join(hello("web-1", "web"), Link())
    running.registry.lost(record, record.link)
    running.receive(record, Leaving())
    await settle()
    assert [parent.name for parent in running.registry.records["web-1"].assignment.parents] == ["edge-1"]


async def test_with_tls_the_parents_are_joined_by_wss(topology, log, nursery, autojump_clock):
    controller = Controller(attrs.evolve(topology, tls=Tls("c", "k", "a")), log)
    nursery.start_soon(controller.run)
    controller.join(hello("edge-1", "edge", control="127.0.0.1:7001"), Link())
    controller.join(hello("web-1", "web"), Link())
    await settle()
    assert controller.registry.records["web-1"].assignment.parents == (ParentAddress("edge-1", "wss://127.0.0.1:7001"),)


async def test_nodes_that_are_found_by_one_name_are_one_parent(open_to_all, autojump_clock):
    await come(open_to_all, "edge-a", "edge", 8080, control="edge:7946")
    await come(open_to_all, "edge-b", "edge", 8081, control="edge:7946")
    web = await come(open_to_all, "web-a", "web", 4001)
    assert web.assignment.parents == (ParentAddress("edge", "ws://edge:7946"),)


async def test_nodes_are_told_the_data_key_and_what_to_show_their_parents_and_agents_no_more_than_the_latter(
    with_agents, autojump_clock
):
    web = await web_of(with_agents)
    agent = with_agents.join(ELSEWHERE, link_of(AN_AGENT))
    await settle()
    assert web.assignment.wanted.data_key == with_agents.admission.data_key
    assert web.assignment.wanted.data_key not in repr(web.assignment.wanted)
    assert agent.assignment.wanted is None
    (parent,) = with_tickets(with_agents.registry, with_agents.admission, agent)
    admits = by_ticket([with_agents.admission.reception("web", "web-1")])
    assert (parent.name, admits(parent.ticket)) == ("web-1", AN_AGENT)
    assert parent.ticket not in repr(parent)
