"""What the shape of one mapping cannot say about itself: keys that exclude each other, dead routes, l7 keys
at l4.

Each rule yields the faults it finds. A mapping that lost a part to an error is not blamed for what the part
may have held.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from tierlb.model.topology import Kind, Match
from tierlb.topology.build import build_match
from tierlb.topology.problems import Fault, Path, path_text
from tierlb.topology.shapes import (
    AT_MOST_ONE,
    EXACTLY_ONE,
    FileShape,
    PoolShape,
    RespondShape,
    RouteShape,
    TierShape,
    To,
)
from tierlb.topology.structure import Reading

BODILESS_STATUSES = (204, 205, 304)
"""RFC 9110 §15.3.5, §15.3.6, §15.4.5: these answers have no content."""


def local_faults(file: FileShape, reading: Reading) -> Iterator[Fault]:
    """Faults that one mapping shows without a look at the others."""
    for path, shape in shapes_in(file, ()):
        if reading.intact(path):
            yield from _choice_faults(path, shape)
        match shape:
            case TierShape():
                yield from _layer_faults(path, shape)
                yield from _dead_route_faults(path, shape.routes or (), reading)
                yield from _to_faults((*path, "to"), shape.to)
            case RouteShape():
                yield from _to_faults((*path, "to"), shape.to)
            case RespondShape(status=status, body=body) if body and status in BODILESS_STATUSES:
                yield Fault((*path, "body"), f"an answer with status {status} has no body")
            case PoolShape():
                yield from _repeated((*path, "endpoints"), shape.endpoints or ())
            case _:
                pass


def shapes_in(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every attrs shape in the value with its path, parents first."""
    if attrs.has(type(value)):
        yield path, value
        children = [(field.name, getattr(value, field.name)) for field in attrs.fields(type(value))]
    elif isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, tuple):
        children = list(enumerate(value))
    else:
        return
    for step, child in children:
        yield from shapes_in(child, (*path, step))


def _choice_faults(path: Path, shape: Any) -> Iterator[Fault]:
    exact, most = EXACTLY_ONE.get(type(shape), ()), AT_MOST_ONE.get(type(shape), ())
    given = [key for key in exact or most if getattr(shape, key) is not None]
    if exact and not given:
        yield Fault(path, f"needs one of the keys {', '.join(exact)}")
    for key in given[1:]:
        yield Fault((*path, key), f"cannot stand beside {given[0]!r}: keep one of them", at_key=True)


def _layer_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    if tier.kind is not Kind.L4:
        return
    for place, shape in shapes_in(tier, path):
        if isinstance(shape, RouteShape):
            continue
        for field in attrs.fields(type(shape)):
            if field.metadata.get("l7_only") and getattr(shape, field.name) is not None:
                yield Fault((*place, field.name), "is for l7 tiers; an l4 tier sees connections only", at_key=True)


def _dead_route_faults(path: Path, routes: tuple[RouteShape, ...], reading: Reading) -> Iterator[Fault]:
    seen: dict[Match, int] = {}
    for index, route in enumerate(routes):
        here = (*path, "routes", index)
        if not reading.intact((*here, "match")):
            continue
        match = build_match(route.match)
        for known in (Match(), match):
            if known in seen:
                what = "takes every request" if known == Match() else "has the same match"
                yield Fault(here, f"is never reached: routes[{seen[known]}] before it {what}")
                break
        seen.setdefault(match, index)


def _to_faults(path: Path, to: To | None) -> Iterator[Fault]:
    if isinstance(to, tuple):
        yield from _repeated(path, to)
    elif isinstance(to, dict) and not any(to.values()):
        yield Fault(path, "every share is 0: nothing could be sent anywhere")


def _repeated(path: Path, items: tuple[Any, ...]) -> Iterator[Fault]:
    first: dict[Any, int] = {}
    for index, item in enumerate(items):
        if item in first:
            yield Fault((*path, index), f"{item} is listed twice, first as {path_text((path[-1], first[item]))}")
        first.setdefault(item, index)
