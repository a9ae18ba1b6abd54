"""The volume of a compose file in which containers meet that hand connections to each other.

It is in the containers of all tiers over TCP as soon as one tier can hand over, so that no container is recreated
because a tier is put before, between or behind the others. Nodes that share it trust each other, as the processes of
one machine do: they could take each other's place. What separates them otherwise are networks (`compose_network.py`).
"""

from typing import Any

from tierlb.deploy.container import HANDOFF_DIRECTORY, UID
from tierlb.model.address import Transport
from tierlb.model.topology import Forwarding, Kind, Tier, Topology

HANDOFF = "handoff"
"""The volume's name."""
VOLUME: dict[str, Any] = {
    "driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": f"uid={UID},gid={UID},mode=0700,size=1m"}
}
"""In memory, because it holds nothing but sockets, which are of no use after the containers are gone."""
HANDS_OVER = (Forwarding.AUTO, Forwarding.HANDOFF)


def handoff_volume(topology: Topology) -> dict[str, Any]:
    """Its entry, if there is one."""
    return {HANDOFF: VOLUME} if hands_over(topology) else {}


def handoff_directory(topology: Topology, tier: Tier) -> str | None:
    """Where it is in the containers of this tier."""
    return HANDOFF_DIRECTORY if tier.protocol is Transport.TCP and hands_over(topology) else None


def hands_over(topology: Topology) -> bool:
    """Whether nodes of any tier may hand connections to nodes of another one."""
    senders = (tier for tier in topology.tiers.values() if tier.kind is Kind.L4 and tier.protocol is Transport.TCP)
    return any(tier.forward in HANDS_OVER and not topology.tiers.keys().isdisjoint(tier.targets) for tier in senders)
