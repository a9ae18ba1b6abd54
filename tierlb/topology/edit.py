"""The verbs of the command line as edits of a topology file's text: text in, text out.

An edit is worked out on the model (who sends to whom, what is one forward) and carried out on the text
(`rewrite.Sheet`), so that comments, order, quotes and layout stay as somebody wrote them. What comes out has been
through the loader, which knows all rules of the file; only what the loader cannot know is checked here.

Adding a tier and removing it again gives the same text, but for spaces in braces. Left out: edits of pools and routes,
and the admin state of nodes, which is no part of the file.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import count
from typing import Any

import attrs

from tierlb.model.address import Address, parse_address
from tierlb.model.topology import Forward, Kind, Match, Policy, Run, Tier, Topology
from tierlb.topology.endpoints import NoSuchEndpoint, SetEndpoint, splices_for
from tierlb.topology.forms import FORMS, Name, Replicas
from tierlb.topology.inherit import inherited, model_for
from tierlb.topology.load import load_text
from tierlb.topology.parts import Mapping, Part, Series, Word, meant
from tierlb.topology.problems import TopologyError, suggestion
from tierlb.topology.rewrite import LayoutError, Sheet, Splice, entry_text, word
from tierlb.topology.source import Scalar
from tierlb.topology.units import shown

BEFORE_LISTEN = ("kind",)
BEFORE_REPLICAS = (*BEFORE_LISTEN, "listen", "command")
BEFORE_BALANCE = (*BEFORE_REPLICAS, "replicas")
"""Behind which keys a new one is written, as the examples order them."""
NAME_CHARS = 40
"""The longest that `forms.NAME` allows."""


class EditError(ValueError):
    """The edit does not apply to this file; the message says what to do."""


def _read(form: Any, text: str, subject: str = "") -> Any:
    """Read a value as the file's loader does."""
    try:
        return FORMS[form].read(Scalar(text))
    except ValueError as error:
        raise EditError(f"{subject}{error}") from None


def _kind(value: Kind | str) -> Kind:
    return _read(Kind, value) if isinstance(value, str) else value


def _policy(value: Policy | str) -> Policy:
    return _read(Policy, value) if isinstance(value, str) else value


@attrs.frozen
class AddTier:
    """Put a new tier in: `between` a tier and what it sends to, `above` a tier or pool (all its senders send to the
    new tier then), or `below` a tier (which sends to the new tier then). One of the three is given. It takes over
    timeouts, limits, trust and drain time of the tier that it stands before (`inherit`)."""

    name: str
    kind: Kind = attrs.field(converter=_kind)
    between: tuple[str, str] | None = None
    above: str | None = None
    below: str | None = None
    replicas: int = 1
    balance: Policy | None = attrs.field(default=None, converter=attrs.converters.optional(_policy))


@attrs.frozen
class RemoveTier:
    """Take a tier out; what sent to it sends to what it sent to."""

    name: str


@attrs.frozen
class Scale:
    """Set the replicas of tiers, and of pools with `run`, by their names."""

    replicas: dict[str, int]


@attrs.frozen
class SetPolicy:
    """Set how the nodes of a tier choose among hosts."""

    tier: str
    policy: Policy = attrs.field(converter=_policy)


Edit = AddTier | RemoveTier | Scale | SetPolicy | SetEndpoint


def edited(text: str, edit: Edit, name: str = "FILE") -> str:
    """The text of a topology file after the edit; `name` is the file's path, for problems and for the files it names.

    Raises EditError if the edit does not apply, and TopologyError if the text has problems or would have some then (at
    their places in the edited text)."""
    topology = load_text(text, name)
    try:
        sheet = Sheet(text)
        result = sheet.spliced(_splices(sheet, topology, edit))
    except (LayoutError, NoSuchEndpoint) as error:
        raise EditError(str(error)) from None
    _check(result, edit, name)
    return result


def parse_scale(*words: str) -> Scale:
    """Read `web=5`, once or more. Raises EditError."""
    replicas: dict[str, int] = {}
    for text in words:
        name, number = _pair(text, "web=5")
        if name in replicas:
            raise EditError(f"{shown(name)} is given twice: write it once")
        replicas[name] = _read(Replicas, number, f"{name}: ")
    return Scale(replicas)


