"""The verb `tier remove` as an edit of the text: what sent to the tier sends to what it sent to."""

from collections.abc import Iterator
from fractions import Fraction

from tierlb.model.topology import Forward, Match, Tier, Topology
from tierlb.topology.excerpts import moved, value_text
from tierlb.topology.inherit import moving_keys
from tierlb.topology.mentions import holders_of, listed, text_of
from tierlb.topology.parts import ListPart, MappingPart, meant
from tierlb.topology.rewrite import Sheet, Splice
from tierlb.topology.verbs import EditError

BEFORE_LISTEN = ("kind",)
"""Behind which key `listen` is written."""


def removing(sheet: Sheet, topology: Topology, tier: Tier) -> Iterator[Splice]:
    """Raises EditError and LayoutError."""
    senders = topology.parents(tier.name)
    heir = _heir(topology, tier)
    forward = _only_forward(tier)
    if forward is None and (senders or heir):
        others = listed([sender.name for sender in senders] or [heir or ""])
        raise EditError(
            f"tier {tier.name!r} decides by its routes, which {others} cannot do for it: "
            f"write one `to` in it instead of routes, or let nothing send to it, then remove it"
        )
    tiers = sheet.mapping("tiers")
    yield sheet.without(tiers, tier.name)
    if heir:
        inner = sheet.mapping("tiers", heir)
        given, column = sheet.mapping("tiers", tier.name), sheet.layout.column(inner)
        keys = moving_keys(ends_tls=topology.tiers[heir].tls is None)
        listen = "".join(moved(sheet.layout, given, key, column) for key in keys if key in given.entries)
        yield sheet.with_entry(inner, listen, BEFORE_LISTEN)
    for sender in senders:
        assert forward is not None
        for holder in holders_of(sheet, sender.name):
            yield from _bypassing(sheet, holder, sender.name, tier.name, forward)


def _heir(topology: Topology, tier: Tier) -> str | None:
    """The tier that takes over the address where clients call, if there is one that can."""
    if not tier.listen or len(tier.targets) != 1:
        return None
    target = topology.tiers.get(tier.targets[0])
    return target.name if target and not target.listen else None


def _only_forward(tier: Tier) -> Forward | None:
    """What is done with everything that the tier gets, if it is one thing and sends on."""
    actions = {route.action for route in tier.routes}
    action = tier.routes[-1].action
    if len(actions) == 1 and isinstance(action, Forward) and tier.routes[-1].match == Match():
        return action
    return None


def _bypassing(sheet: Sheet, holder: MappingPart, sender: str, name: str, forward: Forward) -> Iterator[Splice]:
    """What the tier sent to takes its place under one `to` of a sender."""
    entry = holder.entries["to"]
    value = meant(entry.value)
    several = forward.shares[1:] or forward.shares[0].targets[1:]
    if text_of(value) == name or (several and isinstance(value, MappingPart) and [*value.entries] == [name]):
        source = next(holders_of(sheet, name))
        yield sheet.with_value(entry, value_text(sheet.layout, source, "to", sheet.layout.column(holder)))
    elif isinstance(value, ListPart) and name in map(text_of, value.items):
        yield _bypassing_item(sheet, value, sender, name, forward)
    elif isinstance(value, MappingPart) and name in value.entries:
        yield from _bypassing_share(sheet, value, sender, name, forward)


def _bypassing_item(sheet: Sheet, series: ListPart, sender: str, name: str, forward: Forward) -> Splice:
    if len(forward.shares) > 1:
        raise EditError(
            f"tier {name!r} splits by shares, and a list in tier {sender!r} that names it cannot: "
            f"write tiers.{name}.to as a list, or the list in tier {sender!r} as shares, then remove it"
        )
    others = [text_of(item) for item in series.items]
    names = [target for target in forward.shares[0].targets if target not in others]
    index = others.index(name)
    return sheet.with_items(series, index, names) if names else sheet.without_item(series, index)


def _bypassing_share(sheet: Sheet, shares: MappingPart, sender: str, name: str, forward: Forward) -> Iterator[Splice]:
    parts: dict[str, Fraction] = {}
    own = _share_of(shares, name)
    total = sum(Fraction(str(share.weight)) for share in forward.shares)
    for share in forward.shares:
        if len(share.targets) > 1:
            raise EditError(
                f"tier {name!r} sends to {listed(share.targets)} together, and shares in tier {sender!r} that name it "
                f"cannot: write tiers.{name}.to as shares, then remove it"
            )
        parts[share.targets[0]] = own * Fraction(str(share.weight)) / total
    pairs: dict[str, str] = {}
    for target, part in parts.items():
        there = target in shares.entries
        weight = _decimal(part + _share_of(shares, target) if there else part)
        if weight is None:
            raise EditError(
                f"the {float(own):g} parts of {name!r} in tier {sender!r} cannot be divided by its own shares: "
                f"multiply all shares there by {float(total):g}, then remove it"
            )
        if there:
            yield sheet.replaced(shares.entries[target].value, weight)
        else:
            pairs[target] = weight
    if len(forward.shares) == len(pairs) == 1:
        yield sheet.renamed(shares.entries[name].key, *pairs)
    elif pairs:
        yield sheet.with_pairs(shares, name, pairs)
    else:
        yield sheet.without(shares, name)


def _share_of(shares: MappingPart, name: str) -> Fraction:
    return Fraction(text_of(shares.entries[name].value))


def _decimal(weight: Fraction) -> str | None:
    """The weight as the file would have it, if it can be written exactly."""
    text = f"{float(weight):.12g}"
    return text if Fraction(text) == weight else None
