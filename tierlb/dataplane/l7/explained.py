"""An exchange that tells how its host was chosen, in the response: see dataplane/explanation.py."""

from typing import TYPE_CHECKING

from tierlb.dataplane.explanation import answered, recorded, response_fields
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.plan import Plan
from tierlb.dataplane.l7.reply import Reply, with_lines
from tierlb.dataplane.upstream.host_set import HostSet

if TYPE_CHECKING:
    from tierlb.dataplane.l7.client import ClientConnection


class ExplainedExchange(Exchange):
    """`lines` are the choices made here; those of nodes below come in the host's response. They are believed only
    where nobody but a node of the cluster can have written them.

    A request for which no host could be found is explained in the answer that says so, and one that becomes a tunnel
    in the head before it.
    """

    __slots__ = ("lines",)

    def __init__(self, client: "ClientConnection", plan: Plan, host_set: HostSet) -> None:
        front = client.front
        noted = recorded(host_set, front.name, front.snapshot.balance)
        super().__init__(client, plan, noted)
        self.lines = noted.lines

    def _take_host_set(self, host_set: HostSet) -> None:
        """A choice that failed is reported, one that found no host before the request was held is not."""
        self.host_set = noted = recorded(host_set, self.front.name, self.front.snapshot.balance)
        if self.tried:
            noted.lines = self.lines
        self.lines = noted.lines

    def _response_head(self, reply: Reply, rest: bytes) -> None:
        super()._response_head(with_lines(reply, self._told() + self._from_below(reply)), rest)

    def _switch_protocols(self, reply: Reply, rest: bytes) -> None:
        super()._switch_protocols(with_lines(reply, self._told() + self._from_below(reply)), rest)

    def _refuse(self, status: int, reason: str, detail: str = "", *, retry_after: bool = False) -> None:
        self.lines.append(answered(self.front.name, status, f"{reason}: {detail}" if detail else reason))
        super()._refuse(status, reason, detail, retry_after=retry_after)

    def _extra(self) -> bytes:
        return self._told()

    def _told(self) -> bytes:
        return response_fields((*self.client.explained, *self.lines))

    def _from_below(self, reply: Reply) -> bytes:
        assert self.host is not None
        spec = self.host.spec
        return reply.explained if spec.child and not spec.leads_out else b""