def parse_policy(text: str) -> SetPolicy:
    """Read `web=round-robin`. Raises EditError."""
    tier, policy = _pair(text, "web=round-robin")
    return SetPolicy(tier, _read(Policy, policy, f"{tier}: "))


def parse_endpoint(text: str) -> tuple[str, Address]:
    """Read `app/127.0.0.1:9001`. Raises EditError."""
    pool, _, address = text.partition("/")
    try:
        return pool, parse_address(address)
    except ValueError as error:
        raise EditError(f"{shown(text)}: {error}: write POOL/HOST:PORT, such as app/127.0.0.1:9001") from None


def _pair(text: str, example: str) -> tuple[str, str]:
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise EditError(f"{shown(text)} says too little: write NAME=VALUE, such as {example}")
    return name, value


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
            yield from _adding(sheet, topology, edit)
        case RemoveTier(name):
            yield from _removing(sheet, topology, _tier(topology, name))
        case Scale(replicas):
            for name, number in replicas.items():
                yield from _scaling(sheet, topology, name, number)
        case SetEndpoint():
            yield from splices_for(sheet, topology, edit)
        case SetPolicy(name, policy):
            if _tier(topology, name).balance is not policy:
                yield sheet.with_key(sheet.mapping("tiers", name), "balance", policy.value, BEFORE_BALANCE)


def _scaling(sheet: Sheet, topology: Topology, name: str, number: int) -> Iterator[Splice]:
    path: tuple[str, ...] = ("tiers", name)
    scaled: Tier | Run | None
    if name in topology.pools:
        path, scaled = ("pools", name, "run"), topology.pools[name].run
    else:
        scaled = _tier(topology, name)
    if scaled is None:
        raise EditError(f"pool {name!r} starts nothing: only tiers, and pools with run, have replicas")
    if scaled.replicas != number:
        yield sheet.with_key(sheet.mapping(*path), "replicas", str(number), BEFORE_REPLICAS)


def _adding(sheet: Sheet, topology: Topology, edit: AddTier) -> Iterator[Splice]:
    _check_new_name(topology, edit.name)
    match edit:
        case AddTier(between=(above, below), above=None, below=None):
            yield from _adding_between(sheet, topology, edit, above, below)
        case AddTier(between=None, above=str(target), below=None):
            yield from _adding_above(sheet, topology, edit, target)
        case AddTier(between=None, above=None, below=str(sender)):
            yield from _adding_below(sheet, topology, edit, sender)
        case _:
            raise EditError("say where the tier goes: --between ABOVE BELOW, --above NAME or --below NAME, one of them")


def _check_new_name(topology: Topology, name: str) -> None:
    _read(Name, name)
    known = {**topology.tiers, **topology.pools}
    if name in known:
        what = "tier" if name in topology.tiers else "pool"
        numbered = (f"{name[: NAME_CHARS - 5]}-{number}" for number in count(2))
        free = next(other for other in numbered if other not in known)
        raise EditError(f"there is a {what} named {name!r} already: choose another name, such as {free!r}")


def _adding_between(sheet: Sheet, topology: Topology, edit: AddTier, above: str, below: str) -> Iterator[Splice]:
    sender = _tier(topology, above)
    _check_known(topology, below)
    if below not in sender.targets:
        if not sender.targets:
            raise EditError(
                f"tier {above!r} sends nowhere: it answers by itself; choose a tier that sends to {below!r}"
            )
        advice = f"write --between {above} {sender.targets[0]}" if len(sender.targets) == 1 else "choose one of these"
        raise EditError(f"tier {above!r} sends to {_listed(sender.targets)}, not to {below!r}: {advice}")
    yield from _redirecting(sheet, above, below, edit.name)
    model = topology.tiers[model_for(topology, above, (below,))]
    yield _new_tier(sheet, edit, f" {word(below)}", model, after=above)


