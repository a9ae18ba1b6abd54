"""The file's shape → the model's values. All was checked before; what is left is defaults and tuples."""

from typing import Any

import attrs

from tierlb.model.topology import (
    Action,
    Forward,
    Kind,
    Limits,
    Match,
    Policy,
    Pool,
    Redirect,
    Respond,
    Route,
    Run,
    Share,
    Tier,
    Timeouts,
    Topology,
)
from tierlb.topology.shapes import FileShape, MatchShape, PoolShape, RouteShape, TierShape, To

L4_TIMEOUTS = Timeouts(idle=300.0)
"""Connections that may carry anything pause for longer than HTTP does between requests."""


def build(file: FileShape) -> Topology:
    """Make the topology of a file that has no fault."""
    tiers: dict[str, Tier] = {name: _tier(name, tier) for name, tier in file.tiers.items()}
    pools: dict[str, Pool] = {name: _pool(name, pool) for name, pool in (file.pools or {}).items()}
    admin = {} if file.admin is None else {"admin": file.admin.listen}
    return Topology(file.cluster, tiers, pools, **admin)


def build_match(shape: MatchShape | None) -> Match:
    """Conditions in the model's form; a prefix of / is none."""
    if shape is None:
        return Match()
    prefix = shape.path_prefix.rstrip("/") or None if shape.path_prefix else None
    return Match(
        path=shape.path,
        path_prefix=prefix,
        hosts=_several(shape.host),
        methods=_several(shape.method),
        headers=tuple((shape.headers or {}).items()),  # type: ignore[arg-type]
        query=tuple((shape.query or {}).items()),  # type: ignore[arg-type]
    )


def _tier(name: str, shape: TierShape) -> Tier:
    defaults = L4_TIMEOUTS if shape.kind is Kind.L4 else Timeouts()
    return Tier(
        name=name,
        kind=shape.kind,
        routes=_routes(shape),
        listen=shape.listen,
        replicas=shape.replicas or 1,
        balance=shape.balance or Policy.LEAST_REQUESTS,
        trusted_peers=shape.trusted_peers or (),
        timeouts=attrs.evolve(defaults, **_given(shape.timeouts)),
        limits=Limits(**_given(shape.limits)),
    )


def _routes(shape: TierShape) -> tuple[Route, ...]:
    if shape.to is not None:
        return (Route(Match(), _forward(shape.to)),)
    return tuple(Route(build_match(route.match), _action(route)) for route in shape.routes or ())


def _action(route: RouteShape) -> Action:
    if route.to is not None:
        return _forward(route.to)
    if route.respond is not None:
        return Respond(**_given(route.respond))
    return Redirect(**_given(route.redirect))


def _forward(to: To) -> Forward:
    if isinstance(to, dict):
        return Forward(tuple(Share(weight, (name,)) for name, weight in to.items()))
    return Forward((Share(1.0, to if isinstance(to, tuple) else (to,)),))


def _pool(name: str, shape: PoolShape) -> Pool:
    run = Run(**_given(shape.run)) if shape.run else None
    return Pool(name, endpoints=shape.endpoints or (), run=run)


def _several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _given(shape: Any) -> dict[str, Any]:
    """The keys the file gives; the others keep the model's defaults."""
    return {} if shape is None else attrs.asdict(shape, recurse=False, filter=lambda _, value: value is not None)
