import attrs

from tests.control_plane import tier
from tests.controller.joined import AGENT, hello, host_names, serve_all, settle, web_of
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.topology import Forwarding, Kind
from tierlb.wire.frames import Leaving, ParentAddress


async def test_a_draining_node_is_sent_nothing_new(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    running.receive(web, Leaving())
    await settle()
    assert host_names(edge) == ["web-2"]
    assert web.state is State.DRAINING


async def test_what_a_draining_node_placed_below_is_to_end(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    assert web.assignment.wanted.parents == ("edge-1/" + edge.hello.boot_id,)
    running.receive(edge, Leaving())
    await settle()
    assert web.assignment.wanted.parents == ()


async def test_an_agent_is_a_member_from_its_hello_and_reports_to_the_pools_parents(with_agents, autojump_clock):
    web = await web_of(with_agents)
    agent = with_agents.join(AGENT, Link())
    await settle()
    (host,) = web.assignment.wanted.rules[0].action.destinations[0].hosts
    assert (host.name, str(host.address), host.reports) == ("app-1", "127.0.0.1:9001", True)
    assert agent.assignment.parents == (ParentAddress("web-1", "ws://127.0.0.1:7002"),)
    assert (agent.assignment.wanted, agent.state) == (None, State.SERVING)
    status = with_agents.observer.status().pools["apps"]
    assert [(e.name, e.state, e.pid) for e in status.endpoints] == [("app-1", State.SERVING, 9)]
    assert [node.name for node in status.agents] == ["app-1"]


async def test_a_node_knows_all_processes_through_which_connections_may_come(topology, log, nursery, autojump_clock):
    edge = attrs.evolve(topology.tiers["edge"], listen=None)
    front = tier("front", Kind.L4, "edge", listen=Address("127.0.0.1", 8080))
    controller = Controller(attrs.evolve(topology, tiers={**topology.tiers, "edge": edge, "front": front}), log)
    nursery.start_soon(controller.run)
    for name, pid in (("front-1", 1), ("edge-1", 2), ("web-1", 3)):
        controller.join(hello(name, name[:-2], pid, boot_id=f"b{pid}"), Link())
    await settle()
    assert controller.registry.records["web-1"].assignment.wanted.parents == ("edge-1/b2", "front-1/b1")
    controller.node_admin.retire(["front-1"])
    await settle()
    assert controller.registry.records["web-1"].assignment.wanted.parents == ("edge-1/b2",)


async def test_what_has_not_changed_is_the_same_object(running, autojump_clock):
    await serve_all(running)
    maker = running.readiness.desired
    before = maker.make().by_tier
    again = maker.make().by_tier
    assert {name for name in before if before[name] is again[name]} == {"edge", "web"}
    running.endpoints.note("demo", EndpointStatus(Address("127.0.0.1", 20002), State.SERVING, 10))
    changed = maker.make().by_tier
    assert {name for name in before if before[name] is changed[name]} == {"edge"}


async def test_a_node_knows_which_parents_forward_in_the_kernel(topology, log, nursery, autojump_clock):
    edge = attrs.evolve(topology.tiers["edge"], forward=Forwarding.NFTABLES)
    side = tier("side", Kind.L4, "web", listen=Address("127.0.0.1", 8088))
    controller = Controller(attrs.evolve(topology, tiers={**topology.tiers, "edge": edge, "side": side}), log)
    nursery.start_soon(controller.run)
    for name, pid in (("side-1", 1), ("edge-1", 2), ("web-1", 3)):
        controller.join(hello(name, name[:-2], pid, boot_id=f"b{pid}"), Link())
    await settle()
    wanted = controller.registry.records["web-1"].assignment.wanted
    assert (wanted.kernel_parents, wanted.kernel_parent_names) == (("edge-1/b2",), frozenset({"edge-1"}))
    assert set(wanted.parents) == {"edge-1/b2", "side-1/b1"}