def _adding_above(sheet: Sheet, topology: Topology, edit: AddTier, target: str) -> Iterator[Splice]:
    _check_known(topology, target)
    senders = topology.parents(target)
    for sender in senders:
        yield from _redirecting(sheet, sender.name, target, edit.name)
    to = f" {word(target)}"
    if target in topology.pools:
        yield _new_tier(sheet, edit, to, senders[-1], after=senders[-1].name)
    elif senders:
        yield _new_tier(sheet, edit, to, topology.tiers[target], before=target)
    else:
        inner = sheet.mapping("tiers", target)
        yield sheet.without(inner, "listen")
        yield _new_tier(sheet, edit, to, topology.tiers[target], before=target, listen=inner)


def _adding_below(sheet: Sheet, topology: Topology, edit: AddTier, name: str) -> Iterator[Splice]:
    sender = _tier(topology, name)
    forwards = {route.action for route in sender.routes if isinstance(route.action, Forward)}
    if not forwards:
        raise EditError(f"tier {name!r} sends nowhere: it answers by itself; choose a tier that sends to others")
    if len(forwards) > 1:
        raise EditError(
            f"the routes of tier {name!r} send to {_listed(sender.targets)}, and one tier below cannot tell "
            f"them apart: write --between {name} and one of them"
        )
    holders = list(_holders(sheet, name))
    column = sheet.inner_column(sheet.mapping("tiers"), name)
    for holder in holders:
        moves = column is not None and holder is holders[0]
        yield sheet.with_value(holder.entries["to"], f" {word(edit.name)}", comment=moves)
    model = topology.tiers[model_for(topology, name, sender.targets)]
    yield _new_tier(sheet, edit, sheet.value_text(holders[0], "to", column), model, after=name)


def _new_tier(
    sheet: Sheet,
    edit: AddTier,
    to: str,
    model: Tier,
    *,
    before: str | None = None,
    after: str = "",
    listen: Mapping | None = None,
) -> Splice:
    tiers = sheet.mapping("tiers")
    outer, inner = sheet.column(tiers), sheet.inner_column(tiers, before or after)
    lines = [entry_text("kind", f" {edit.kind.value}", inner)]
    if listen:
        lines.append(sheet.moved(listen, "listen", inner))
    if edit.replicas != 1:
        lines.append(entry_text("replicas", f" {edit.replicas}", inner))
    if edit.balance:
        lines.append(entry_text("balance", f" {edit.balance.value}", inner))
    lines.append(entry_text("to", to, inner))
    lines += [entry_text(key, f" {value}", inner) for key, value in inherited(sheet, model, edit.kind)]
    if outer is None:
        block = f"{word(edit.name)}: {{{', '.join(lines)}}}"
    else:
        block = entry_text(word(edit.name), "", outer) + "".join(lines)
    return sheet.with_block(tiers, block, before=before, after=after)


def _redirecting(sheet: Sheet, sender: str, old: str, new: str) -> Iterator[Splice]:
    """Every mention of a name under the sender's `to` becomes another one."""
    for holder in _holders(sheet, sender):
        value = holder.entries["to"].value
        match meant(value):
            case Word(text=text) if text == old:
                yield sheet.renamed(value, new)
            case Series(items=items):
                yield from (sheet.renamed(item, new) for item in items if _text(item) == old)
            case Mapping(entries=entries) if old in entries:
                yield sheet.renamed(entries[old].key, new)


def _removing(sheet: Sheet, topology: Topology, tier: Tier) -> Iterator[Splice]:
    senders = topology.parents(tier.name)
    heir = _heir(topology, tier)
    forward = _only_forward(tier)
    if forward is None and (senders or heir):
        others = _listed([sender.name for sender in senders] or [heir or ""])
        raise EditError(
            f"tier {tier.name!r} decides by its routes, which {others} cannot do for it: "
            f"write one `to` in it instead of routes, or let nothing send to it, then remove it"
        )
    tiers = sheet.mapping("tiers")
    yield sheet.without(tiers, tier.name)
    if heir:
        inner = sheet.mapping("tiers", heir)
        listen = sheet.moved(sheet.mapping("tiers", tier.name), "listen", sheet.column(inner))
        yield sheet.with_entry(inner, listen, BEFORE_LISTEN)
    for sender in senders:
        assert forward is not None
        for holder in _holders(sheet, sender.name):
            yield from _bypassing(sheet, holder, sender.name, tier.name, forward)


