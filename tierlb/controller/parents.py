"""Where nodes and agents report: the parents of each tier and pool, and the ticket that each child shows there."""

import attrs

from tierlb.channel.admission import Admission, bound
from tierlb.channel.parents import is_named
from tierlb.controller.node_record import NodeRecord
from tierlb.controller.registry import NodeRegistry
from tierlb.topology.allot import reports_to
from tierlb.wire.credentials import Principal
from tierlb.wire.frames import ParentAddress


def parents_of(registry: NodeRegistry, name: str) -> tuple[ParentAddress, ...]:
    """The nodes, as far as they have joined, of the tiers that send to the tier or pool `name`. Nodes that are found by
    one DNS name are one parent."""
    scheme = "ws" if registry.topology.tls is None else "wss"
    tiers = reports_to(registry.topology, name)
    by_url = {
        f"{scheme}://{record.hello.control}": record
        for record in registry.records.values()
        if record.tier in tiers and record.hello is not None and record.hello.control
    }
    return tuple(ParentAddress(record.tier if is_named(url) else record.name, url) for url, record in by_url.items())


def with_tickets(registry: NodeRegistry, admission: Admission, record: NodeRecord) -> tuple[ParentAddress, ...]:
    """The parents of a node or agent, each with the ticket that this child shows there."""
    parents = record.assignment.parents or ()
    if record.link is None or record.link.caller is None or record.hello is None:
        return parents
    child = bound(record.link.caller.principal, record.hello)
    return tuple(attrs.evolve(each, ticket=_ticket(registry, admission, each, child)) for each in parents)


def _ticket(registry: NodeRegistry, admission: Admission, parent: ParentAddress, child: Principal) -> str:
    if is_named(parent.url):
        return admission.ticket(parent.name, "", child)
    above = registry.records.get(parent.name)
    return admission.ticket(above.tier, above.name, child) if above is not None else ""
