"""Nodes and agents that join a controller and serve what it gives them."""

import attrs
import trio

from tierlb.controller.admin_states import AdminState
from tierlb.controller.node_record import Link
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.load import NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.topology import Admin
from tierlb.net.websocket_upgrade import ProvenPeer
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import Ack, Hello

EDGE = Address("127.0.0.1", 8080)
WEB = Address("127.0.0.1", 4001)
ENDPOINT = Address("127.0.0.1", 20001)
WEB_1_OUT = AdminState("web", "web-1", Admin.DRAIN)
AGENT = Hello(1, "app-1", "apps", "one", 9, data="127.0.0.1:9001")
ELSEWHERE = attrs.evolve(AGENT, data="10.0.0.7:9001")
AN_AGENT, A_NODE = Principal(Role.AGENT, "apps", "app-1"), Principal(Role.NODE, "web", "web-1")


def hello(node, tier, pid=1, boot_id="one", control="", data=""):
    return Hello(1, node, tier, boot_id, pid, control, data)


async def settle():
    await trio.sleep(1)


async def serve(controller, node, tier, address, pid=1, boot_id="one"):
    """Join a node and let it ack what it is given."""
    record = controller.join(hello(node, tier, pid, boot_id), Link())
    await settle()
    controller.receive(record, Ack(record.assignment.wanted.revision, (address,)))
    await settle()
    return record


async def serve_all(controller):
    controller.endpoints.note("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    records = [
        await serve(controller, "edge-1", "edge", EDGE, 1),
        await serve(controller, "web-1", "web", WEB, 2),
        await serve(controller, "web-2", "web", Address("127.0.0.1", 4002), 3),
    ]
    controller.receive(records[0], Ack(records[0].assignment.wanted.revision, (EDGE,)))
    return records


def hosts(record):
    """To what the node should send."""
    return record.assignment.wanted.rules[0].action.destinations[0].hosts


def host_names(record):
    return [host.name for host in hosts(record)]


def row(node, tier, arrivals, age_s=0.0, hosts=()):
    load = NodeLoad(1, 2, 3, 0, 0, 0, 0, 0.5, hosts)
    return NodeRow(node, tier, age_s, load, SubtreeLoad(capacity=9.0, arrivals=arrivals))


async def web_of(controller):
    """The node web-1, under which children can report."""
    record = controller.join(hello("web-1", "web", control="127.0.0.1:7002"), Link())
    await settle()
    return record


async def come(controller, node, tier, port, boot_id="one", control=""):
    """Join a node where membership is open, and let it serve at the port."""
    record = controller.join(attrs.evolve(hello(node, tier, port, boot_id), control=control), Link())
    await settle()
    controller.receive(record, Ack(record.assignment.wanted.revision, (Address("127.0.0.1", port),)))
    await settle()
    return record


def link_of(principal, host="10.0.0.7"):
    return Link(caller=ProvenPeer(principal, host))
