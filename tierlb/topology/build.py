"""The file's shape → the model's values. All was checked before; what is left is defaults and other names.

A mapping with a `MODEL` becomes a value of that class, key by key. So reading and planning need nothing here for a new
key of a tier. A key that nodes act by also goes through model/snapshot.py and topology/allot.py, and
topology/inherit.py if `tier add` is to copy it.
"""

from collections.abc import Callable
from typing import Any

import attrs

from tierlb.model.address import Address, Transport
from tierlb.model.listener import TierListener
from tierlb.model.tls import Alpn, ListenerTls, NoTls, PoolTls, Tls
from tierlb.model.topology import (
    AUTO,
    Action,
    Admin,
    Forward,
    HealthCheck,
    Kind,
    Match,
    OutlierDetection,
    Override,
    Pool,
    PoolProtocol,
    Route,
    Share,
    SharedStore,
    Tier,
    Timeouts,
    Topology,
)
from tierlb.topology.cores import available_cores
from tierlb.topology.files import resolved
from tierlb.topology.forms import MOST_REPLICAS
from tierlb.topology.route_shapes import MatchShape, RouteShape, To
from tierlb.topology.shapes import (
    AdminShape,
    AgentsShape,
    EndpointShape,
    FileShape,
    HashOnShape,
    HealthShape,
    ListenerShape,
    PoolShape,
    SecurityShape,
    StoreShape,
    TierShape,
    listed_listeners,
)
from tierlb.topology.tls_shapes import ListenerTlsShape, PoolTlsShape
from tierlb.topology.typed import keys_of

ONE_OR_MORE = ("hosts", "methods", "sni", "alpn", "sources", "ports")
"""Of a match, what the file gives as one value or a list."""
L4_TIMEOUTS = Timeouts(idle=300.0)
"""Connections that may carry anything pause for longer than HTTP does between requests."""
UDP_TIMEOUTS = Timeouts(idle=30.0)
"""As Linux keeps UDP clients in conntrack, and as most QUIC stacks close quiet connections."""


def build(file: FileShape, folder: str = "", cores: Callable[[], int] = available_cores) -> Topology:
    """Make the topology of a file that has no fault and stands in `folder`. `cores`: how many nodes `auto` is."""
    tiers: dict[str, Tier] = {name: _built_tier(name, tier, cores, folder) for name, tier in file.tiers.items()}
    pools: dict[str, Pool] = {name: _built_pool(name, pool, folder) for name, pool in (file.pools or {}).items()}
    tls, store = _built_tls(file.security, folder), _store(file.store, folder)
    topology = Topology(file.cluster, tiers, pools, tls=tls, store=store)
    return topology if file.admin is None else attrs.evolve(topology, **_api(file.admin, folder))


def cpus_of(given: tuple[int | tuple[int, ...], ...]) -> tuple[int, ...]:
    """The CPUs of a range, or of a list of ranges."""
    return tuple(cpu for each in given for cpu in ((each,) if isinstance(each, int) else each))


def build_match(shape: MatchShape | None) -> Match:
    """Conditions in the model's form; a prefix of / is none."""
    given = _given_fields(shape)
    given |= {name: tuple(given[name].items()) for name in ("headers", "query") if name in given}
    given |= {name: (given[name],) for name in ONE_OR_MORE if isinstance(given.get(name), str | int)}
    if "path_prefix" in given:
        given["path_prefix"] = given["path_prefix"].rstrip("/") or None
    return Match(**given)


def build_health(shape: HealthShape | str | None) -> HealthCheck | None:
    """The check in the model's form. Without a timeout of its own a check ends when the next one is due. Where nothing
    but `outlier` is given there is none."""
    if shape is None or isinstance(shape, str):
        return HealthCheck() if shape else None
    given = _given_fields(shape)
    if given.keys() == {"outlier"}:
        return None
    given.pop("outlier", None)
    if "statuses" in given and isinstance(given["statuses"][0], int):
        given["statuses"] = (given["statuses"],)
    interval_s = given.get("interval_s", HealthCheck().interval_s)
    return HealthCheck(**{"timeout_s": min(HealthCheck().timeout_s, interval_s), **given})


def build_outlier(shape: HealthShape | str | None) -> OutlierDetection | None:
    """Detection in the model's form; on by default."""
    given = shape.outlier if isinstance(shape, HealthShape) else None
    return None if isinstance(given, str) else OutlierDetection(**_given_fields(given))


def _built_tier(name: str, shape: TierShape, cores: Callable[[], int], folder: str) -> Tier:
    given = _given_fields(shape)
    if shape.replicas == AUTO:
        given |= {"replicas": min(cores(), MOST_REPLICAS), "per_core": True}
    if shape.cpus is not None:
        given["cpus"] = cpus_of(shape.cpus)
    if shape.listen is not None:
        given["listen"] = tuple(_listener(each, shape, folder) for each in listed_listeners(shape))
    given.pop("proxy_protocol", None)
    given.pop("to", None)
    defaults = default_timeouts(shape.kind, shape.protocol)
    given |= {"routes": _routes(shape), "timeouts": attrs.evolve(defaults, **_given_fields(shape.timeouts))}
    if shape.tls is not None:
        given["tls"] = _listener_tls(shape.tls, folder, shape.kind)
    given["hash_header"] = shape.hash_on.header if isinstance(shape.hash_on, HashOnShape) else None
    return Tier(name=name, **given)


