"""An exchange that tells how its member was chosen, in the response: see dataplane/explanation.py."""

from typing import TYPE_CHECKING

from tierlb.dataplane.explanation import FIELD, recorded
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.plan import Plan
from tierlb.dataplane.l7.reply import Reply, with_lines
from tierlb.dataplane.roster import Group

if TYPE_CHECKING:
    from tierlb.dataplane.l7.client import ClientConnection


class ExplainedExchange(Exchange):
    """`lines` are the choices made here. Lines of nodes below are in the member's own response already."""

    __slots__ = ("lines",)

    def __init__(self, client: "ClientConnection", plan: Plan, group: Group) -> None:
        front = client.front
        noted = recorded(group, front.name, front.snapshot.balance)
        super().__init__(client, plan, noted)
        self.lines = noted.lines

    def _response_head(self, reply: Reply, rest: bytes) -> None:
        told = [*self.client.explained, *self.lines]
        super()._response_head(with_lines(reply, b"".join(b"%b: %b\r\n" % (FIELD, line) for line in told)), rest)
