"""From which topology a controller begins: the file, or what is stored, and what to do with a change that was cut."""

from tierlb.controller.changes import Changes
from tierlb.model.topology import Topology

AT_START = "the file at the start"


async def start_anew(changes: Changes, text: str, who: str) -> str:
    """Begin with this text of the file where no process of the cluster runs yet; the text that counts.

    It becomes a new revision unless it is the active one. A change that was cut short is taken back, in the file as
    well, because nothing of it runs any more. Raises StoreError.
    """
    state, proposals = changes.state, changes.proposals
    await state.load()
    rollout = state.rollout
    if rollout is not None and not rollout.over:
        changes.log.warning("change_interrupted", revision=rollout.target, back_to=rollout.previous)
        target, previous = (state.history.get(number).text for number in (rollout.target, rollout.previous))
        if text == target:
            await state.write_file(text, previous)
            changes.controller.registry.adopt(proposals.load(previous))
            text = previous
        await state.save(history=state.history.activate(rollout.previous), rollout=None)
    if text != state.text:
        states = proposals.states_kept(state.history.admin_states, changes.controller.topology)
        await state.save(history=state.history.accept(text, who, AT_START, changes.now(), None, states))
    changes.controller.node_admin.want(state.history.admin_states)
    return text


async def take_over(changes: Changes, text: str, who: str) -> Topology:
    """Begin with what is stored, because nodes serve it; the topology that counts.

    `text` is the first revision if there is none yet. A change that had begun goes on in the stage that was begun last,
    when `Changes.run` does. Raises StoreError and TopologyError.
    """
    state, proposals = changes.state, changes.proposals
    await state.load()
    if not state.history.revisions:
        proposals.load(text)  # what cannot be served is not stored either
        await state.save(history=state.history.accept(text, who, AT_START, changes.now(), None))
    rollout, base = state.rollout, proposals.current
    if rollout is not None and not rollout.over:
        changes.resumed, base = rollout, proposals.revision(rollout.previous)
    changes.controller.node_admin.want(base.admin_states)
    return proposals.load(base.text)
