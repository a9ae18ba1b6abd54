"""An exchange that explains in the response how its host was chosen: see dataplane/explanation.py."""

from tierlb.dataplane.explanation import answered, explain_choice, response_fields
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.reply import Reply, with_lines
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet


class ExplainedExchange(Exchange):
    """`lines` are the choices made here; those of nodes below come in the host's response. They are used only where
    nothing but a node of the cluster can have written them.

    A request for which no host could be found is explained in the answer that says so, and one that becomes a tunnel in
    the head before it.
    """

    __slots__ = ("lines",)

    def __init__(self, front: FrontState, downstream: Downstream, plan: RequestPlan, choice: HostSet) -> None:
        super().__init__(front, downstream, plan, choice)
        self.lines: list[bytes] = []

    def choose(self, tried: tuple[Host, ...], key: int, long: bool) -> Host | None:
        host, front = super().choose(tried, key, long), self.front
        self.lines.append(explain_choice(front.name, front.config.snapshot.balance, self.choice.hosts, host))
        return host

    def _take(self, host_set: HostSet, tried: tuple[Host, ...]) -> None:
        """A choice that failed is reported, one that found no host before the request was held is not."""
        super()._take(host_set, tried)
        if not tried:
            self.lines = []

    def _pass_head(self, reply: Reply) -> None:
        super()._pass_head(self._with_choices(reply))

    def _switch_protocols(self, reply: Reply) -> None:
        super()._switch_protocols(self._with_choices(reply))

    def explained(self, status: int, reason: str, detail: str) -> bytes:
        self.lines.append(answered(self.front.name, status, f"{reason}: {detail}" if detail else reason))
        return self._choices()

    def _choices(self) -> bytes:
        return response_fields((*self.downstream.identity.explained, *self.lines))

    def _with_choices(self, reply: Reply) -> Reply:
        assert self.ticket is not None
        spec = self.ticket.host.spec
        from_below = reply.explained if spec.child and not spec.leads_out else b""
        return with_lines(reply, self._choices() + from_below)
