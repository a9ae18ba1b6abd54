"""The verbs on single endpoints as edits of a topology file's text: drain, maintenance, ready, weight.

An endpoint has a name in the file where it is listed (`endpoints`), or found in DNS (`overrides`, by its address).
Those that `run` starts have other ports after each start, and agents are drained by their own names, as nodes are.
A list of endpoints becomes a mapping when one of them is to be other than the rest.
"""

from collections.abc import Iterator

import attrs

from tierlb.model.address import Address
from tierlb.model.topology import Admin, Override, Pool, Topology
from tierlb.topology.diff import weights_of
from tierlb.topology.parts import Mapping, Series, Word, meant
from tierlb.topology.rewrite import LayoutError, Sheet, Splice, entry_text

BEFORE_OVERRIDES = ("dns",)


class NoSuchEndpoint(ValueError):  # noqa: N818 (a verdict on the edit; the text says what to do)
    """The verb does not apply to it."""


@attrs.frozen
class SetEndpoint:
    """What is wanted of one endpoint from now on; None leaves it as it is."""

    pool: str
    address: Address
    admin: Admin | None = None
    weight: float | None = None


def splices_for(sheet: Sheet, topology: Topology, edit: SetEndpoint) -> Iterator[Splice]:
    """Raises NoSuchEndpoint and LayoutError."""
    pool = _pool(topology, edit)
    before = _as_it_is(pool, edit.address)
    after = attrs.evolve(
        before,
        admin=before.admin if edit.admin is None else edit.admin,
        weight=before.weight if edit.weight is None else edit.weight,
    )
    if after == before:
        return
    _refuse_last(pool, edit, after)
    if pool.dns is not None:
        yield from _overriding(sheet, pool, after)
    else:
        yield from _listing(sheet, pool, after)


def _pool(topology: Topology, edit: SetEndpoint) -> Pool:
    pool = topology.pools.get(edit.pool)
    if pool is None:
        pools = ", ".join(topology.pools) or "none"
        raise NoSuchEndpoint(f"there is no pool {edit.pool}: there are {pools}")
    if pool.run is not None:
        raise NoSuchEndpoint(
            f"the endpoints of pool {pool.name} are started here and have other ports after each start: "
            f"`tierlb scale {pool.name}=N` changes how many there are"
        )
    if pool.agents:
        raise NoSuchEndpoint(f"pool {pool.name} is filled by agents: name the agent, as `tierlb status` shows it")
    if pool.dns is None and edit.address not in pool.endpoints:
        listed = ", ".join(str(address) for address in pool.endpoints[:4])
        raise NoSuchEndpoint(f"pool {pool.name} has no endpoint {edit.address}: it lists {listed}")
    return pool


def _as_it_is(pool: Pool, address: Address) -> Override:
    wanted = next((each for each in pool.overrides if each.address == address), Override(address))
    return wanted if pool.dns is not None else attrs.evolve(wanted, weight=weights_of(pool)[address])


def _refuse_last(pool: Pool, edit: SetEndpoint, after: Override) -> None:
    """How many endpoints DNS finds is not known here, so none of those counts as the last."""
    if pool.dns is not None or _takes(after):
        return
    others = [address for address in pool.endpoints if address != edit.address and _takes(_as_it_is(pool, address))]
    if not others and _takes(_as_it_is(pool, edit.address)):
        raise NoSuchEndpoint(f"{edit.address} is the last one of pool {pool.name} that takes anything: add one first")


def _takes(wanted: Override) -> bool:
    return wanted.admin is Admin.READY and wanted.weight != 0


def value_text(wanted: Override) -> str:
    """As the file has it: a weight, or a mapping where there is more to say."""
    if wanted.admin is Admin.READY:
        return _number(1.0 if wanted.weight is None else wanted.weight)
    weight = "" if wanted.weight is None else f"weight: {_number(wanted.weight)}, "
    return f"{{{weight}admin: {wanted.admin.value}}}"


def _number(weight: float) -> str:
    """With all its digits: a drain must not change a weight."""
    return repr(float(weight)).removesuffix(".0")


def _listing(sheet: Sheet, pool: Pool, after: Override) -> Iterator[Splice]:
    entry = sheet.mapping("pools", pool.name).entries["endpoints"]
    after = attrs.evolve(after, weight=None if after.weight == 1.0 else after.weight)
    match meant(entry.value):
        case Mapping(entries=entries) as listed:
            key = list(entries)[pool.endpoints.index(after.address)]
            yield sheet.with_value(listed.entries[key], f" {value_text(after)}")
        case Series() as listed:
            texts = [value_text(after) if address == after.address else "1" for address in pool.endpoints]
            yield from sheet.as_mapping(entry, listed, texts)
        case Word():
            raise LayoutError(f"pools.{pool.name}.endpoints: write a list or a mapping, and try again")


def _overriding(sheet: Sheet, pool: Pool, after: Override) -> Iterator[Splice]:
    mapping = sheet.mapping("pools", pool.name)
    known = [each for each in pool.overrides if each.address != after.address]
    if after != Override(after.address):
        known.append(after)
    text = ", ".join(f'"{each.address}": {value_text(each)}' for each in known)
    if "overrides" in mapping.entries and known:
        yield sheet.with_value(mapping.entries["overrides"], f" {{{text}}}")
    elif "overrides" in mapping.entries:
        yield sheet.without(mapping, "overrides")
    else:
        entry = entry_text("overrides", f" {{{text}}}", sheet.column(mapping))
        yield sheet.with_entry(mapping, entry, BEFORE_OVERRIDES)
