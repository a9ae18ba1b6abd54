"""Changes of a running cluster: what can be asked for, one at a time, and what begins with it.

A change is a new text of the topology file, or other admin states beside the text. It is accepted into the history,
which is stored before anything else happens. Then it is carried out (rollout.py). A change that alters no topology,
such as a drain, has no stages and is never taken back.

Left out: what makes a change impossible (proposals.py), starting processes (machines.py), HTTP (admin/), and which of
several controllers is the active one (election.py).
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs
import trio

from tierlb.channel.log import Log
from tierlb.controller.change_runner import ChangeRunner, ChangeUnderWay
from tierlb.controller.controller import Controller
from tierlb.controller.history import History, Rollout
from tierlb.controller.kept_file import KeptFile
from tierlb.controller.kept_state import KeptState
from tierlb.controller.machines import Machines
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NothingToDo, NotPossible, Proposal, Proposals
from tierlb.controller.restart import restart_tier
from tierlb.controller.rollout import BACK_S, RolloutRun
from tierlb.controller.stages import lacking
from tierlb.controller.store import Store
from tierlb.model.topology import Topology
from tierlb.topology.stages import transition
from tierlb.topology.verbs import Verb

DEADLINE_S = 60.0
SERVED_WITHIN_S = 5.0
"""How long `drain` waits for nodes to serve what is wanted of them; those that work do within a second."""


@attrs.frozen
class Request:
    """`who`: the user in whose name the change is made. `expected`: the revision that it was made from; None: whatever
    is current."""

    who: str
    why: str = ""
    expected: int | None = None
    deadline_s: float = DEADLINE_S


class Changes:
    """Begin with startup.py, before the cluster runs; `run` for as long as it does; then `apply` and the others.

    `file`: the topology file, which is kept in step where no user has edited it meanwhile. Without one, `name` is where
    relative paths of a text start. `now`: Unix seconds.
    """

    def __init__(
        self,
        controller: Controller,
        store: Store,
        log: Log,
        file: Path | None = None,
        *,
        name: str = "FILE",
        now: Callable[[], float] = time.time,
        machines: Machines | None = None,
        kept_file: KeptFile | None = None,
    ) -> None:
        self.controller = controller
        self.log = log
        self.now = now
        self.machines = machines
        """Set before `run`."""
        if kept_file is None and file is not None:
            kept_file = KeptFile(file, log)
        self.state = KeptState(store, log, controller.publisher, kept_file)
        self.proposals = Proposals(controller, self.state, str(file or name))
        self.runner = ChangeRunner(self.state, controller.errors, log)
        self.resumed: Rollout | None = None
        """A change that another controller has begun."""
        self._accepting = trio.Lock()

    @property
    def history(self) -> History:
        """Every revision that is kept."""
        return self.state.history

    @property
    def text(self) -> str:
        """Of the active revision."""
        return self.state.text

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry changes out, until cancelled."""
        await self.runner.run(self._resume, task_status)

    # What can be asked for. Nothing of it waits for the cluster, only for the store.

    async def apply(self, text: str, request: Request, what: str = "apply") -> Progress:
        """Accept the text and begin to carry it out. Raises TopologyError, NotPossible, Conflict, ChangeUnderWay and
        StoreError, and then nothing has changed."""
        return await self._accept(lambda: self.proposals.with_text(text), request, what)

    async def edit(self, edit: Verb, request: Request, what: str) -> Progress:
        """A verb. Raises EditError too."""
        return await self._accept(lambda: self.proposals.edited(edit), request, what)

    async def rollback(self, number: int, request: Request) -> Progress:
        """Make the cluster what it was asked to be in an old revision. Raises UnknownRevision too."""
        request = attrs.evolve(request, why=request.why or f"back to revision {number}")
        return await self._accept(lambda: self.proposals.revision(number), request, f"rollback {number}")

    def restart(self, tier: str, request: Request) -> Progress:
        """Put a new process in the place of each node of the tier, one after the other. Raises ChangeUnderWay and
        NotPossible."""
        self.runner.demand_idle()
        if self._accepting.locked():
            raise ChangeUnderWay("another change is being accepted: try again")
        if tier not in self.controller.topology.tiers:
            raise NotPossible(f"there is no tier {tier}: there are {', '.join(self.controller.topology.tiers)}")
        machines = self._machines()
        if not machines.replaces:
            raise NotPossible(f"the nodes of {tier} were not started from here: restart them by whatever started them")
        progress = self.runner.begin(Progress(f"restart {tier}", 0, request.who))
        self.runner.start(progress, partial(restart_tier, self.controller, machines, tier))
        return progress

    async def _accept(self, propose: Callable[[], Proposal], request: Request, what: str) -> Progress:
        """One proposal at a time, each made from what the one before it left."""
        async with self._accepting:
            self.runner.demand_idle()
            return await self._begin_change(propose(), request, what)

    async def _begin_change(self, proposal: Proposal, request: Request, what: str) -> Progress:
        base, before, after = self.proposals.current, self.controller.topology, self.proposals.load(proposal.text)
        plan = self.proposals.describe(before, after, base, proposal)
        if reason := self.proposals.problem(plan, after, proposal):
            raise NotPossible(reason)
        history = self.history.accept(
            proposal.text, request.who, request.why, self.now(), request.expected, proposal.admin_states
        )
        stages = transition(before, after)
        if not stages and proposal == base:
            raise NothingToDo("nothing would change")
        rollout = Rollout(history.active, self.history.active, self.now() + request.deadline_s) if stages else None
        await self.state.save(history=history, rollout=rollout)
        progress = self.runner.begin(Progress(what, history.active, request.who, stages=len(stages)), plan.lines)
        self._want_meanwhile(base, proposal, after)
        with self.controller.errors.barrier("topology file"):
            await self.state.write_file(base.text, proposal.text)  # not cancelled, so what is stored is carried out
        if stages:
            self._roll_out(progress, before, stages, request.deadline_s)
        else:
            self.runner.start(progress, self._wait_served)
        return progress

    # How it is carried out.

    def _resume(self) -> None:
        """Go on with what another controller began."""
        rollout = self.resumed
        if rollout is None:
            return
        base, proposal = (self.proposals.revision(number) for number in (rollout.previous, rollout.target))
        before, after = self.controller.topology, self.proposals.load(proposal.text)
        stages = transition(before, after)
        plan = self.proposals.describe(before, after, base, proposal)
        progress = Progress("what another controller began", rollout.target, "", stages=len(stages))
        self.runner.begin(progress, plan.lines)
        self._want_meanwhile(base, proposal, after)
        deadline_s = max(rollout.deadline_s - self.now(), BACK_S)
        self._roll_out(progress, before, stages, deadline_s, min(rollout.stage, len(stages)))

    def _want_meanwhile(self, base: Proposal, proposal: Proposal, after: Topology) -> None:
        states = self.proposals.meanwhile(base.admin_states, proposal.admin_states, after)
        self.controller.node_admin.want(states)

    def _roll_out(
        self, progress: Progress, before: Topology, stages: Sequence[Topology], deadline_s: float, begun: int = 0
    ) -> None:
        run = RolloutRun(self.controller, self._machines(), self.state, self.proposals, progress, before)

        async def job(_: Progress) -> str:
            return await run.run(stages, deadline_s, begun)

        self.runner.start(progress, job)

    async def _wait_served(self, progress: Progress) -> str:
        """The topology is the same, so nothing has to come up. An admin state is not taken back because a node does not
        answer: it gets it when it does."""
        with trio.move_on_after(SERVED_WITHIN_S) as served:
            await self.controller.wait_settled()
        if served.cancelled_caught:
            progress.add(f"not every node serves it yet: {lacking(self.controller)}")
        return "done"

    def _machines(self) -> Machines:
        assert self.machines is not None, "changes come after the start"
        return self.machines
