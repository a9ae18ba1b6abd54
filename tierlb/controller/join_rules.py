"""Which processes may join a controller, and as what: pure rules over a connection's credential and its hello."""

from tierlb.channel.admission import address_problem, mismatch
from tierlb.channel.takeover import takeover_problem
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.model.topology import Topology
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import Hello


def proof_problem(topology: Topology, hello: Hello, principal: Principal) -> str:
    """Why what the connection proved does not let it join as that; "" if it does."""
    return mismatch(principal, hello, Role.AGENT if takes_agents(topology, hello.tier) else Role.NODE)


def place_problem(topology: Topology, record: NodeRecord, hello: Hello, link: Link) -> str:
    """Why the topology has no place for it under this name; "" if it has. `record`: of the name, or a new one."""
    pool = topology.pools.get(hello.tier)
    if pool is not None and pool.agents:
        if not hello.data:
            return f"{hello.node} joins pool {hello.tier} without an address: give --address"
        if link.host and (problem := address_problem(hello.data, link.host, pool.networks, pool.name)):
            return problem
    if (hello.tier not in topology.tiers and not record.agent) or record.tier != hello.tier:
        return f"{hello.node} is not a node of tier {hello.tier}: check --name and --tier"
    return ""


def name_problem(record: NodeRecord, replaced: NodeRecord | None, hello: Hello, link: Link, *, vouched: bool) -> str:
    """Why its process must not take the name; "" if it may. `replaced`: another process of the node, which the one of
    the record has replaced; it stays out for as long as that is connected."""
    stays_out = replaced.hello if replaced is not None and record.link is not None else None
    return takeover_problem(
        hello.node,
        hello.boot_id,
        link.host,
        live_host=record.link.host if record.link is not None else None,
        replaced_boot_id=stays_out.boot_id if stays_out is not None else "",
        vouched=vouched,
    )


def takes_agents(topology: Topology, name: str) -> bool:
    """Whether the name is that of a pool that agents join."""
    pool = topology.pools.get(name)
    return pool is not None and pool.agents
