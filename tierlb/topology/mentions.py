"""Where a tier's text names what it sends to, and whether a name is one of the topology's: for the edits of tiers."""

from collections.abc import Iterable, Iterator

from tierlb.model.topology import Tier, Topology
from tierlb.topology.parts import ListPart, MappingPart, Part, Word, meant
from tierlb.topology.problems import suggestion
from tierlb.topology.rewrite import Sheet
from tierlb.topology.units import shown
from tierlb.topology.verbs import EditError


def holders_of(sheet: Sheet, name: str) -> Iterator[MappingPart]:
    """The mappings in a tier that have a `to`: its own, or those of its routes."""
    tier = sheet.mapping("tiers", name)
    if "to" in tier.entries:
        yield tier
        return
    routes = meant(tier.entries["routes"].value)
    assert isinstance(routes, ListPart)
    for item in routes.items:
        route = meant(item)
        if isinstance(route, MappingPart) and "to" in route.entries:
            yield route


def text_of(part: Part) -> str:
    """The text of a scalar, or of an alias for one; "" for all others."""
    scalar = meant(part)
    return scalar.text if isinstance(scalar, Word) else ""


def tier_named(topology: Topology, name: str) -> Tier:
    """The tier. Raises EditError if there is none."""
    check_known(topology, name)
    if name in topology.pools:
        raise EditError(f"{name!r} is a pool, which sends nowhere: name a tier here ({listed(topology.tiers)})")
    return topology.tiers[name]


def check_known(topology: Topology, name: str) -> None:
    """Raises EditError unless a tier or pool has the name."""
    known = [*topology.tiers, *topology.pools]
    if name not in known:
        guess = suggestion(name, known) or f": there are {listed(known)}"
        raise EditError(f"no tier or pool named {shown(name)}{guess}")


def listed(names: Iterable[str]) -> str:
    """`'a'`, `'a' and 'b'`, `'a', 'b' and 'c'`."""
    quoted = [repr(name) for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
