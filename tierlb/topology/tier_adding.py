"""The verb `tier add` as an edit of the text: a new tier between, above or below what is there."""

from collections.abc import Iterator
from itertools import count

from tierlb.model.address import Transport
from tierlb.model.topology import Forward, Kind, Tier, Topology
from tierlb.topology.excerpts import entry_text, moved, value_text, word
from tierlb.topology.forms import Name
from tierlb.topology.inherit import inherited, model_for, moving_keys
from tierlb.topology.mentions import check_known, holders_of, listed, text_of, tier_named
from tierlb.topology.parts import ListPart, MappingPart, Word, meant
from tierlb.topology.rewrite import Sheet, Splice
from tierlb.topology.verbs import AddTier, EditError, read_value

NAME_CHARS = 40
"""The longest that `forms.NAME` allows."""


def adding(sheet: Sheet, topology: Topology, edit: AddTier) -> Iterator[Splice]:
    """The new tier takes over timeouts, limits, trust and drain time of the tier that it stands before (`inherit`).
    Raises EditError and LayoutError."""
    _check_new_name(topology, edit.name)
    match edit:
        case AddTier(between=(above, below), above=None, below=None):
            yield from _adding_between(sheet, topology, edit, above, below)
        case AddTier(between=None, above=str(target), below=None):
            yield from _adding_above(sheet, topology, edit, target)
        case AddTier(between=None, above=None, below=str(sender)):
            yield from _adding_below(sheet, topology, edit, sender)
        case _:
            raise EditError(
                "choose where the tier goes: --between ABOVE BELOW, --above NAME or --below NAME, one of them"
            )


def _check_new_name(topology: Topology, name: str) -> None:
    read_value(Name, name)
    known = {**topology.tiers, **topology.pools}
    if name in known:
        what = "tier" if name in topology.tiers else "pool"
        numbered = (f"{name[: NAME_CHARS - 5]}-{number}" for number in count(2))
        free = next(other for other in numbered if other not in known)
        raise EditError(f"there is a {what} named {name!r} already: choose another name, such as {free!r}")


def _adding_between(sheet: Sheet, topology: Topology, edit: AddTier, above: str, below: str) -> Iterator[Splice]:
    sender = tier_named(topology, above)
    check_known(topology, below)
    if below not in sender.targets:
        if not sender.targets:
            raise EditError(
                f"tier {above!r} sends nowhere: it answers by itself; choose a tier that sends to {below!r}"
            )
        advice = f"write --between {above} {sender.targets[0]}" if len(sender.targets) == 1 else "choose one of these"
        raise EditError(f"tier {above!r} sends to {listed(sender.targets)}, not to {below!r}: {advice}")
    yield from _redirecting(sheet, above, below, edit.name)
    model = topology.tiers[model_for(topology, above, (below,))]
    yield _new_tier(sheet, edit, f" {word(below)}", model, after=above)


def _adding_above(sheet: Sheet, topology: Topology, edit: AddTier, target: str) -> Iterator[Splice]:
    check_known(topology, target)
    senders = topology.parents(target)
    for sender in senders:
        yield from _redirecting(sheet, sender.name, target, edit.name)
    to = f" {word(target)}"
    if target in topology.pools:
        yield _new_tier(sheet, edit, to, senders[-1], after=senders[-1].name)
    elif senders:
        yield _new_tier(sheet, edit, to, topology.tiers[target], before=target)
    else:
        inner, tier = sheet.mapping("tiers", target), topology.tiers[target]
        if edit.kind is Kind.L4 and tier.kind is Kind.L7 and any(each.tls is not None for each in tier.listen):
            raise EditError(
                f"the listeners of tier {target!r} have tls of their own, and move to the new l4 tier, which would end "
                "TLS there: write tls at the tier itself, which stays there, or --kind l7"
            )
        moved_keys = moving_keys(ends_tls=edit.kind is tier.kind)
        yield from (sheet.without(inner, key) for key in moved_keys if key in inner.entries)
        yield _new_tier(sheet, edit, to, topology.tiers[target], before=target, listen=inner)


def _adding_below(sheet: Sheet, topology: Topology, edit: AddTier, name: str) -> Iterator[Splice]:
    sender = tier_named(topology, name)
    forwards = {route.action for route in sender.routes if isinstance(route.action, Forward)}
    if not forwards:
        raise EditError(f"tier {name!r} sends nowhere: it answers by itself; choose a tier that sends to others")
    if len(forwards) > 1:
        raise EditError(
            f"the routes of tier {name!r} send to {listed(sender.targets)}, and one tier below cannot "
            f"distinguish them: write --between {name} and one of them"
        )
    holders = list(holders_of(sheet, name))
    column = sheet.layout.inner_column(sheet.mapping("tiers"), name)
    for holder in holders:
        moves = column is not None and holder is holders[0]
        yield sheet.with_value(holder.entries["to"], f" {word(edit.name)}", comment=moves)
    model = topology.tiers[model_for(topology, name, sender.targets)]
    yield _new_tier(sheet, edit, value_text(sheet.layout, holders[0], "to", column), model, after=name)


def _new_tier(
    sheet: Sheet,
    edit: AddTier,
    to: str,
    model: Tier,
    *,
    before: str | None = None,
    after: str = "",
    listen: MappingPart | None = None,
) -> Splice:
    if model.protocol is Transport.UDP and edit.kind is Kind.L7:
        raise EditError(
            f"tier {model.name!r} is over UDP, and an l7 tier takes HTTP over TCP: write --kind l4 for {edit.name!r}"
        )
    tiers = sheet.mapping("tiers")
    outer, inner = sheet.layout.column(tiers), sheet.layout.inner_column(tiers, before or after)
    lines = [entry_text("kind", f" {edit.kind.value}", inner)]
    if listen:
        keys = moving_keys(ends_tls=edit.kind is model.kind)
        lines += [moved(sheet.layout, listen, key, inner) for key in keys if key in listen.entries]
    if edit.replicas != 1:
        lines.append(entry_text("replicas", f" {edit.replicas}", inner))
    if edit.policy:
        lines.append(entry_text("balance", f" {edit.policy.value}", inner))
    lines.append(entry_text("to", to, inner))
    lines += [entry_text(key, f" {value}", inner) for key, value in inherited(sheet, model, edit.kind)]
    if outer is None:
        block = f"{word(edit.name)}: {{{', '.join(lines)}}}"
    else:
        block = entry_text(word(edit.name), "", outer) + "".join(lines)
    return sheet.with_block(tiers, block, before=before, after=after)


def _redirecting(sheet: Sheet, sender: str, old: str, new: str) -> Iterator[Splice]:
    """Every mention of a name under the sender's `to` becomes another one."""
    for holder in holders_of(sheet, sender):
        value = holder.entries["to"].value
        match meant(value):
            case Word(text=text) if text == old:
                yield sheet.renamed(value, new)
            case ListPart(items=items):
                yield from (sheet.renamed(item, new) for item in items if text_of(item) == old)
            case MappingPart(entries=entries) if old in entries:
                yield sheet.renamed(entries[old].key, new)
