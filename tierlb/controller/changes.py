"""Changes of a running cluster: one at a time, stage by stage, and back if a stage does not come off.

A change is a new text of the topology file. It is accepted into the history, which is stored before anything else
happens; then each stage of the transition (topology/plan.py) is made the desired topology, processes that it needs
are started, and everybody's acknowledgement is waited for. Processes that nothing sends to any more are stopped last.
A stage that is not reached in time, whose new nodes keep ending or whose snapshot a node refuses ends the change: the
way back is a transition like any other, from the stage that was reached to the topology before.

Verbs are edits of the text (topology/edit.py), or of what is wanted of nodes and agents beside it (admin_states.py), so
there is one way for every change. One that alters no topology, such as a drain, has no stages and is never taken back.

A controller that takes over from another one (`take_over`) finds nodes that serve, so it goes on with what had begun,
in the stage that was begun last.

Left out: starting processes (`Machines`: local/process_manager.py, elsewhere.py), HTTP (admin/), and which of several
controllers is the active one.
"""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import attrs
import trio

from tierlb.balance.slow_start import FULL_AFTER_S
from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.controller.admin_states import (
    MOST_STATES,
    AdminStates,
    SetAdmin,
    changes_between,
    kept,
    meanwhile,
    with_state,
)
from tierlb.controller.controller import Controller
from tierlb.controller.draining import waiting_for
from tierlb.controller.history import History, Rollout
from tierlb.controller.kept_file import KeptFile
from tierlb.controller.progress import Progress
from tierlb.controller.status import State
from tierlb.controller.store import Store, Stored
from tierlb.model.topology import Admin, Tier, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.plan import Plan, describe
from tierlb.topology.stages import transition
from tierlb.topology.units import duration_text
from tierlb.topology.verbs import Edit

AT_START = "the file at the start"
INTERNAL = "an internal error: see internal_error in the log"
DEADLINE_S = 60.0
BACK_S = 30.0
"""For each stage on the way back, whatever the deadline was."""
REPLACE_S = 20.0
CRASHES = 3
STRAGGLERS_S = 2.0
TELL_EVERY_S = 3.0
"""What is waited for is said again so often, if it has changed."""
LOOK_EVERY_S = 0.25
READY_PART = 0.5
SERVED_WITHIN_S = 5.0
"""How long `drain` waits for nodes to serve what is wanted of them; those that work do within a second."""
KEPT_CHANGES = 16
"""Whoever follows a change asks a few times a second, so its end is heard of also when others have begun since."""


class Machines(Protocol):
    """Who starts and stops processes. `replaces`: it can put a new process in the place of one."""

    @property
    def replaces(self) -> bool: ...
    def grow(self, topology: Topology) -> tuple[str, ...]: ...
    def needed(self, tier: Tier) -> int: ...
    def surplus(self, topology: Topology) -> tuple[str, ...]: ...
    async def stop_nodes(self, names: Iterable[str]) -> None: ...
    async def shrink(self, topology: Topology) -> None: ...
    async def replace(self, topology: Topology, name: str) -> None: ...
    async def wait_replaced(self) -> None: ...
    def crashes(self, names: Collection[str]) -> int: ...
    def problems(self, names: Collection[str] | None = None) -> tuple[str, ...]: ...


class Busy(Exception):  # noqa: N818 (a verdict on the request: another change is on its way)
    """Another change is being carried out; the text says which."""


class NotPossible(ValueError):  # noqa: N818 (a verdict on the request)
    """The change cannot be made; the text says why and what to do."""


class NothingToDo(NotPossible):
    """The cluster is that already."""


class GaveUp(Exception):  # noqa: N818 (it did not come off, and the text says why)
    """A stage was not reached."""


@attrs.frozen
class Request:
    """Who wants what. `expected`: the revision that it was made from (None: whatever is current)."""

    who: str
    why: str = ""
    expected: int | None = None
    deadline_s: float = DEADLINE_S


@attrs.frozen
class Proposal:
    """What a cluster may be asked to be: a text of the topology file, and what is wanted of nodes and agents."""

    text: str
    admin_states: AdminStates


