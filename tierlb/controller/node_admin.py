"""The admin states of single nodes and agents: set by operators, and while a change stops nodes."""

from collections.abc import Iterable

import attrs

from tierlb.controller.admin_states import AdminStates
from tierlb.controller.registry import NodeRegistry
from tierlb.controller.signals import Signals
from tierlb.model.topology import Admin


@attrs.define
class NodeAdmin:
    """Nodes and agents that are not named are to be ready."""

    _registry: NodeRegistry
    _signals: Signals
    _wanted: AdminStates = attrs.field(default=(), init=False)
    retiring: frozenset[str] = attrs.field(default=frozenset(), init=False)

    def want(self, admin_states: AdminStates) -> None:
        """Replace the admin states that operators set."""
        if self._wanted != admin_states:
            self._wanted = admin_states
            self._signals.changed()

    def retire(self, nodes: Iterable[str]) -> None:
        """These nodes are about to be stopped: they get no new traffic, and connections that they placed or hold end
        in good order. Replaces those named before."""
        self.retiring = frozenset(nodes)
        self._signals.changed()

    @property
    def states(self) -> dict[str, Admin]:
        """The admin states that operators set, by name. A state that was set for a node of another tier, or for an
        agent whose name a node has now, does not count."""
        records = self._registry.records
        return {
            each.name: each.state
            for each in self._wanted
            if each.name not in records or records[each.name].tier == each.group
        }

    def all_states(self) -> dict[str, Admin]:
        """The same, with nodes that are about to be stopped."""
        return {**self.states, **dict.fromkeys(self.retiring, Admin.DRAIN)}