def _heir(topology: Topology, tier: Tier) -> str | None:
    """The tier that takes over the address where clients call, if there is one that can."""
    if tier.listen is None or len(tier.targets) != 1:
        return None
    target = topology.tiers.get(tier.targets[0])
    return target.name if target and target.listen is None else None


def _only_forward(tier: Tier) -> Forward | None:
    """What is done with everything that the tier gets, if it is one thing and sends on."""
    actions = {route.action for route in tier.routes}
    action = tier.routes[-1].action
    if len(actions) == 1 and isinstance(action, Forward) and tier.routes[-1].match == Match():
        return action
    return None


def _bypassing(sheet: Sheet, holder: Mapping, sender: str, name: str, forward: Forward) -> Iterator[Splice]:
    """What the tier sent to takes its place under one `to` of a sender."""
    entry = holder.entries["to"]
    value = meant(entry.value)
    several = forward.shares[1:] or forward.shares[0].targets[1:]
    if _text(value) == name or (several and isinstance(value, Mapping) and [*value.entries] == [name]):
        source = next(_holders(sheet, name))
        yield sheet.with_value(entry, sheet.value_text(source, "to", sheet.column(holder)))
    elif isinstance(value, Series) and name in map(_text, value.items):
        yield _bypassing_item(sheet, value, sender, name, forward)
    elif isinstance(value, Mapping) and name in value.entries:
        yield from _bypassing_share(sheet, value, sender, name, forward)


def _bypassing_item(sheet: Sheet, series: Series, sender: str, name: str, forward: Forward) -> Splice:
    if len(forward.shares) > 1:
        raise EditError(
            f"tier {name!r} splits by shares, and a list in tier {sender!r} that names it cannot: "
            f"write tiers.{name}.to as a list, or the list in tier {sender!r} as shares, then remove it"
        )
    others = [_text(item) for item in series.items]
    names = [target for target in forward.shares[0].targets if target not in others]
    index = others.index(name)
    return sheet.with_items(series, index, names) if names else sheet.without_item(series, index)


def _bypassing_share(sheet: Sheet, shares: Mapping, sender: str, name: str, forward: Forward) -> Iterator[Splice]:
    parts: dict[str, Fraction] = {}
    own = _weight(shares, name)
    total = sum(Fraction(str(share.weight)) for share in forward.shares)
    for share in forward.shares:
        if len(share.targets) > 1:
            raise EditError(
                f"tier {name!r} sends to {_listed(share.targets)} together, and shares in tier {sender!r} that name it "
                f"cannot: write tiers.{name}.to as shares, then remove it"
            )
        parts[share.targets[0]] = own * Fraction(str(share.weight)) / total
    pairs: dict[str, str] = {}
    for target, part in parts.items():
        there = target in shares.entries
        weight = _decimal(part + _weight(shares, target) if there else part)
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


def _weight(shares: Mapping, name: str) -> Fraction:
    return Fraction(_text(shares.entries[name].value))


def _decimal(weight: Fraction) -> str | None:
    """The weight as the file would have it, if it can be written exactly."""
    text = f"{float(weight):.12g}"
    return text if Fraction(text) == weight else None


def _holders(sheet: Sheet, name: str) -> Iterator[Mapping]:
    """The mappings in a tier that have a `to`: its own, or those of its routes."""
    tier = sheet.mapping("tiers", name)
    if "to" in tier.entries:
        yield tier
        return
    routes = meant(tier.entries["routes"].value)
    assert isinstance(routes, Series)
    for item in routes.items:
        route = meant(item)
        if isinstance(route, Mapping) and "to" in route.entries:
            yield route


def _text(part: Part) -> str:
    scalar = meant(part)
    return scalar.text if isinstance(scalar, Word) else ""


def _tier(topology: Topology, name: str) -> Tier:
    _check_known(topology, name)
    if name in topology.pools:
        raise EditError(f"{name!r} is a pool, which sends nowhere: name a tier here ({_listed(topology.tiers)})")
    return topology.tiers[name]


def _check_known(topology: Topology, name: str) -> None:
    known = [*topology.tiers, *topology.pools]
    if name not in known:
        guess = suggestion(name, known) or f": there are {_listed(known)}"
        raise EditError(f"no tier or pool named {shown(name)}{guess}")


def _listed(names: Iterable[str]) -> str:
    quoted = [repr(name) for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
