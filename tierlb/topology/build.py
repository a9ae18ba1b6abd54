"""The file's shape → the model's values. All was checked before; what is left is defaults and tuples."""

from typing import Any

import attrs

from tierlb.model.topology import (
    DRAIN_S,
    Action,
    Admin,
    AdminTls,
    ClientAbort,
    Forward,
    HealthCheck,
    Kind,
    Limits,
    Match,
    OutlierDetection,
    Override,
    Paths,
    Policy,
    Pool,
    Redirect,
    Resources,
    Respond,
    Route,
    Run,
    Share,
    SharedStore,
    Tier,
    Timeouts,
    Tls,
    Topology,
)
from tierlb.topology.files import resolved
from tierlb.topology.shapes import (
    AdminShape,
    AgentsShape,
    EndpointShape,
    FileShape,
    HashOnShape,
    HealthShape,
    MatchShape,
    PoolShape,
    ResourcesShape,
    RouteShape,
    RunShape,
    SecurityShape,
    StoreShape,
    TierShape,
    To,
)

L4_TIMEOUTS = Timeouts(idle=300.0)
"""Connections that may carry anything pause for longer than HTTP does between requests."""


def build(file: FileShape, folder: str = "") -> Topology:
    """Make the topology of a file that has no fault and stands in `folder`."""
    tiers: dict[str, Tier] = {name: _tier(name, tier) for name, tier in file.tiers.items()}
    pools: dict[str, Pool] = {name: _pool(name, pool) for name, pool in (file.pools or {}).items()}
    tls, store = _tls(file.security, folder), _store(file.store, folder)
    topology = Topology(file.cluster, tiers, pools, tls=tls, store=store)
    return topology if file.admin is None else attrs.evolve(topology, **_api(file.admin, folder))


def _api(shape: AdminShape, folder: str) -> dict[str, Any]:
    tls = shape.tls and AdminTls(resolved(folder, shape.tls.certificate), resolved(folder, shape.tls.key))
    return {"admin": shape.listen, "admin_hosts": shape.hosts or (), "admin_tls": tls}


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


def build_health(shape: HealthShape | str | None) -> HealthCheck | None:
    """The check in the model's form. Without a timeout of its own a check ends when the next one is due. Where nothing
    but `outlier` is given there is none."""
    if shape is None or isinstance(shape, str):
        return HealthCheck() if shape else None
    if _given(shape).keys() == {"outlier"}:
        return None
    interval_s = shape.interval or HealthCheck().interval_s
    status = (shape.status,) if shape.status and isinstance(shape.status[0], int) else shape.status
    return HealthCheck(
        path=shape.path,
        host=shape.host,
        interval_s=interval_s,
        timeout_s=shape.timeout or min(HealthCheck().timeout_s, interval_s),
        healthy=shape.healthy or HealthCheck().healthy,
        unhealthy=shape.unhealthy or HealthCheck().unhealthy,
        statuses=status or HealthCheck().statuses,
    )


def build_outlier(shape: HealthShape | str | None) -> OutlierDetection | None:
    """Detection in the model's form; on by default."""
    given = shape.outlier if isinstance(shape, HealthShape) else None
    if isinstance(given, str):
        return None
    seconds = {"interval": "interval_s", "base_ejection": "base_ejection_s"}
    return OutlierDetection(**{seconds.get(key, key): value for key, value in _given(given).items()})


def _tier(name: str, shape: TierShape) -> Tier:
    defaults = L4_TIMEOUTS if shape.kind is Kind.L4 else Timeouts()
    return Tier(
        name=name,
        kind=shape.kind,
        routes=_routes(shape),
        listen=shape.listen,
        replicas=shape.replicas or 1,
        balance=shape.balance or Policy.LOAD_AWARE,
        hash_header=shape.hash_on.header if isinstance(shape.hash_on, HashOnShape) else None,
        orca=shape.orca,
        agent_check=shape.agent_check,
        trusted_peers=shape.trusted_peers or (),
        timeouts=attrs.evolve(defaults, **_given(shape.timeouts)),
        limits=Limits(**_given(shape.limits)),
        drain_s=shape.drain or DRAIN_S,
        resources=_resources(shape.resources),
        paths=shape.paths or Paths.NORMALISED,
        client_abort=shape.client_abort or ClientAbort.CANCEL,
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
    listed, found = shape.endpoints or (), shape.overrides or {}
    wanted = listed if isinstance(listed, dict) else {}
    return Pool(
        name,
        endpoints=tuple(listed),
        weights=tuple(1.0 if (weight := _weight(given)) is None else weight for given in wanted.values()),
        overrides=_overrides(
            *(Override(address, None, _admin(given)) for address, given in wanted.items()),
            *(Override(address, _weight(given), _admin(given)) for address, given in found.items()),
        ),
        run=_run(shape.run) if shape.run else None,
        agents=bool(shape.agents),
        networks=shape.agents.networks if isinstance(shape.agents, AgentsShape) else (),
        dns=shape.dns,
        health=build_health(shape.health),
        outlier=build_outlier(shape.health),
        agent_check_port=shape.agent_check,
    )


def _weight(given: float | EndpointShape) -> float | None:
    return given.weight if isinstance(given, EndpointShape) else given


def _admin(given: float | EndpointShape) -> Admin:
    return given.admin or Admin.READY if isinstance(given, EndpointShape) else Admin.READY


def _overrides(*given: Override) -> tuple[Override, ...]:
    """Those that say something, in an order that does not depend on the file's."""
    return tuple(sorted((each for each in given if each != Override(each.address)), key=lambda each: str(each.address)))


def _run(shape: RunShape) -> Run:
    return Run(**{**_given(shape), "resources": _resources(shape.resources)})


def _resources(shape: ResourcesShape | None) -> Resources:
    return Resources(shape.cpus, shape.memory) if shape is not None else Resources()


def _tls(security: SecurityShape | None, folder: str) -> Tls | None:
    if security is None:
        return None
    return Tls(**{key: resolved(folder, name) for key, name in _given(security.tls).items()})


def _store(store: StoreShape | str | None, folder: str) -> SharedStore | None:
    if store is None or isinstance(store, str):
        return SharedStore(store) if store else None
    shared = SharedStore(store.etcd, **{key: value for key, value in _given(store).items() if key != "etcd"})
    return attrs.evolve(shared, **{key: resolved(folder, name) for key, name in shared.files.items()})


def _several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _given(shape: Any) -> dict[str, Any]:
    """The keys the file gives; the others keep the model's defaults."""
    return {} if shape is None else attrs.asdict(shape, recurse=False, filter=lambda _, value: value is not None)
