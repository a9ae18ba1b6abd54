"""The verbs (`verbs`) as edits of a topology file's text: text in, text out.

An edit is decided on the model (which tier sends where, what is one forward) and carried out on the text
(`rewrite.Sheet`). So comments, order, quotes and layout stay as they were written. What comes out has been through the
loader, which checks all rules of the file; only what the loader cannot check is checked here.

Adding a tier and removing it again gives the same text, but for spaces in braces. Left out: edits of pools and routes,
and the admin state of nodes, which is no part of the file.
"""

from collections.abc import Iterator

import attrs

from tierlb.model.topology import AUTO, Run, Tier, Topology
from tierlb.topology.endpoints import setting
from tierlb.topology.layout import LayoutError
from tierlb.topology.load import load_text
from tierlb.topology.mentions import tier_named
from tierlb.topology.problems import TopologyError
from tierlb.topology.rewrite import Sheet, Splice
from tierlb.topology.tier_adding import adding
from tierlb.topology.tier_removing import removing
from tierlb.topology.verbs import AddTier, Edit, EditError, RemoveTier, Scale, SetEndpoint, SetPolicy

BEFORE_REPLICAS = ("kind", "listen", "command")
BEFORE_BALANCE = (*BEFORE_REPLICAS, "replicas")
"""Behind which keys a new one is written, as the examples order them."""


def edited(text: str, edit: Edit, name: str = "FILE") -> str:
    """The text of a topology file after the edit; `name` is the file's path, for problems and for the files it names.

    Raises EditError if the edit does not apply. Raises TopologyError if the text has problems or would have some then,
    at their places in the edited text."""
    topology = load_text(text, name)
    try:
        sheet = Sheet(text)
        result = sheet.spliced(_splices(sheet, topology, edit))
    except LayoutError as error:
        raise EditError(str(error)) from None
    _check(result, edit, name)
    return result


def _check(text: str, edit: Edit, name: str) -> None:
    try:
        load_text(text, name)
    except TopologyError as error:
        if not isinstance(edit, RemoveTier):
            raise
        hint = f"; the file would be so without tier {edit.name!r}: change this first, then remove the tier"
        problems = [attrs.evolve(problem, message=problem.message + hint) for problem in error.problems]
        raise TopologyError(problems) from None


def _splices(sheet: Sheet, topology: Topology, edit: Edit) -> Iterator[Splice]:
    match edit:
        case AddTier():
            yield from adding(sheet, topology, edit)
        case RemoveTier(name):
            yield from removing(sheet, topology, tier_named(topology, name))
        case Scale(replicas):
            for name, number in replicas.items():
                yield from _scaling(sheet, topology, name, number)
        case SetEndpoint():
            yield from setting(sheet, topology, edit)
        case SetPolicy(name, policy):
            if tier_named(topology, name).balance is not policy:
                yield sheet.with_key(sheet.mapping("tiers", name), "balance", policy.value, BEFORE_BALANCE)


def _scaling(sheet: Sheet, topology: Topology, name: str, number: int | str) -> Iterator[Splice]:
    path: tuple[str, ...] = ("tiers", name)
    scaled: Tier | Run | None
    if name in topology.pools:
        path, scaled = ("pools", name, "run"), topology.pools[name].run
    else:
        scaled = tier_named(topology, name)
    if scaled is None:
        raise EditError(f"pool {name!r} starts nothing: only tiers, and pools with run, have replicas")
    if number == AUTO and isinstance(scaled, Run):
        raise EditError(f"pool {name!r} runs as many processes as its file says: write a number; auto is for tiers")
    is_now = AUTO if isinstance(scaled, Tier) and scaled.per_core else scaled.replicas
    if is_now != number:
        yield sheet.with_key(sheet.mapping(*path), "replicas", str(number), BEFORE_REPLICAS)
