"""Carries one change out, stage by stage, and takes it back if a stage is not reached.

Each stage of the transition (topology/stages.py) becomes the desired topology, what it needs is started, and every node
that it concerns has to acknowledge it. Processes that get no traffic any more are stopped last. A stage that is not
reached in time, whose new nodes keep ending, or whose snapshot a node refuses ends the change. The way back is a
transition too, from the stage that was reached to the topology before.
"""

import math
from collections.abc import Awaitable, Sequence

import attrs
import trio

from tierlb.balance.slow_start import FULL_AFTER_S
from tierlb.controller.controller import Controller
from tierlb.controller.drain_progress import note_what_drains
from tierlb.controller.kept_state import KeptState
from tierlb.controller.machines import Machines
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import Proposals
from tierlb.controller.stages import GaveUp, StageGate, lacking, moves_traffic
from tierlb.model.topology import Topology
from tierlb.topology.stages import transition

INTERNAL_REASON = "an internal error: see internal_error in the log"
BACK_S = 30.0
"""For each stage on the way back, whatever the deadline was."""
STRAGGLERS_S = 2.0
"""For nodes that are to go: they may still take traffic, and a node that is not broken needs less."""
LOOK_AT_STAGE_EVERY_S = 0.25


@attrs.define
class RolloutRun:
    """One change, from the topology `before`. `_fresh` are the nodes that it has started."""

    _controller: Controller
    _machines: Machines
    _state: KeptState
    _proposals: Proposals
    _progress: Progress
    _before: Topology
    _reached: Topology = attrs.field(init=False)
    _fresh: set[str] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._reached = self._before

    async def run(self, stages: Sequence[Topology], deadline_s: float, begun: int = 0) -> str:
        """Go through the stages; the outcome. `begun`: the number of the stage in which another controller was (0:
        none), so the nodes have left those before it behind."""
        skipped = max(begun - 1, 0)
        for stage in stages[:skipped]:
            self._fresh.update(self._machines.grow(stage))
            self._reached = stage
        try:
            with trio.fail_after(deadline_s) as clock:
                for number, stage in list(enumerate(stages, start=1))[skipped:]:
                    await self._note_stage(number)
                    await self._reach(stage, stages[-1], clock)
        except (GaveUp, trio.TooSlowError, OSError) as problem:
            return await self._go_back(str(problem) or f"not done in {deadline_s:g} s: {lacking(self._controller)}")
        except Exception as error:
            self._controller.errors.note("change", error, what=self._progress.what)
            return await self._go_back(INTERNAL_REASON)
        self._controller.node_admin.want(self._state.history.admin_states)
        return "done"

    async def _note_stage(self, number: int) -> None:
        """Before any node gets the stage, so that another controller does not lead it back. The first stage comes after
        the topology before, and need not be stored."""
        rollout = self._state.rollout
        if rollout is not None and number > max(rollout.stage, 1):
            await self._state.save_or_log(rollout=rollout.reach(number))
        self._progress.stage = number

    async def _go_back(self, reason: str) -> str:
        progress, before, rollout = self._progress, self._before, self._state.rollout
        progress.reason, outcome = reason, "rolled back"
        progress.add(f"taken back: {reason}")
        self._controller.log.error("rollback_started", what=progress.what, reason=reason)
        self._reached, self._fresh = self._controller.topology, set()
        if rollout is not None:
            was, wanted = (self._proposals.revision(number) for number in (rollout.target, rollout.previous))
            states = self._proposals.meanwhile(was.admin_states, wanted.admin_states, before)
            self._controller.node_admin.want(states)
        try:
            for stage in transition(self._reached, before) or (before,):
                with trio.fail_after(BACK_S) as clock:
                    await self._reach(stage, before, clock)
        except (GaveUp, trio.TooSlowError, OSError, ValueError) as problem:
            self._controller.registry.adopt(before)
            progress.add(f"and the way back is not over yet: {str(problem) or lacking(self._controller)}")
            outcome = "failed"
        if rollout is not None:
            self._controller.node_admin.want(wanted.admin_states)
            await self._state.save_or_log(history=self._state.history.activate(rollout.previous), rollout=None)
            await self._state.write_file(was.text, self._state.text)
        return outcome

    async def _reach(self, stage: Topology, target: Topology, clock: trio.CancelScope) -> None:
        """Make this stage on the way to `target` the desired topology and wait until it is reached. While something
        drains, `clock` stands still."""
        gate, machines, progress = StageGate(self._controller, self._machines), self._machines, self._progress
        self._fresh.update(machines.grow(stage))
        tier_of = self._controller.registry.tier_of
        await self._stop_nodes([name for name in machines.surplus(stage) if tier_of(name) not in stage.tiers], clock)
        self._controller.registry.adopt(stage)
        while gate.lack(stage, target):
            gate.demand_hope(target, self._fresh)
            with trio.move_on_after(LOOK_AT_STAGE_EVERY_S):
                await self._controller.signals.wait_progress()
        with trio.move_on_after(STRAGGLERS_S):
            await self._controller.wait_settled()
        progress.add(f"stage {progress.stage} of {progress.stages}: every node serves it")
        if stage is not target and moves_traffic(self._reached, stage):
            await trio.sleep(FULL_AFTER_S)
        await self._stop_nodes(machines.surplus(stage), clock)
        await stand_still(clock, machines.shrink(stage))
        self._reached = stage

    async def _stop_nodes(self, names: Sequence[str], clock: trio.CancelScope) -> None:
        """Stop them, and note meanwhile what is waited for."""
        if not names:
            return
        self._progress.add(f"stopping {', '.join(names)}")
        problem = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_what_drains, self._controller, self._progress, names)
            try:
                await stand_still(clock, self._machines.stop_nodes(names))
            except Exception as error:
                problem = error  # raised below, where no group is made of it
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem


async def stand_still(clock: trio.CancelScope, waiting: Awaitable[None]) -> None:
    """Wait without using up the time of a change: draining has a deadline of its own."""
    began, deadline = trio.current_time(), clock.deadline
    clock.deadline = math.inf
    try:
        await waiting
    finally:
        clock.deadline = deadline + trio.current_time() - began
