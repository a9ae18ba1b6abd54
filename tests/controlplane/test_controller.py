import pytest
import trio

from tierlb.controlplane.controller import Link, Unwelcome
from tierlb.controlplane.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.load import NodeLoad
from tierlb.wire.frames import Ack, Drain, Hello, Refuse, Report

EDGE = Address("127.0.0.1", 8080)
WEB = Address("127.0.0.1", 4001)
ENDPOINT = Address("127.0.0.1", 20001)


def hello(node, tier, pid=1, boot_id="one"):
    return Hello(1, node, tier, boot_id, pid)


@pytest.fixture
async def running(controller, nursery):
    nursery.start_soon(controller.run)
    return controller


async def settle():
    await trio.sleep(1)


async def serve(controller, node, tier, address, pid=1):
    """Join a node and let it ack what it is given."""
    seat = controller.join(hello(node, tier, pid), Link())
    await settle()
    controller.receive(seat, Ack(seat.wanted.revision, (address,)))
    await settle()
    return seat


async def serve_all(controller):
    controller.note_endpoint("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    seats = [
        await serve(controller, "edge-1", "edge", EDGE, 1),
        await serve(controller, "web-1", "web", WEB, 2),
        await serve(controller, "web-2", "web", Address("127.0.0.1", 4002), 3),
    ]
    controller.receive(seats[0], Ack(seats[0].wanted.revision, (EDGE,)))
    return seats


def members(seat):
    return [member.name for member in seat.wanted.rules[0].action.destinations[0].members]


async def test_a_child_that_bound_its_ports_becomes_a_member_of_its_parent(running, autojump_clock):
    edge = await serve(running, "edge-1", "edge", EDGE)
    assert members(edge) == []
    await serve(running, "web-1", "web", WEB)
    assert members(edge) == ["web-1"]
    assert edge.wanted.revision == running.revision == 3


async def test_a_node_whose_configuration_is_the_same_is_left_alone(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    edge_before, web_before = edge.wanted, web.wanted
    running.note_endpoint("demo", EndpointStatus(Address("127.0.0.1", 20002), State.SERVING, 10))
    await settle()
    assert edge.wanted is edge_before
    assert web.wanted.revision > web_before.revision


async def test_changes_that_come_together_are_one_revision(running, autojump_clock):
    for node in ("web-1", "web-2"):
        running.join(hello(node, "web"), Link())
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    await settle()
    assert running.revision == 1


async def test_the_tree_serves_when_nothing_is_missing(running, autojump_clock):
    assert running.missing()[0] == "edge-1 has not joined"
    await serve_all(running)
    assert running.missing() == ()
    assert running.status().serving


async def test_an_endpoint_that_does_not_accept_is_no_member_and_is_missing(running, autojump_clock):
    await serve_all(running)
    running.note_endpoint("demo", EndpointStatus(ENDPOINT, State.GONE))
    await settle()
    assert members(running.seats["web-1"]) == []
    assert "pool demo: 127.0.0.1:20001 does not accept connections yet" in running.missing()
    assert not running.status().serving


async def test_a_node_that_only_lost_its_socket_stays_a_member(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    running.lost(web, web.link)
    await settle()
    assert members(edge) == ["web-1", "web-2"]
    assert not running.status().tiers["web"].nodes[0].connected


async def test_a_node_whose_process_ended_is_withdrawn(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    link = web.link
    running.exited("web-1", 2)
    await settle()
    assert members(edge) == ["web-2"]
    assert link.replaced
    assert running.status().tiers["web"].nodes[0].state is State.GONE


async def test_the_end_of_an_earlier_process_does_not_withdraw_its_successor(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.exited("web-1", 77)
    await settle()
    assert members(edge) == ["web-1", "web-2"]


async def test_a_draining_node_is_sent_nothing_new(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    running.receive(web, Drain())
    await settle()
    assert members(edge) == ["web-2"]
    assert web.state is State.DRAINING


async def test_a_reconnected_node_keeps_its_place_and_replaces_its_old_link(running, autojump_clock):
    edge, web, _ = await serve_all(running)
    old, new = web.link, Link()
    assert running.join(hello("web-1", "web", 2), new) is web
    assert (old.replaced, new.replaced) == (True, False)
    running.lost(web, old)
    assert web.link is new
    assert members(edge) == ["web-1", "web-2"]


async def test_a_restarted_node_is_a_member_again_at_its_new_address(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    seat = running.join(hello("web-1", "web", 22, boot_id="two"), Link())
    await settle()
    assert members(edge) == ["web-2"]
    running.receive(seat, Ack(seat.wanted.revision, (Address("127.0.0.1", 4999),)))
    await settle()
    assert edge.wanted.rules[0].action.destinations[0].members[0].address.port == 4999


@pytest.mark.parametrize(("node", "tier"), [("db-1", "db"), ("web-1", "edge")])
def test_a_node_of_no_such_tier_is_turned_away(controller, node, tier):
    with pytest.raises(Unwelcome, match="check --name and --tier"):
        controller.join(hello(node, tier), Link())
    assert set(controller.seats) == {"edge-1", "web-1", "web-2"}


async def test_a_refusal_is_told_until_a_later_snapshot_is_served(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    running.receive(edge, Refuse(9, "port taken"))
    assert "edge-1 refused its configuration: port taken" in running.missing()
    running.receive(edge, Ack(edge.wanted.revision, (EDGE,)))
    assert running.missing() == ()


async def test_the_rate_is_what_came_between_two_reports(running, autojump_clock):
    _, web, _ = await serve_all(running)
    for items in (100, 150):
        running.receive(web, Report(NodeLoad(1, 2, items, 0, 0, 0, 0, 0.5)))
        await trio.sleep(0.5)
    status = running.status().tiers["web"].nodes[0]
    assert status.items_per_s == pytest.approx(100)
    assert status.report_age_s == pytest.approx(0.5)
