"""The verbs on single endpoints as edits of a topology file's text: drain, maintenance, ready, weight.

An endpoint has a name in the file where it is listed (`endpoints`), or found in DNS (`overrides`, by its address).
Those that `run` starts have other ports after each start, and agents are drained by their own names, as nodes are.
A list of endpoints becomes a mapping when one of them differs from the rest.
"""

from collections.abc import Iterator

import attrs

from tierlb.model.address import Address
from tierlb.model.topology import Admin, Override, Pool, Topology
from tierlb.topology.diff import weights_of
from tierlb.topology.excerpts import entry_text
from tierlb.topology.layout import DEFAULT_INDENT, Layout, LayoutError
from tierlb.topology.parts import ListPart, MappingEntry, MappingPart, Word, meant
from tierlb.topology.rewrite import Sheet, Splice
from tierlb.topology.verbs import EditError, SetEndpoint

BEFORE_OVERRIDES = ("dns",)


def setting(sheet: Sheet, topology: Topology, edit: SetEndpoint) -> Iterator[Splice]:
    """Raises EditError and LayoutError."""
    name, address = edit.place()
    pool = _pool_of_endpoint(topology, name, address)
    before = _as_it_is(pool, address)
    after = attrs.evolve(
        before,
        admin=before.admin if edit.admin is None else edit.admin,
        weight=before.weight if edit.weight is None else edit.weight,
    )
    if after == before:
        return
    _refuse_last(pool, after)
    if pool.dns is not None:
        yield from _overriding(sheet, pool, after)
    else:
        yield from _in_list(sheet, pool, after)


def _pool_of_endpoint(topology: Topology, name: str, address: Address) -> Pool:
    pool = topology.pools.get(name)
    if pool is None:
        pools = ", ".join(topology.pools) or "none"
        raise EditError(f"there is no pool {name}: there are {pools}")
    if pool.run is not None:
        raise EditError(
            f"the endpoints of pool {pool.name} are started here and have other ports after each start: "
            f"`tierlb scale {pool.name}=N` changes how many there are"
        )
    if pool.agents:
        raise EditError(f"pool {pool.name} is filled by agents: name the agent, as `tierlb status` shows it")
    if pool.dns is None and address not in pool.endpoints:
        listed = ", ".join(str(address) for address in pool.endpoints[:4])
        raise EditError(f"pool {pool.name} has no endpoint {address}: it lists {listed}")
    return pool


def _as_it_is(pool: Pool, address: Address) -> Override:
    wanted = next((each for each in pool.overrides if each.address == address), Override(address))
    return wanted if pool.dns is not None else attrs.evolve(wanted, weight=weights_of(pool)[address])


def _refuse_last(pool: Pool, after: Override) -> None:
    """How many endpoints DNS finds is not known here, so none of those counts as the last."""
    if pool.dns is not None or _takes(after):
        return
    others = [address for address in pool.endpoints if address != after.address and _takes(_as_it_is(pool, address))]
    if not others and _takes(_as_it_is(pool, after.address)):
        raise EditError(f"{after.address} is the last one of pool {pool.name} that takes anything: add one first")


def _takes(wanted: Override) -> bool:
    return wanted.admin is Admin.READY and wanted.weight != 0


def override_text(wanted: Override) -> str:
    """As the file has it: a weight, or a mapping where the admin state is given too."""
    if wanted.admin is Admin.READY:
        return _weight_text(1.0 if wanted.weight is None else wanted.weight)
    weight = "" if wanted.weight is None else f"weight: {_weight_text(wanted.weight)}, "
    return f"{{{weight}admin: {wanted.admin.value}}}"


def _weight_text(weight: float) -> str:
    """With all its digits: a drain must not change a weight."""
    return repr(float(weight)).removesuffix(".0")


def _in_list(sheet: Sheet, pool: Pool, after: Override) -> Iterator[Splice]:
    entry = sheet.mapping("pools", pool.name).entries["endpoints"]
    after = attrs.evolve(after, weight=None if after.weight == 1.0 else after.weight)
    match meant(entry.value):
        case MappingPart(entries=entries) as listed:
            key = list(entries)[pool.endpoints.index(after.address)]
            yield sheet.with_value(listed.entries[key], f" {override_text(after)}")
        case ListPart() as listed:
            texts = [override_text(after) if address == after.address else "1" for address in pool.endpoints]
            yield from _as_mapping(sheet.layout, entry, listed, texts)
        case Word():
            raise LayoutError(f"pools.{pool.name}.endpoints: write a list or a mapping, and try again")


def _as_mapping(layout: Layout, entry: MappingEntry, series: ListPart, values: list[str]) -> Iterator[Splice]:
    """Make the entry's list of scalars a mapping from each of them to a value; comments and layout stay."""
    within = series.start
    for item, value in zip(series.items, values, strict=True):
        line = layout.line(item.start)
        if not isinstance(item, Word):
            raise LayoutError(f"line {line + 1}: write the item out, without an alias, and try again")
        if not series.flow:
            dash = layout.item_indent(item)
            column, outer = len(dash) - len(dash.lstrip(" ")), layout.column_of(entry)
            column = column if column > outer else outer + DEFAULT_INDENT
            yield Splice(layout.start(line), item.start, " " * column, within)
        yield Splice(item.end, item.end, f": {value}", within)
    if series.flow:
        yield Splice(series.start, series.start + 1, "{", within)
        yield Splice(series.end - 1, series.end, "}", within)


def _overriding(sheet: Sheet, pool: Pool, after: Override) -> Iterator[Splice]:
    mapping = sheet.mapping("pools", pool.name)
    known = [each for each in pool.overrides if each.address != after.address]
    if after != Override(after.address):
        known.append(after)
    text = ", ".join(f'"{each.address}": {override_text(each)}' for each in known)
    if "overrides" in mapping.entries and known:
        yield sheet.with_value(mapping.entries["overrides"], f" {{{text}}}")
    elif "overrides" in mapping.entries:
        yield sheet.without(mapping, "overrides")
    else:
        entry = entry_text("overrides", f" {{{text}}}", sheet.layout.column(mapping))
        yield sheet.with_entry(mapping, entry, BEFORE_OVERRIDES)
