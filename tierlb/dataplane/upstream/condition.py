"""What decides whether one host may be sent to, as it is observed: by checks, its agent, its reports.

`balance.availability` has the rule; this is where its inputs are kept that no other part of the host owns.
"""

import enum

import attrs

from tierlb.balance.availability import Availability, availability_of
from tierlb.balance.received_reports import ReceivedReports
from tierlb.model.snapshot import HostSpec
from tierlb.model.topology import Admin
from tierlb.wire.agent_check import AgentReply


class HostEvent(enum.StrEnum):
    """Why a host's availability changed, as it is logged (`host_ejected`, …)."""

    RESTORED = "restored"
    TRIED_AGAIN = "tried_again"
    EJECTED = "ejected"
    UNHEALTHY = "unhealthy"
    SILENT = "silent"
    REPORTING_AGAIN = "reporting_again"
    DRAIN_STARTED = "drain_started"
    DRAIN_ENDED = "drain_ended"
    CHANGED_BY_AGENT = "changed_by_agent"

    @property
    def is_trouble(self) -> bool:
        return self in (HostEvent.EJECTED, HostEvent.UNHEALTHY, HostEvent.SILENT)


@attrs.frozen
class AgentState:
    """What the host's agent answered last. A `maxconn` of 0 is no limit; `weight` is a factor of the configured one."""

    admin: Admin = Admin.READY
    up: bool | None = None
    maxconn: int = 0
    weight: float = 1.0

    def after(self, reply: AgentReply) -> "AgentState":
        """What an answer does not mention stays as it was."""
        return AgentState(
            reply.admin or self.admin,
            self.up if reply.health is None else reply.health,
            self.maxconn if reply.maxconn is None else reply.maxconn,
            self.weight if reply.weight is None else reply.weight,
        )

    def admits_as(self, other: "AgentState") -> bool:
        """Whether both lead to the same availability."""
        return (self.admin, self.up) == (other.admin, other.up)


class Condition:
    """`healthy` is the result of active checks, None while there is none. Until `awaited_until` a node is expected to
    send its first report. A host that is `retired` is in no snapshot any more."""

    __slots__ = ("agent", "awaited_until", "healthy", "retired")

    def __init__(self, awaited_until: float) -> None:
        self.agent = AgentState()
        self.awaited_until = awaited_until
        self.healthy: bool | None = None
        self.retired = False

    def weight_of(self, spec: HostSpec) -> float:
        """By the file, operators and the agent."""
        return spec.weight * self.agent.weight

    def availability(self, spec: HostSpec, received: ReceivedReports, now: float, *, ejected: bool) -> Availability:
        """Whether it may be sent to now."""
        load = received.latest
        return availability_of(
            healthy=False if self.agent.up is False or received.no_leaf_ready else self.healthy,
            admin=self.agent.admin if spec.admin is Admin.READY else spec.admin,
            ejected=ejected,
            leaving=load is not None and received.connected and load.draining,
            silent=received.silent and spec.child,
            awaited=not received.connected and now < self.awaited_until,
            weight=self.weight_of(spec),
        )