def _listener(shape: Address | ListenerShape, tier: TierShape, folder: str) -> TierListener:
    """What the tier says of the PROXY protocol holds for listeners that say nothing."""
    listener: TierListener = TierListener(shape) if isinstance(shape, Address) else _built_value(shape)
    above = listener.proxy_protocol or _built_value(tier.proxy_protocol)
    tls: ListenerTls | NoTls | None = None
    if isinstance(shape, ListenerShape):
        tls = _listener_tls(shape.tls, folder, tier.kind) if isinstance(shape.tls, ListenerTlsShape) else shape.tls
    return attrs.evolve(listener, proxy_protocol=above, tls=tls)


def _listener_tls(shape: ListenerTlsShape, folder: str, kind: Kind) -> ListenerTls:
    certificates = tuple(_with_paths(_built_value(each), ("certificate", "key"), folder) for each in shape.certificates)
    given = {"alpn": tuple(Alpn) if kind is Kind.L7 else (), **_given_fields(shape), "certificates": certificates}
    if shape.client_ca is not None:
        given["client_ca"] = resolved(folder, shape.client_ca)
    return ListenerTls(**given)


def _pool_tls(shape: PoolTlsShape | None, folder: str) -> PoolTls | None:
    if shape is None:
        return None
    files = {key: resolved(folder, name) for key in ("ca", "certificate", "key") if (name := getattr(shape, key))}
    return PoolTls(**{**_given_fields(shape), **files})


def default_timeouts(kind: Kind, protocol: Transport | None) -> Timeouts:
    """Of a tier that gives none."""
    if kind is Kind.L7:
        return Timeouts()
    return UDP_TIMEOUTS if protocol is Transport.UDP else L4_TIMEOUTS


def _routes(shape: TierShape) -> tuple[Route, ...]:
    if shape.to is not None:
        return (Route(Match(), _forward(shape.to)),)
    return tuple(Route(build_match(route.match), _built_action(route)) for route in shape.routes or ())


def _built_action(route: RouteShape) -> Action:
    if route.to is not None:
        return _forward(route.to)
    action: Action = _built_value(route.respond or route.redirect)
    return action


def _forward(to: To) -> Forward:
    if isinstance(to, dict):
        return Forward(tuple(Share(weight, (name,)) for name, weight in to.items()))
    return Forward((Share(1.0, to if isinstance(to, tuple) else (to,)),))


def _built_pool(name: str, shape: PoolShape, folder: str) -> Pool:
    listed, found = shape.endpoints or (), shape.overrides or {}
    wanted = listed if isinstance(listed, dict) else {}
    return Pool(
        name,
        endpoints=tuple(listed),
        weights=tuple(1.0 if (weight := _given_weight(given)) is None else weight for given in wanted.values()),
        overrides=_overrides(
            *(Override(address, None, _admin(given)) for address, given in wanted.items()),
            *(Override(address, _given_weight(given), _admin(given)) for address, given in found.items()),
        ),
        run=_built_value(shape.run),
        agents=bool(shape.agents),
        networks=shape.agents.networks if isinstance(shape.agents, AgentsShape) else (),
        dns=shape.dns,
        health=build_health(shape.health),
        outlier=build_outlier(shape.health),
        agent_check_port=shape.agent_check,
        tls=_pool_tls(shape.tls, folder),
        protocol=shape.protocol or PoolProtocol.HTTP1,
        proxy_protocol=shape.proxy_protocol,
    )


def _given_weight(given: float | EndpointShape) -> float | None:
    return given.weight if isinstance(given, EndpointShape) else given


def _admin(given: float | EndpointShape) -> Admin:
    return given.admin or Admin.READY if isinstance(given, EndpointShape) else Admin.READY


def _overrides(*given: Override) -> tuple[Override, ...]:
    """Those that differ from the default, in an order that does not depend on the file's."""
    return tuple(sorted((each for each in given if each != Override(each.address)), key=lambda each: str(each.address)))


def _api(shape: AdminShape, folder: str) -> dict[str, Any]:
    tls = shape.tls and _with_paths(_built_value(shape.tls), ("certificate", "key"), folder)
    return {"admin": shape.listen, "admin_hosts": shape.hosts or (), "admin_tls": tls}


def _built_tls(security: SecurityShape | None, folder: str) -> Tls | None:
    return None if security is None else _with_paths(_built_value(security.tls), ("certificate", "key", "ca"), folder)


def _store(store: StoreShape | str | None, folder: str) -> SharedStore | None:
    if store is None or isinstance(store, str):
        return SharedStore(store) if store else None
    shared: SharedStore = _built_value(store)
    return attrs.evolve(shared, **{key: resolved(folder, name) for key, name in shared.files.items()})


def _with_paths(value: Any, keys: tuple[str, ...], folder: str) -> Any:
    """The same with whole paths for the files that it names."""
    return attrs.evolve(value, **{key: resolved(folder, getattr(value, key)) for key in keys})


def _built_value(shape: Any) -> Any:
    """The model's value of a mapping; None if it is not given."""
    return None if shape is None else shape.MODEL(**_given_fields(shape))


def _given_fields(shape: Any) -> dict[str, Any]:
    """The keys that the file gives, by the names of the model; the others keep the model's defaults."""
    if shape is None:
        return {}
    pairs = ((key.model_field, getattr(shape, key.field.name)) for key in keys_of(type(shape)).values())
    return {field: _built_value(item) if hasattr(item, "MODEL") else item for field, item in pairs if item is not None}