@attrs.define
class Changes:
    """`start` once, before the cluster runs, or `take_over`; `run` for as long as it does; then `apply` and the others.

    `file`: the topology file, which is kept in step where nobody has changed it meanwhile. Without one `name` is what
    problems are told under, and where relative paths start. `now`: Unix seconds.
    """

    controller: Controller
    store: Store
    log: Log
    file: Path | None = None
    name: str = "FILE"
    now: Callable[[], float] = time.time
    machines: Machines | None = None
    kept_file: KeptFile | None = attrs.field(
        default=attrs.Factory(lambda self: KeptFile(self.file, self.log) if self.file else None, takes_self=True)
    )
    progress: Progress | None = None
    recent: deque[Progress] = attrs.field(factory=lambda: deque(maxlen=KEPT_CHANGES), init=False)
    _stored: Stored = attrs.field(factory=Stored, init=False)
    _version: int = attrs.field(default=0, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _accepting: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _saving: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _resumed: Rollout | None = attrs.field(default=None, init=False)

    @property
    def history(self) -> History:
        """Every revision that is kept."""
        return self._stored.history

    @property
    def text(self) -> str:
        """Of the active revision."""
        current = self.history.current
        return current.text if current is not None else ""

    async def start(self, text: str, who: str) -> str:
        """Begin with this text of the file, as a new revision unless it is the active one; the text that counts. What a
        dead controller had begun to change is taken back, for nothing of it runs any more, in the file as well, and the
        controller is told. Raises StoreError."""
        await self._find()
        rollout = self._stored.rollout
        if rollout is not None and not rollout.over:
            text = await self._take_back(rollout, text)
        if text != self.text:
            states = self._kept(self.history.admin_states, self.controller.topology)
            await self._keep(history=self.history.accept(text, who, AT_START, self.now(), None, states))
        self.controller.want(self.history.admin_states)
        return text

    async def take_over(self, text: str, who: str) -> Topology:
        """Begin with what is stored, for it is served; the topology that counts. `text` is the first revision if there
        is none yet. A change that had begun goes on when `run` does. Raises StoreError and TopologyError."""
        await self._find()
        if not self.history.revisions:
            self._load(text)  # what cannot be served is not stored either
            await self._keep(history=self.history.accept(text, who, AT_START, self.now(), None))
        rollout = self._stored.rollout
        if rollout is None or rollout.over:
            self.controller.want(self.history.admin_states)
            return self._load(self.text)
        self._resumed = rollout
        previous = self.history.get(rollout.previous)
        self.controller.want(previous.admin_states)
        return self._load(previous.text)

    def is_news(self, text: str) -> bool:
        """Whether this text was never a revision, as far as they are kept."""
        return all(revision.text != text for revision in self.history.revisions)

    async def _find(self) -> None:
        found = await self.store.load()
        if found.warning:
            self.log.warning("the state is not the newest", reason=found.warning)
        self._version = found.version
        self._note(found.stored)

    async def _take_back(self, rollout: Rollout, text: str) -> str:
        target, previous = self.history.get(rollout.target).text, self.history.get(rollout.previous).text
        said = {"revision": rollout.target, "back_to": rollout.previous}
        self.log.warning("a change was cut short and is taken back", **said)
        if text == target:
            await self._write_file(text, previous)
            self.controller.adopt(self._load(previous))
            text = previous
        await self._keep(history=self.history.activate(rollout.previous), rollout=None)
        return text

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry changes out, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._resumed is not None:
                self._resume(self._resumed)
            task_status.started()
            await trio.sleep_forever()

    def _resume(self, rollout: Rollout) -> None:
        before, after = self.controller.topology, self._load(self.history.get(rollout.target).text)
        stages = transition(before, after)
        progress = Progress("what another controller began", rollout.target, "", stages=len(stages))
        was, wanted = self._states_of(rollout.previous), self._states_of(rollout.target)
        for line in self._describe(before, after, was, wanted).lines:
            progress.say(line)
        self._begin(progress)
        self._want_meanwhile(was, wanted, after)
        deadline_s = max(rollout.deadline_s - self.now(), BACK_S)
        self._spawn(self._carry_out, progress, before, stages, deadline_s, min(rollout.stage, len(stages)))

    # What can be asked for. Nothing of it waits for the cluster, but for the store.

    def demand_idle(self) -> None:
        """Raises Busy while a change is on its way: nothing else can begin, nor can anybody say what it would do."""
        if self.progress is not None and not self.progress.over:
            which = f"revision {self.progress.revision} " if self.progress.revision else ""
            raise Busy(
                f"{which}({self.progress.what}, by {self.progress.who}) is being carried out: wait until it is over"
            )
        if self._nursery is None:
            raise Busy("the cluster is still starting")

    def with_text(self, text: str) -> Proposal:
        """This text; what is wanted of nodes and agents stays, as no text says anything of that. Raises
        TopologyError."""
        states = self.history.admin_states
        return Proposal(text, self._kept(states, self._load(text)) if states else ())

    def edited(self, edit: Edit | SetAdmin) -> Proposal:
        """What a verb would make of the active revision. Raises EditError, TopologyError and NotPossible."""
        if isinstance(edit, SetAdmin):
            return Proposal(self.text, self._with_state(edit))
        return self.with_text(edited(self.text, edit, str(self.file or self.name)))

    def revision(self, number: int) -> Proposal:
        """As it was in an old revision. Raises UnknownRevision."""
        revision = self.history.get(number)
        return Proposal(revision.text, revision.admin_states)

    def plan(self, proposal: Proposal) -> Plan:
        """What this would do. Raises TopologyError."""
        before, after = self.controller.topology, self._load(proposal.text)
        return self._describe(before, after, self.history.admin_states, proposal.admin_states)

    def demand_serving(self, proposal: Proposal) -> None:
        """Raises NotPossible where a tier would have only nodes that operators have taken out."""
        if reason := self._why_nothing_serves(self._load(proposal.text), proposal.admin_states):
            raise NotPossible(reason)

    async def apply(self, text: str, request: Request, what: str = "apply") -> Progress:
        """Accept the text and begin to carry it out. Raises TopologyError, NotPossible, Conflict, Busy and StoreError,
        and then nothing has changed."""
        return await self._accept(lambda: self.with_text(text), request, what)

    async def edit(self, edit: Edit | SetAdmin, request: Request, what: str) -> Progress:
        """A verb. Raises EditError too."""
        return await self._accept(lambda: self.edited(edit), request, what)

    async def rollback(self, number: int, request: Request) -> Progress:
        """Make the cluster what it was asked to be in an old revision. Raises UnknownRevision too."""
        why = request.why or f"back to revision {number}"
        return await self._accept(lambda: self.revision(number), attrs.evolve(request, why=why), f"rollback {number}")

    async def _accept(self, propose: Callable[[], Proposal], request: Request, what: str) -> Progress:
        """One proposal at a time, each made from what the one before it left."""
        async with self._accepting:
            self.demand_idle()
            return await self._begin_change(propose(), request, what)

    async def _begin_change(self, proposal: Proposal, request: Request, what: str) -> Progress:
        text, states, base = proposal.text, proposal.admin_states, Proposal(self.text, self.history.admin_states)
        before, after = self.controller.topology, self._load(text)
        plan = self._describe(before, after, base.admin_states, states)
        if reason := self._why_not(plan, after, states):
            raise NotPossible(reason)
        history = self.history.accept(text, request.who, request.why, self.now(), request.expected, states)
        stages = transition(before, after)
        if not stages and proposal == base:
            raise NothingToDo("nothing would change")
        rollout = Rollout(history.active, self.history.active, self.now() + request.deadline_s) if stages else None
        await self._keep(history=history, rollout=rollout)
        progress = self._begin(Progress(what, history.active, request.who, stages=len(stages)))
        for line in plan.lines:
            progress.say(line)
        self._want_meanwhile(base.admin_states, states, after)
        with self.controller.errors.barrier("topology file"):
            await self._write_file(base.text, text)  # not cancelled, so what has been stored is carried out
        if stages:
            self._spawn(self._carry_out, progress, before, stages, request.deadline_s)
        else:
            self._spawn(self._wait_served, progress)
        return progress

    def _why_not(self, plan: Plan, after: Topology, states: AdminStates) -> str:
        """Why the cluster cannot become that; "" if it can."""
        if plan.unsupported:
            return "; ".join(each.reason for each in plan.unsupported)
        if self.controller.engine is not None:
            return self.controller.engine.lack(after)
        return self._why_nothing_serves(after, states)

    def _why_nothing_serves(self, after: Topology, states: AdminStates) -> str:
        """Not of tiers of which that is so already: making another node ready is no worse."""
        was = _all_out(self.controller.topology, self.history.admin_states)
        for tier, node in _all_out(after, states).items():
            if tier not in was and self.controller.engine is None:
                return f"of {tier} only nodes that are drained would be left: `tierlb ready {node}` first"
        return ""

    def restart(self, tier: str, request: Request) -> Progress:
        """Put a new process in the place of each node of the tier, one after the other."""
        self.demand_idle()
        if self._accepting.locked():
            raise Busy("another change is being accepted: try again")
        if tier not in self.controller.topology.tiers:
            raise NotPossible(f"there is no tier {tier}: there are {', '.join(self.controller.topology.tiers)}")
        if self.machines is not None and not self.machines.replaces:
            raise NotPossible(f"the nodes of {tier} were not started from here: restart them by whatever started them")
        progress = self._begin(Progress(f"restart {tier}", 0, request.who))
        self._spawn(self._restart, progress, tier)
        return progress

    def _kept(self, states: AdminStates, topology: Topology) -> AdminStates:
        return kept(states, topology, numbered=self.controller.engine is None)

    def _states_of(self, revision: int) -> AdminStates:
        return self.history.get(revision).admin_states

    def _want_meanwhile(self, before: AdminStates, after: AdminStates, topology: Topology) -> None:
        states = meanwhile(before, after, topology, numbered=self.controller.engine is None)
        self.controller.want(states)

    def _with_state(self, edit: SetAdmin) -> AdminStates:
        """Raises NotPossible. One that is not there can only be made ready, which ends what was wanted of it."""
        states, name = self.history.admin_states, edit.name
        record = self.controller.records.get(name)
        if edit.state is Admin.READY and any(each.name == name for each in states):
            return with_state(states, "", name, edit.state)
        if record is None or record.leaving:
            raise NotPossible(f"there is no node or agent {name}: see `tierlb status`")
        serving = [each.name for each in self.controller.records.values() if each.state is State.SERVING]
        out = self.controller.admin
        peers = [each for each in serving if each not in out and self.controller.records[each].tier == record.tier]
        if edit.state is not Admin.READY and peers == [name]:
            raise NotPossible(f"{name} is the last one of {record.tier} that serves: scale {record.tier} first")
        if len(states) >= MOST_STATES:
            gone = [each.name for each in states if each.name not in self.controller.records][:3]
            named = f"those that are gone, as {', '.join(gone)}" if gone else "some"
            raise NotPossible(f"{len(states)} nodes and agents are drained or in maintenance: make {named} ready first")
        return with_state(states, record.tier, name, edit.state)

    # How it is carried out.

    async def _wait_served(self, progress: Progress) -> None:
        """The topology is the same, so nothing has to come up, and what is wanted of nodes is not taken back because
        one of them does not answer: it gets it when it does."""
        with trio.move_on_after(SERVED_WITHIN_S) as served:
            while not self.controller.settled():
                await self.controller.wait_progress()
        if served.cancelled_caught:
            progress.say(f"not every node serves it yet: {self._lacking()}")
        await self._end(progress, "done")

    async def _carry_out(
        self, progress: Progress, before: Topology, stages: tuple[Topology, ...], deadline_s: float, at: int = 0
    ) -> None:
        """Stage by stage, but for those before `at`: the nodes have left them behind."""
        reached, fresh = before, set[str]()
        for stage in stages[: at - 1] if at else ():
            fresh.update(self._machines().grow(stage))
            reached = stage
        try:
            with trio.fail_after(deadline_s) as time:
                for number, stage in list(enumerate(stages, start=1))[max(at - 1, 0) :]:
                    await self._note_stage(number)
                    progress.stage = number
                    await self._reach(progress, reached, stage, stages[-1], fresh, time)
                    reached = stage
        except (GaveUp, trio.TooSlowError, OSError) as problem:
            reason = str(problem) or f"not done in {deadline_s:g} s: {self._lacking()}"
            await self._go_back(progress, before, reason)
        except Exception as error:
            self.controller.errors.note("change", error, what=progress.what)
            await self._go_back(progress, before, INTERNAL)
        else:
            self.controller.want(self.history.admin_states)
            await self._end(progress, "done")

    async def _note_stage(self, number: int) -> None:
        """Before any node hears of it, so that another controller does not lead them back. Of the first one, which
        comes after the topology before, nobody need know."""
        rollout = self._stored.rollout
        if rollout is not None and number > max(rollout.stage, 1):
            await self._keep_or_log(rollout=rollout.reach(number, rollout.deadline_s))

    async def _reach(
        self,
        progress: Progress,
        before: Topology,
        stage: Topology,
        target: Topology,
        fresh: set[str],
        time: trio.CancelScope,
    ) -> None:
        """Make this stage on the way to `target` the desired topology and wait until it is. `fresh` are the processes
        that this change started, to which those of the stage are added. While something drains, `time` stands still."""
        machines = self._machines()
        fresh.update(machines.grow(stage))
        vanished = [name for name in machines.surplus(stage) if self._tier_of(name) not in stage.tiers]
        if vanished:
            progress.say(f"stopping {', '.join(vanished)}")
            await self._stop_nodes(progress, vanished, time)
        moves = _moves(before, stage)
        self.controller.adopt(stage)
        while self._lack(stage, target):
            self._despair(target, fresh)
            with trio.move_on_after(LOOK_EVERY_S):
                await self.controller.wait_progress()
        await self._wait_for_stragglers()
        progress.say(f"stage {progress.stage} of {progress.stages}: every node serves it")
        if moves and stage is not target:
            await trio.sleep(FULL_AFTER_S)
        if surplus := machines.surplus(stage):
            progress.say(f"stopping {', '.join(surplus)}")
            await self._stop_nodes(progress, surplus, time)
        await _without_haste(time, machines.shrink(stage))

    async def _stop_nodes(self, progress: Progress, names: Sequence[str], time: trio.CancelScope) -> None:
        """At no expense of the time of the change, and saying what is waited for."""
        telling = trio.CancelScope()
        assert self._nursery is not None
        self._nursery.start_soon(self._tell_what_drains, progress, names, telling)
        try:
            await _without_haste(time, self._machines().stop_nodes(names))
        finally:
            telling.cancel()

    async def _tell_what_drains(self, progress: Progress, names: Sequence[str], telling: trio.CancelScope) -> None:
        controller, said = self.controller, ""
        tiers = {name: controller.topology.tiers.get(self._tier_of(name)) for name in names}
        until = trio.current_time() + max((tier.drain_s for tier in tiers.values() if tier is not None), default=0.0)
        with telling, controller.errors.barrier("words about what drains"):
            while True:
                controller.watch(2 * TELL_EVERY_S)
                await trio.sleep(TELL_EVERY_S)
                rows = ((name, tier, controller.cluster_view.of(name).row) for name, tier in tiers.items())
                found = [(name, tier.kind, row.own) for name, tier, row in rows if tier is not None and row is not None]
                what = waiting_for(found)
                if what and what != said:
                    progress.say(f"waiting for {what}, {max(0.0, until - trio.current_time()):.0f} s left")
                said = what

    async def _wait_for_stragglers(self) -> None:
        """What is to go may still take traffic, so it is given the time that a node needs if it is not broken."""
        with trio.move_on_after(STRAGGLERS_S):
            while not self.controller.settled():
                await self.controller.wait_progress()

    def _lack(self, stage: Topology, target: Topology) -> str:
        """What this stage still waits for; at the end that is everything, before it half of each tier and all local
        endpoints, for those of an old command stop with the stage. What is to go is not waited for: perhaps it goes
        because it is broken."""
        part = 1.0 if stage is target else READY_PART
        for tier in target.tiers.values():
            there, needed = len(self.controller.expected(tier)), math.ceil(part * self._machines().needed(tier))
            if tier.name in stage.tiers and there < needed:
                return f"of {tier.name} only {there} of {needed} nodes have joined"
        if stage is target:
            return "; ".join(self.controller.missing(drained=False)[:3])
        if not self.controller.settled(self._nodes(*target.tiers.values())):
            return "not all nodes serve their latest configuration yet"
        if unready := self.controller.unready_endpoints(target.pools):
            return unready[0]
        for tier in target.tiers.values():
            names = self._nodes(tier)
            out = len(self.controller.expected(tier)) - len(names)
            ready, needed = self.controller.ready(names), max(self._machines().needed(tier) - out, min(1, len(names)))
            if ready < math.ceil(READY_PART * needed):
                return f"of {tier.name} only {ready} of {needed} nodes are ready"
        return ""

    def _despair(self, target: Topology, fresh: Collection[str]) -> None:
        """Raise GaveUp where waiting will not help."""
        if self._machines().crashes(fresh) >= CRASHES:
            raise GaveUp("; ".join(self._machines().problems(fresh)[:3]) or "new processes keep ending")
        if refused := self.controller.refused(self._nodes(*target.tiers.values())):
            raise GaveUp(refused)

    async def _go_back(self, progress: Progress, before: Topology, reason: str) -> None:
        progress.reason = reason
        progress.say(f"taken back: {reason}")
        self.log.error("a change is taken back", what=progress.what, reason=reason)
        reached, rollout = self.controller.topology, self._stored.rollout
        if rollout is not None:
            self._want_meanwhile(self._states_of(rollout.target), self._states_of(rollout.previous), before)
        outcome, fresh = "rolled back", set[str]()
        try:
            stages = transition(reached, before) or (before,)
            for stage in stages:
                with trio.fail_after(BACK_S) as time:
                    await self._reach(progress, reached, stage, before, fresh, time)
                reached = stage
        except (GaveUp, trio.TooSlowError, OSError, ValueError) as problem:
            self.controller.adopt(before)
            progress.say(f"and the way back is not over yet: {str(problem) or self._lacking()}")
            outcome = "failed"
        if rollout is not None:
            self.controller.want(self._states_of(rollout.previous))
            failed = self.history.get(rollout.target).text
            await self._keep_or_log(history=self.history.activate(rollout.previous), rollout=None)
            await self._write_file(failed, self.text)
        await self._end(progress, outcome)

    async def _restart(self, progress: Progress, tier: str) -> None:
        topology = self.controller.topology
        names = self.controller.expected(topology.tiers[tier])
        progress.stages = len(names)
        for number, name in enumerate(names, start=1):
            progress.stage = number
            try:
                with trio.fail_after(REPLACE_S):
                    await self._machines().replace(topology, name)
            except trio.TooSlowError:
                progress.reason = f"the new process of {name} does not serve after {REPLACE_S:g} s: the old one stays"
                progress.say(progress.reason)
                await self._end(progress, "failed")
                return
            progress.say(f"{name} is a new process")
        with trio.move_on_after(TELL_EVERY_S) as ended_soon:
            await self._machines().wait_replaced()
        if ended_soon.cancelled_caught:
            time = duration_text(topology.tiers[tier].drain_s)
            progress.say(f"waiting for what is under way at the old processes, which have up to {time}")
            await self._machines().wait_replaced()
        await self._end(progress, "done")

    def _nodes(self, *tiers: Tier) -> frozenset[str]:
        """Those that a stage waits for: not what operators have taken out, perhaps because it does not work."""
        names = (name for tier in tiers for name in self.controller.expected(tier))
        return frozenset(names) - self.controller.admin.keys()

    def _tier_of(self, node: str) -> str:
        record = self.controller.records.get(node)
        return node.rpartition("-")[0] if record is None else record.tier

    def _lacking(self) -> str:
        return "; ".join(self.controller.missing()[:3]) or "nothing is missing"

    # Bookkeeping.

    def _describe(self, before: Topology, after: Topology, was: AdminStates, wanted: AdminStates) -> Plan:
        """Of nodes that go the plan says that alone, not that nothing is wanted of them any more."""
        changes = changes_between(self._kept(was, after), wanted)
        return describe(before, after, starts=self.controller.engine is None, wanted=changes)

    def _load(self, text: str) -> Topology:
        return load_text(text, str(self.file or self.name))

    def _machines(self) -> Machines:
        assert self.machines is not None, "changes come after the start"
        return self.machines

    def _begin(self, progress: Progress) -> Progress:
        progress.number = self.recent[-1].number + 1 if self.recent else 1
        self.progress = progress
        self.recent.append(progress)
        self.log.info("a change begins", what=progress.what, revision=progress.revision, who=progress.who)
        return progress

    def _spawn(self, run: Callable[..., Awaitable[None]], progress: Progress, *arguments: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._see_through, run, progress, *arguments)

    async def _see_through(self, run: Callable[..., Awaitable[None]], progress: Progress, *arguments: object) -> None:
        """A change that fails because of a bug is over, and others can begin."""
        with self.controller.errors.barrier("change", what=progress.what):
            await run(progress, *arguments)
        if not progress.over:
            progress.reason = progress.reason or INTERNAL
            progress.outcome = "failed"
            with self.controller.errors.barrier("change", what=progress.what):
                await self._end(progress, "failed")

    async def _end(self, progress: Progress, outcome: str) -> None:
        rollout = self._stored.rollout
        if rollout is not None and progress.revision:
            await self._keep_or_log(rollout=None)
        progress.outcome = outcome
        self.log.info("a change ended", what=progress.what, revision=progress.revision, outcome=outcome)

    async def _keep(self, **changes: object) -> None:
        async with self._saving:
            stored = attrs.evolve(self._stored, **changes)  # type: ignore[arg-type]
            self._version = await self.store.save(stored, self._version)
            self._note(stored)

    async def _keep_or_log(self, **changes: object) -> None:
        """For what has happened already: what cannot be stored is still true until the next start."""
        try:
            await self._keep(**changes)
        except StoreError as problem:
            self._note(attrs.evolve(self._stored, **changes))  # type: ignore[arg-type]
            self.log.error("the state cannot be stored", reason=str(problem))

    def _note(self, stored: Stored) -> None:
        """This is the state now; whatever shows a revision shows the active one of this history."""
        self._stored = stored
        self.controller.revision = stored.history.active

    async def _write_file(self, before: str, after: str) -> None:
        if self.kept_file is not None:
            await self.kept_file.keep(before, after)


async def _without_haste(time: trio.CancelScope, waiting: Awaitable[None]) -> None:
    """Wait, at no expense of the time that a change may take: draining has a deadline of its own."""
    began, deadline = trio.current_time(), time.deadline
    time.deadline = math.inf
    try:
        await waiting
    finally:
        time.deadline = deadline + trio.current_time() - began


def _all_out(topology: Topology, states: AdminStates) -> dict[str, str]:
    """Tiers of which no node would take anything, each with one that could be made ready."""
    out = {(each.group, each.name) for each in states}
    names = {tier.name: node_names(tier) for tier in topology.tiers.values()}
    return {tier: nodes[0] for tier, nodes in names.items() if all((tier, node) in out for node in nodes)}


def _moves(before: Topology, after: Topology) -> bool:
    """Whether some tier sends to a target that it did not send to before."""
    return any(
        not set(after.tiers[name].targets) <= set(tier.targets)
        for name, tier in before.tiers.items()
        if name in after.tiers
    )
