"""What a cluster may be asked to become, and why it cannot: nothing here waits for the cluster, or changes it.

Verbs are edits of the text (topology/edit.py), or of the admin states of nodes and agents beside it (admin_states.py).
So every change is made in one way.
"""

import attrs

from tierlb.controller.admin_states import (
    MOST_STATES,
    AdminStates,
    changes_between,
    meanwhile,
    states_kept,
    with_state,
)
from tierlb.controller.controller import Controller
from tierlb.controller.kept_state import KeptState
from tierlb.controller.status import State
from tierlb.model.topology import Admin, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.plan import Plan, describe
from tierlb.topology.uses import Use, cores_of, cpu_problem
from tierlb.topology.verbs import SetNode, Verb


class NotPossible(ValueError):  # noqa: N818 (a verdict on the request)
    """The change cannot be made; the text says why and what to do."""


class NothingToDo(NotPossible):
    """The cluster is that already."""


@attrs.frozen
class Proposal:
    """What a cluster may be asked to be: a text of the topology file, and admin states of nodes and agents."""

    text: str
    admin_states: AdminStates


@attrs.frozen
class Proposals:
    """Makes proposals from the active revision and judges them. `name`: under which problems are reported, and where
    relative paths of a text start."""

    controller: Controller
    state: KeptState
    name: str

    @property
    def current(self) -> Proposal:
        """The active revision."""
        return Proposal(self.state.text, self.state.history.admin_states)

    def with_text(self, text: str) -> Proposal:
        """Another text. Admin states stay, because no text says anything of them. Raises TopologyError."""
        states = self.state.history.admin_states
        return Proposal(text, self.states_kept(states, self.load(text)) if states else ())

    def edited(self, edit: Verb) -> Proposal:
        """What a verb would make of the active revision. Raises EditError, TopologyError and NotPossible."""
        if isinstance(edit, SetNode):
            return Proposal(self.state.text, self._with_state(edit))
        return self.with_text(edited(self.state.text, edit, self.name))

    def revision(self, number: int) -> Proposal:
        """As it was in an old revision. Raises UnknownRevision."""
        revision = self.state.history.get(number)
        return Proposal(revision.text, revision.admin_states)

    def plan(self, proposal: Proposal) -> Plan:
        """What this would do. Raises TopologyError."""
        return self.describe(self.controller.topology, self.load(proposal.text), self.current, proposal)

    def describe(self, before: Topology, after: Topology, base: Proposal, proposal: Proposal) -> Plan:
        """The same with topologies that are loaded. For nodes that go, the plan leaves their admin states out."""
        changes = changes_between(self.states_kept(base.admin_states, after), proposal.admin_states)
        return describe(before, after, starts=self._is_supervised, wanted=changes)

    def problem(self, plan: Plan, after: Topology, proposal: Proposal) -> str:
        """Why the cluster cannot become that; "" if it can."""
        if plan.unsupported:
            return "; ".join(each.reason for each in plan.unsupported)
        engine = self.controller.registry.engine
        if engine is not None:
            return engine.lack(after)
        return _why_not_here(after) or self._why_nothing_serves(after, proposal)

    def demand_serving(self, proposal: Proposal) -> None:
        """Raises NotPossible where a tier would have only nodes that operators have taken out."""
        if reason := self._why_nothing_serves(self.load(proposal.text), proposal):
            raise NotPossible(reason)

    def load(self, text: str) -> Topology:
        """Raises TopologyError."""
        return load_text(text, self.name, cores_of(Use.UP if self._is_supervised else Use.CONTROLLER))

    def states_kept(self, states: AdminStates, topology: Topology) -> AdminStates:
        """Those of nodes and agents that the topology still has."""
        return states_kept(states, topology, numbered=self._is_supervised)

    def meanwhile(self, before: AdminStates, after: AdminStates, topology: Topology) -> AdminStates:
        """While a change leads to that topology and those states."""
        return meanwhile(before, after, topology, numbered=self._is_supervised)

    @property
    def _is_supervised(self) -> bool:
        """Whether nodes are started on this machine, so that their names follow from the topology."""
        return self.controller.registry.engine is None

    def _why_nothing_serves(self, after: Topology, proposal: Proposal) -> str:
        """Not of tiers of which that is so already: making another node ready is no worse."""
        was = tiers_out(self.controller.topology, self.state.history.admin_states)
        for tier, node in tiers_out(after, proposal.admin_states).items():
            if tier not in was and self._is_supervised:
                return f"of {tier} only nodes that are drained would be left: `tierlb ready {node}` first"
        return ""

    def _with_state(self, edit: SetNode) -> AdminStates:
        """Raises NotPossible. A node that is not there can only be made ready, which ends its admin state."""
        states, name, records = self.state.history.admin_states, edit.node, self.controller.registry.records
        record = records.get(name)
        if edit.admin is Admin.READY and any(each.name == name for each in states):
            return with_state(states, "", name, edit.admin)
        if record is None or record.leaving:
            raise NotPossible(f"there is no node or agent {name}: see `tierlb status`")
        out, tier = self.controller.node_admin.states, record.tier
        serving = (each for each in records.values() if each.state is State.SERVING and each.tier == tier)
        if edit.admin is not Admin.READY and [each.name for each in serving if each.name not in out] == [name]:
            raise NotPossible(f"{name} is the last one of {tier} that serves: scale {tier} first")
        if len(states) >= MOST_STATES:
            gone = [each.name for each in states if each.name not in records][:3]
            named = f"those that are gone, as {', '.join(gone)}" if gone else "some"
            raise NotPossible(f"{len(states)} nodes and agents are drained or in maintenance: make {named} ready first")
        return with_state(states, tier, name, edit.admin)


def _why_not_here(topology: Topology) -> str:
    """CPUs that this machine does not have."""
    for tier in topology.tiers.values():
        if tier.cpus and (reason := cpu_problem(tier.cpus)):
            return f"tiers.{tier.name}.cpus: {reason}"
    return ""


def tiers_out(topology: Topology, states: AdminStates) -> dict[str, str]:
    """Tiers of which every node has been taken out, each with one that could be made ready."""
    out = {(each.group, each.name) for each in states}
    names = {tier.name: node_names(tier) for tier in topology.tiers.values()}
    return {tier: nodes[0] for tier, nodes in names.items() if all((tier, node) in out for node in nodes)}
