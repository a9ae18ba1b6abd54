"""The admin states that operators set for nodes and agents: drain or maintenance. All others are ready.

These states belong to a revision of the history, beside its text. An engine gives its nodes names that no file holds,
and a file from version control does not show which nodes are being repaired. So applying a file changes no state. A
state lasts until `ready`, or until the topology has no such node; a later node of that name is ready.

Left out: endpoints, which the text names, so it holds what is wanted of them (topology/endpoints.py).
"""

import attrs

from tierlb.model.topology import Admin, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.diff import AdminChanged


@attrs.frozen(order=True)
class AdminState:
    """What is wanted of the node or agent `name`; `group` is its tier or pool."""

    group: str
    name: str
    state: Admin = attrs.field(order=False)


AdminStates = tuple[AdminState, ...]
MOST_STATES = 1000
"""Each takes some 70 bytes of every later revision, and etcd takes revisions of 1.5 MB at most. Where engines name
nodes, those that are gone keep theirs."""


def with_state(states: AdminStates, group: str, name: str, state: Admin) -> AdminStates:
    """The same but for this one; ready is what a node is without an entry."""
    others = [each for each in states if each.name != name]
    return tuple(sorted(others if state is Admin.READY else [*others, AdminState(group, name, state)]))


def states_kept(states: AdminStates, topology: Topology, *, numbered: bool) -> AdminStates:
    """Those of nodes and agents that the topology still has. `numbered`: the nodes of a tier are web-1, web-2 …; where
    engines name them, every name of a tier may be there."""
    return tuple(each for each in states if _names_one(topology, each, numbered))


def meanwhile(before: AdminStates, after: AdminStates, topology: Topology, *, numbered: bool) -> AdminStates:
    """While a change leads to this topology and these states: those, and of nodes that go what was wanted of them."""
    stay = states_kept(before, topology, numbered=numbered)
    return (*(each for each in before if each not in stay), *after)


def changes_between(before: AdminStates, after: AdminStates) -> tuple[AdminChanged, ...]:
    """A value for each node or agent whose admin state differs."""
    was, now = ({(each.group, each.name): each.state for each in states} for states in (before, after))
    pairs = ((key, was.get(key, Admin.READY), now.get(key, Admin.READY)) for key in sorted(was.keys() | now.keys()))
    return tuple(AdminChanged(*key, one.value, other.value) for key, one, other in pairs if one != other)


def _names_one(topology: Topology, wanted: AdminState, numbered: bool) -> bool:
    pool, tier = topology.pools.get(wanted.group), topology.tiers.get(wanted.group)
    if pool is not None:
        return pool.agents
    return tier is not None and (not numbered or wanted.name in node_names(tier))
