"""What the admin API can be asked: each operation with its handler, what it takes, answers and refuses.

The list is the one source of the routes (app.py) and of their description (openapi.py). Reading is free for clients
that ask from this machine; changes and explanations need the token (access.py). A change is answered as soon as it has
begun (202): its progress is read from /v1/progress/NUMBER. 200 means that nothing was begun, because of `dry_run` or
because nothing would change.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import attrs
import trio

from tierlb.admin.answers import json_answer, text_answer
from tierlb.admin.bodies import ApplyBody, ChangeBody, EditBody, PlanBody, RestartBody, RollbackBody
from tierlb.admin.refusals import RequestRefused
from tierlb.controller.changes import Changes
from tierlb.controller.history import HistoryRow, Revision
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NothingToDo, Proposal
from tierlb.controller.status import ClusterStatus, as_json
from tierlb.net.http_server import HttpAnswer
from tierlb.topology.plan import Plan
from tierlb.topology.units import shown
from tierlb.topology.verbs import SetNode, command_of

EXPLAIN_S = 10.0
LEARN_S = 0.1
"""For the nonce to reach the nodes: some ms for each tier, more on busy machines."""


class Cluster(Protocol):
    """What the API shows: the controller."""

    def status(self) -> ClusterStatus:
        """The status as it is known already."""

    async def observe(self) -> ClusterStatus:
        """The same after asking the nodes for their figures; waits a moment at most."""

    def explain(self, ttl_s: float) -> str:
        """A nonce: requests that carry it are explained for so long."""


@attrs.frozen
class HistoryAnswer:
    """The revisions that are kept, newest last, and the number of the active one."""

    active: int
    revisions: tuple[HistoryRow, ...]


@attrs.frozen
class TopologyAnswer:
    """The active topology file, its revision, and where it is kept in step on disk."""

    cluster: str
    revision: int
    text: str
    file: str | None


@attrs.frozen
class ProgressAnswer:
    """The change under way, or else the latest one; null if there was none since the start."""

    change: Progress | None


@attrs.frozen
class ExplainAnswer:
    """Requests with this nonce in X-Tierlb-Explain are explained for so long."""

    nonce: str
    ttl_s: float


@attrs.frozen
class Call:
    """What a handler gets of a request beside its body. `is_trusted`: it comes from this machine or shows the token;
    `number` is the one in the path."""

    is_trusted: bool = True
    number: str = ""


OperationHandler = Callable[[Call, Any], Awaitable[HttpAnswer]]


@attrs.frozen
class Operation:
    """`body`: the class of what it takes. `answers`: by status, the class of what it gives (None: plain text).
    `refusals`: the statuses of refusals that are its own."""

    method: str
    path: str
    handle: OperationHandler
    answers: dict[int, Any]
    body: Any = None
    token: bool = False
    refusals: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        """Its docstring."""
        return " ".join((self.handle.__doc__ or "").split())


def operations(cluster: Cluster, changes: Changes) -> tuple[Operation, ...]:
    """Everything that can be asked of a cluster."""
    view, change = Views(cluster, changes), Orders(changes)
    begun = {200: Plan, 202: Progress}
    conflicting, storing = (409, 422), (409, 422, 503, 507)
    return (
        Operation("GET", "/healthz", view.health, {200: None, 503: None}),
        Operation("GET", "/v1/status", view.status, {200: ClusterStatus}),
        Operation("GET", "/v1/topology", view.topology, {200: TopologyAnswer}),
        Operation("GET", "/v1/history", view.history, {200: HistoryAnswer}),
        Operation("GET", "/v1/history/{number}", view.revision, {200: Revision}, refusals=(404,)),
        Operation("GET", "/v1/progress", view.progress, {200: ProgressAnswer}),
        Operation("GET", "/v1/progress/{number}", view.progress_of, {200: Progress}, refusals=(404,)),
        Operation("POST", "/v1/explain", view.explain, {200: ExplainAnswer}, token=True),
        Operation("POST", "/v1/plan", change.plan, {200: Plan}, PlanBody, token=True, refusals=conflicting),
        Operation("POST", "/v1/apply", change.apply, begun, ApplyBody, token=True, refusals=storing),
        Operation("POST", "/v1/edit", change.edit, begun, EditBody, token=True, refusals=storing),
        Operation("POST", "/v1/rollback", change.rollback, begun, RollbackBody, token=True, refusals=(404, *storing)),
        Operation(
            "POST", "/v1/restart", change.restart, {202: Progress}, RestartBody, token=True, refusals=conflicting
        ),
    )


@attrs.frozen
class Views:
    """The operations that read."""

    cluster: Cluster
    changes: Changes

    async def health(self, call: Call, __: None) -> HttpAnswer:
        """Whether every tier and pool has at least one that serves, as nodes observe their endpoints; pools that fill
        themselves may be empty."""
        now = self.cluster.status()
        if now.serving:
            return text_answer("ok\n")
        down = (f"pool {name}: no endpoint is available" for name in now.down)
        lines = ("not serving", *(f"waiting for {phrase}" for phrase in now.waiting), *down)
        shown = lines if call.is_trusted else lines[:1]
        return text_answer("\n".join(shown) + "\n", 503)

    async def status(self, _: Call, __: None) -> HttpAnswer:
        """The whole tree with figures of just now, for which it waits a moment."""
        return json_answer(as_json(await self.cluster.observe()))

    async def topology(self, _: Call, __: None) -> HttpAnswer:
        """The active topology file."""
        changes = self.changes
        file = str(changes.state.kept_file.file) if changes.state.kept_file is not None else None
        return json_answer(
            TopologyAnswer(changes.controller.topology.cluster, changes.history.active, changes.text, file)
        )

    async def history(self, _: Call, __: None) -> HttpAnswer:
        """The revisions of the topology, each with its author, time and reason."""
        return json_answer(HistoryAnswer(self.changes.history.active, self.changes.history.rows()))

    async def revision(self, call: Call, _: None) -> HttpAnswer:
        """One revision with its text."""
        return json_answer(self.changes.history.get(_path_number(call)))

    async def progress(self, _: Call, __: None) -> HttpAnswer:
        """The progress of the change under way, or of the latest one."""
        return json_answer(ProgressAnswer(self.changes.runner.progress))

    async def progress_of(self, call: Call, _: None) -> HttpAnswer:
        """The progress of one change, by its number; the latest ones are kept."""
        number = _path_number(call)
        for change in self.changes.runner.recent:
            if change.number == number:
                return json_answer(change)
        raise RequestRefused(404, "unknown", f"there is no change {number}, or none any more")

    async def explain(self, _: Call, __: None) -> HttpAnswer:
        """A nonce for requests that are to be explained. It answers when most nodes should have it. They do not confirm
        that: a client that gets no explanation yet asks again and is given the same nonce."""
        nonce = self.cluster.explain(EXPLAIN_S)
        await trio.sleep(LEARN_S)
        return json_answer(ExplainAnswer(nonce, EXPLAIN_S))


@attrs.frozen
class Orders:
    """What changes something, or gives the plan of a change."""

    changes: Changes

    async def plan(self, _: Call, body: PlanBody) -> HttpAnswer:
        """What a topology file, or an edit of the active one, would start, stop, move and mean for connections."""
        edit = body.edit
        if edit is not None:
            return json_answer(self._rehearse(lambda: self.changes.proposals.edited(edit), None))
        return json_answer(self._rehearse(partial(self.changes.proposals.with_text, body.text or ""), None))

    async def apply(self, _: Call, body: ApplyBody) -> HttpAnswer:
        """Change the cluster to this topology file. Admin states of nodes and agents stay."""
        propose = partial(self.changes.proposals.with_text, body.text)
        return await self._begin(body, propose, partial(self.changes.apply, body.text, body.request))

    async def edit(self, _: Call, body: EditBody) -> HttpAnswer:
        """Change the active revision by a verb: its text, or the admin state of a node or agent."""
        edit, what = body.edit, command_of(body.edit)
        why = f"{what}: {body.why}" if body.why and isinstance(edit, SetNode) else body.why or what
        request = attrs.evolve(body.request, why=why)  # nothing else in the history names the node
        return await self._begin(
            body, partial(self.changes.proposals.edited, edit), partial(self.changes.edit, edit, request, what)
        )

    async def rollback(self, _: Call, body: RollbackBody) -> HttpAnswer:
        """Apply an old revision again: its text and its admin states."""
        propose = partial(self.changes.proposals.revision, body.number)
        return await self._begin(body, propose, partial(self.changes.rollback, body.number, body.request))

    async def restart(self, _: Call, body: RestartBody) -> HttpAnswer:
        """Put a new process in the place of each node of a tier, one after the other."""
        return json_answer(self.changes.restart(body.tier, body.request), 202)

    async def _begin(
        self, body: ChangeBody, propose: Callable[[], Proposal], begin: Callable[[], Awaitable[Progress]]
    ) -> HttpAnswer:
        if body.dry_run:
            return json_answer(self._rehearse(propose, body.expected))
        try:
            return json_answer(await begin(), 202)
        except NothingToDo:
            return json_answer(self.changes.proposals.plan(propose()))

    def _rehearse(self, propose: Callable[[], Proposal], expected: int | None) -> Plan:
        """The plan, with the refusals that an apply would meet now."""
        self.changes.runner.demand_idle()
        proposal = propose()
        plan = self.changes.proposals.plan(proposal)
        self.changes.history.accept(proposal.text, "", "", 0.0, expected)
        self.changes.proposals.demand_serving(proposal)
        return plan


def _path_number(call: Call) -> int:
    text = call.number
    if not re.fullmatch("[0-9]{1,9}", text):
        raise RequestRefused(404, "unknown", f"{shown(text)} is not a number")
    return int(text)
