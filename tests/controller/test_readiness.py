import attrs

from tests.controller.joined import EDGE, ENDPOINT, WEB_1_OUT, serve_all, settle
from tierlb.controller.controller import Controller
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.wire.frames import Ack, Refuse


async def test_what_is_waited_for_is_told_by_tier_and_pool(running, autojump_clock):
    assert running.readiness.waiting() == (
        "edge: 0 of 1 node serve; edge-1 has not joined",
        "web: 0 of 2 nodes serve; web-1 has not joined; web-2 has not joined",
    )
    await serve_all(running)
    assert running.observer.status().waiting == ()
    running.endpoints.note("demo", EndpointStatus(ENDPOINT, State.GONE))
    await settle()
    assert "demo: 0 of 1 endpoint accept connections" in running.observer.status().waiting


async def test_the_tree_serves_when_nothing_is_missing(running, autojump_clock):
    assert running.readiness.missing()[0] == "edge-1 has not joined"
    await serve_all(running)
    assert running.readiness.missing() == ()
    assert running.observer.status().serving


async def test_what_drained_nodes_lack_can_be_left_out(running, autojump_clock):
    await serve_all(running)
    running.registry.exited("web-1", running.registry.records["web-1"].hello.pid)
    running.node_admin.want((WEB_1_OUT,))
    assert [phrase for phrase in running.readiness.missing() if "web-1" in phrase] == ["web-1 has not joined"]
    assert not [phrase for phrase in running.readiness.missing(drained=False) if "web-1" in phrase]


async def test_a_refusal_is_told_until_a_later_snapshot_is_served(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.receive(edge, Refuse(edge.assignment.wanted.revision - 1, "of something older"))
    assert running.readiness.missing() == ()
    running.receive(edge, Refuse(edge.assignment.wanted.revision, "port taken"))
    assert "edge-1 refused its configuration: port taken" in running.readiness.missing()
    running.receive(edge, Ack(edge.assignment.wanted.revision, (EDGE,)))
    assert running.readiness.missing() == ()


def test_agents_are_not_waited_for_when_the_cluster_starts(shop_with_agents, log):
    phrases = Controller(shop_with_agents, log).readiness.missing()
    assert phrases == ("edge-1 has not joined", "web-1 has not joined", "web-2 has not joined")


async def test_a_refusal_of_what_is_wanted_no_more_says_nothing(running, topology, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.receive(edge, Refuse(edge.assignment.wanted.revision, "port taken"))
    assert running.readiness.refused() == "edge-1 refused its configuration: port taken"
    moved = attrs.evolve(topology.tiers["edge"], listen=Address("127.0.0.1", 8081))
    running.registry.adopt(attrs.evolve(topology, tiers={**topology.tiers, "edge": moved}))
    assert running.readiness.refused() == "", "at once, not only when it is told something else"
    await settle()
    assert (edge.assignment.refusal, running.readiness.refused()) == ("", "")


async def test_who_has_settled_can_be_asked_of_some(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    assert running.readiness.settled()
    running.node_admin.want((WEB_1_OUT,))
    await settle()
    running.receive(edge, Ack(edge.assignment.wanted.revision, (EDGE,)))
    assert (
        running.readiness.settled(),
        running.readiness.settled(["edge-1", "web-2"]),
        running.readiness.settled(["web-1"]),
    ) == (False, True, False)
    running.receive(web1, Refuse(web1.assignment.wanted.revision, "no"))
    assert (bool(running.readiness.refused()), running.readiness.refused(["edge-1"])) == (True, "")
