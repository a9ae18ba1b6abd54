import attrs
import trio

from tests.control_plane import tier
from tests.controller.joined import EDGE, ENDPOINT, WEB, hello, host_names, serve, serve_all, settle
from tierlb.controller.node_record import Link
from tierlb.controller.publisher import ASK_REFUSERS_S, Publisher
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.topology import Admin, Kind
from tierlb.wire.frames import Ack, Refuse


async def test_a_child_that_bound_its_ports_becomes_a_member_of_its_parent(running, autojump_clock):
    edge = await serve(running, "edge-1", "edge", EDGE)
    assert host_names(edge) == []
    await serve(running, "web-1", "web", WEB)
    assert host_names(edge) == ["web-1"]
    assert edge.assignment.wanted.revision == 3


async def test_a_node_whose_configuration_is_the_same_is_left_alone(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    edge_before, web_before = edge.assignment.wanted, web.assignment.wanted
    running.endpoints.note("demo", EndpointStatus(Address("127.0.0.1", 20002), State.SERVING, 10))
    await settle()
    assert edge.assignment.wanted is edge_before
    assert web.assignment.wanted.revision > web_before.revision


async def test_changes_that_come_together_are_one_snapshot(running, autojump_clock):
    for node in ("web-1", "web-2"):
        running.join(hello(node, "web"), Link())
    running.endpoints.note("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    await settle()
    assert {running.registry.records[node].assignment.wanted.revision for node in ("web-1", "web-2")} == {1}


async def test_a_new_tier_is_expected_and_its_parents_hear_of_it_when_it_serves(running, topology, autojump_clock):
    edge, _, _ = await serve_all(running)
    mid = tier("mid", Kind.L7, "web")
    moved = tier("edge", Kind.L4, "mid", listen=topology.tiers["edge"].listen)
    running.registry.adopt(attrs.evolve(topology, tiers={"edge": moved, "mid": mid, "web": topology.tiers["web"]}))
    assert "mid-1 has not joined" in running.readiness.missing()
    record = running.join(hello("mid-1", "mid", 77), Link())
    await settle()
    running.receive(record, Ack(record.assignment.wanted.revision, (Address("127.0.0.1", 4777),)))
    await settle()
    assert host_names(edge) == ["mid-1"]


async def test_a_node_that_is_about_to_be_stopped_ends_its_connections_though_it_is_named_no_more(
    running, topology, autojump_clock
):
    _, _, web2 = await serve_all(running)
    before = web2.assignment.wanted
    smaller = attrs.evolve(topology.tiers["web"], replicas=1)
    running.registry.adopt(attrs.evolve(topology, tiers={**topology.tiers, "web": smaller}))
    await settle()
    assert web2.assignment.wanted is before
    running.node_admin.retire(["web-2"])
    await settle()
    assert attrs.evolve(web2.assignment.wanted, revision=before.revision, admin=Admin.READY) == before
    assert web2.assignment.wanted.admin is Admin.DRAIN


async def test_a_process_that_is_started_again_before_it_is_stopped_gets_nothing(running, topology, autojump_clock):
    """It is named no more, and crashed meanwhile; when it is named again, all is forgotten."""
    edge, _, _ = await serve_all(running)
    smaller = attrs.evolve(topology.tiers["web"], replicas=1)
    running.registry.adopt(attrs.evolve(topology, tiers={**topology.tiers, "web": smaller}))
    running.registry.exited("web-2", 3)
    assert "web-2" not in running.registry.records
    running.join(hello("web-2", "web", 33, boot_id="two"), Link())
    await settle()
    assert (host_names(edge), running.registry.records["web-2"].assignment.wanted) == (["web-1"], None)
    assert not any("web-2" in phrase for phrase in running.readiness.missing())
    running.registry.exited("web-2", 33)
    assert "web-2" not in running.registry.records
    running.registry.adopt(topology)
    record = running.join(hello("web-2", "web", 34, boot_id="three"), Link())
    await settle()
    assert (record.leaving, record.assignment.wanted is not None) == (False, True)


async def test_a_revision_that_cannot_be_made_is_made_a_moment_later(running, monkeypatch, autojump_clock):
    works = Publisher.publish
    failed = []

    def fail(self):
        monkeypatch.setattr(Publisher, "publish", works)
        failed.append(self)
        raise ValueError

    monkeypatch.setattr(Publisher, "publish", fail)
    record = running.join(hello("web-1", "web", 2), Link())
    await settle()
    assert (failed, record.assignment.wanted) == ([running.publisher], None)
    await settle()
    assert record.assignment.wanted is not None
    await serve_all(running)
    assert running.readiness.missing() == ()
    assert running.errors.counts == {"publishing": 1}


async def test_a_node_that_refused_is_asked_again_until_it_serves(running, autojump_clock):
    await serve_all(running)
    record = running.join(hello("web-1", "web", 22, "two"), Link())
    await settle()
    for _ in range(2):
        first = record.assignment.wanted
        running.receive(record, Refuse(first.revision, "no descriptor is free"))
        assert "no descriptor is free" in running.readiness.refused()
        await trio.sleep(ASK_REFUSERS_S - 2)
        assert record.assignment.wanted == first
        await trio.sleep(4)
        assert attrs.evolve(record.assignment.wanted, revision=first.revision) == first
        assert record.assignment.wanted.revision > first.revision
        assert "no descriptor is free" in running.readiness.refused(), "it is the reason until it serves"
    running.receive(record, Ack(record.assignment.wanted.revision, (WEB,)))
    served = record.assignment.wanted
    await trio.sleep(3 * ASK_REFUSERS_S)
    assert (record.assignment.wanted, running.readiness.refused()) == (served, "")
