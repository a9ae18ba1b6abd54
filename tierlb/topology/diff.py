"""What differs between two topologies: one value for each thing that a person would name.

A change of settings carries keys and values as the topology file writes them. So programs and people read the same
words as in the file. Settings are compared field by field as the model declares them: one that the model gains later is
reported without a line here. So there are no differences exactly when the topologies are equal.

Two sorts of change cannot be carried out while the cluster runs, and give the reason. One is settings that the
controller reads at its start, the other a name that would stand for something of another nature.

Left out: in which order changes happen and what they do to connections (`plan`).
"""

import enum
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, get_args, get_origin

import attrs

from tierlb.model.address import Address, Transport
from tierlb.model.listener import TierListener
from tierlb.model.topology import HealthCheck, Override, Pool, SharedStore, Tier, Topology
from tierlb.topology import route_shapes, shapes, tls_shapes
from tierlb.topology.forms import cpus_text
from tierlb.topology.problems import path_text
from tierlb.topology.typed import Key, choices_of, form_of, keys_of


@attrs.frozen
class Field:
    """One setting that changed: its key and its values as the file writes them, None where it is not set."""

    key: str
    before: str | None
    after: str | None


@attrs.frozen
class Possible:
    """A change that a running cluster can make."""

    supported: ClassVar[bool] = True


@attrs.frozen
class TierAdded(Possible):
    name: str
    change: str = attrs.field(default="tier-added", init=False)


@attrs.frozen
class TierRemoved(Possible):
    name: str
    change: str = attrs.field(default="tier-removed", init=False)


@attrs.frozen
class TierScaled(Possible):
    """Its number of nodes changed."""

    name: str
    before: int
    after: int
    auto: bool = False
    """Whether it has one per core afterwards."""
    change: str = attrs.field(default="tier-scaled", init=False)


@attrs.frozen
class TierMoved(Possible):
    """Its routes changed. The targets may be the same: another split, other conditions."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    change: str = attrs.field(default="tier-moved", init=False)


@attrs.frozen
class TierChanged(Possible):
    """Other settings of the tier."""

    name: str
    fields: tuple[Field, ...]
    change: str = attrs.field(default="tier-changed", init=False)


@attrs.frozen
class PoolAdded(Possible):
    name: str
    change: str = attrs.field(default="pool-added", init=False)


@attrs.frozen
class PoolRemoved(Possible):
    name: str
    change: str = attrs.field(default="pool-removed", init=False)


@attrs.frozen
class PoolScaled(Possible):
    """The number of processes that run for it changed."""

    name: str
    before: int
    after: int
    change: str = attrs.field(default="pool-scaled", init=False)


@attrs.frozen
class PoolChanged(Possible):
    """Other settings of the pool, and endpoints that joined and left the list."""

    name: str
    fields: tuple[Field, ...] = ()
    added: tuple[Address, ...] = ()
    removed: tuple[Address, ...] = ()
    change: str = attrs.field(default="pool-changed", init=False)


@attrs.frozen
class AdminChanged(Possible):
    """The admin state of a node or agent changed; it belongs to a revision beside the text. `group`: its tier or
    pool."""

    group: str
    name: str
    before: str
    after: str
    change: str = attrs.field(default="admin-changed", init=False)


@attrs.frozen
class ClusterChanged:
    """A setting that the controller and all nodes read at their start."""

    supported: ClassVar[bool] = False
    fields: tuple[Field, ...]
    change: str = attrs.field(default="cluster-changed", init=False)

    @property
    def reason(self) -> str:
        """Why it cannot be done, and what to do instead."""
        keys = ", ".join(field.key for field in self.fields)
        return f"{keys}: taken up at the start only: stop the cluster and start it from the new file"


@attrs.frozen
class Replaced:
    """A name that stood for one thing and would stand for another: an l4 tier for an l7 tier, a tier for a pool."""

    supported: ClassVar[bool] = False
    name: str
    before: str
    after: str
    change: str = attrs.field(default="replaced", init=False)

    @property
    def reason(self) -> str:
        """Why it cannot be done, and what to do instead."""
        return (
            f"{self.name} cannot turn from {self.before} into {self.after} while it serves: "
            f"add {self.after} under another name, send to that, then remove {self.name}"
        )


Change = (
    TierAdded
    | TierRemoved
    | TierScaled
    | TierMoved
    | TierChanged
    | PoolAdded
    | PoolRemoved
    | PoolScaled
    | PoolChanged
    | AdminChanged
    | ClusterChanged
    | Replaced
)


def differences(old: Topology, new: Topology) -> tuple[Change, ...]:
    """All changes: the cluster's, those of tiers and those of pools, in the order of `old` and then of `new`."""
    changes: list[Change] = []
    if cluster := tuple(_field_changes(old, new, skip=("tiers", "pools", "take_clients"))):
        changes.append(ClusterChanged(cluster))
    for name in {**old.tiers, **new.tiers, **old.pools, **new.pools}:
        before, after = _nature(old, name), _nature(new, name)
        if before and after and before != after:
            changes.append(Replaced(name, before, after))
        elif name in old.tiers or name in new.tiers:
            changes += _tier_changes(name, old.tiers.get(name), new.tiers.get(name))
        else:
            changes += _pool_changes(name, old.pools.get(name), new.pools.get(name))
    return tuple(changes)


def _nature(topology: Topology, name: str) -> str:
    """What the name stands for, as far as that cannot change in place; empty: nothing."""
    if name in topology.tiers:
        tier = topology.tiers[name]
        return f"an {tier.kind.value} tier" if tier.protocol is Transport.TCP else f"an {tier.kind.value} tier over UDP"
    pool = topology.pools.get(name)
    if pool is None:
        return ""
    if pool.agents:
        return "a pool of agents"
    if pool.dns is not None:
        return "a pool that is looked up in DNS"
    return "a pool of listed endpoints" if pool.run is None else "a pool that is run here"


def _tier_changes(name: str, before: Tier | None, after: Tier | None) -> Iterator[Change]:
    if after is None:
        yield TierRemoved(name)
    elif before is None:
        yield TierAdded(name)
    else:
        if (before.replicas, before.per_core) != (after.replicas, after.per_core):
            yield TierScaled(name, before.replicas, after.replicas, after.per_core)
        if before.routes != after.routes:
            yield TierMoved(name, before.targets, after.targets)
        if fields := tuple(_field_changes(before, after, skip=("replicas", "per_core", "routes"))):
            yield TierChanged(name, fields)


def _pool_changes(name: str, before: Pool | None, after: Pool | None) -> Iterator[Change]:
    if after is None:
        yield PoolRemoved(name)
    elif before is None:
        yield PoolAdded(name)
    else:
        if before.run and after.run and before.run.replicas != after.run.replicas:
            yield PoolScaled(name, before.run.replicas, after.run.replicas)
        added = tuple(address for address in after.endpoints if address not in before.endpoints)
        removed = tuple(address for address in before.endpoints if address not in after.endpoints)
        fields = list(_field_changes(before, after, skip=("endpoints", "weights", "overrides", "run")))
        if before.run and after.run:
            fields += _field_changes(before.run, after.run, "run.", skip=("replicas",))
        fields += _weight_fields(before, after, same_hosts=not (added or removed))
        if fields or added or removed:
            yield PoolChanged(name, tuple(fields), added, removed)


def _weight_fields(before: Pool, after: Pool, same_hosts: bool) -> Iterator[Field]:
    """Weights of endpoints that stay; and the whole list, if it changed in no other way than in how it is written."""
    weights, others = weights_of(before), weights_of(after)
    kept = [address for address in others if address in weights]
    changed = [address for address in kept if weights[address] != others[address]]
    for address in changed:
        key = path_text(("endpoints", str(address)))
        yield Field(key, f"{weights[address]:g}", f"{others[address]:g}")
    wanted = list(_override_fields(before, after))
    yield from wanted
    same_lists = (before.endpoints, before.weights) == (after.endpoints, after.weights)
    if same_hosts and not changed and not wanted and not same_lists:
        yield Field("endpoints", _endpoint_list(before), _endpoint_list(after))


def _override_fields(before: Pool, after: Pool) -> Iterator[Field]:
    """Weights and admin states of single endpoints."""
    was, now = ({each.address: each for each in pool.overrides} for pool in (before, after))
    for address in (each for each in {**was, **now} if after.dns is not None or each in after.endpoints):
        one, other = was.get(address, Override(address)), now.get(address, Override(address))
        where = "overrides" if after.dns is not None else "endpoints"
        if one.admin is not other.admin:
            yield Field(path_text((where, str(address), "admin")), one.admin.value, other.admin.value)
        if one.weight != other.weight:
            said = [None if each.weight is None else f"{each.weight:g}" for each in (one, other)]
            yield Field(path_text((where, str(address), "weight")), *said)


def weights_of(pool: Pool) -> dict[Address, float]:
    """The weight of each listed endpoint, 1 where none is given."""
    return dict(zip(pool.endpoints, pool.weights or (1.0,) * len(pool.endpoints), strict=True))


def _endpoint_list(pool: Pool) -> str:
    if not pool.weights:
        return _plain_text(pool.endpoints)
    return "{" + ", ".join(f"{address}: {weight:g}" for address, weight in weights_of(pool).items()) + "}"


def _field_changes(before: Any, after: Any, prefix: str = "", skip: tuple[str, ...] = ()) -> Iterator[Field]:
    """The fields in which two values of one class differ; down to theirs, where both have a mapping there."""
    owner = type(before)
    for name in (field.name for field in attrs.fields(owner) if field.name not in skip):
        one, other = getattr(before, name), getattr(after, name)
        key = prefix + KEYS.get((owner, name), name)
        if one == other:
            continue
        if _is_mapping(one) and _is_mapping(other):
            yield from _field_changes(one, other, f"{key}.")
        else:
            yield Field(key, _said(owner, name, one), _said(owner, name, other))


def _is_mapping(value: Any) -> bool:
    return attrs.has(type(value)) and not isinstance(value, Address)


def _said(owner: type, name: str, value: Any) -> str | None:
    return None if value is None else WRITERS.get((owner, name), _plain_text)(value)


def _plain_text(value: Any) -> str:
    match value:
        case Address():
            return str(value)
        case enum.Enum():
            return str(value.value)
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return f"[{', '.join(map(_plain_text, value))}]"
        case _ if _is_mapping(value):
            owner = type(value)
            pairs = [(field.name, getattr(value, field.name)) for field in attrs.fields(owner)]
            said = {KEYS.get((owner, name), name): _said(owner, name, item) for name, item in pairs}
            return "{" + ", ".join(f"{key}: {text}" for key, text in said.items() if text is not None) + "}"
        case _:
            return str(value)


def _health_text(check: HealthCheck) -> str:
    return "tcp" if check == HealthCheck() else _plain_text(check)


def listener_text(listener: TierListener) -> str:
    """A listener as the file writes it."""
    plain = TierListener(listener.address)
    if listener == plain:
        return str(listener.address)
    names = [field.name for field in attrs.fields(TierListener)]
    given = [name for name in names if name == "address" or getattr(listener, name) != getattr(plain, name)]
    return "{" + ", ".join(f"{name}: {_said(TierListener, name, getattr(listener, name))}" for name in given) + "}"


def _listeners_text(listeners: tuple[TierListener, ...]) -> str | None:
    """One stands alone, more in a list."""
    said = [listener_text(each) for each in listeners]
    return f"[{', '.join(said)}]" if len(said) > 1 else next(iter(said), None)


def _store_text(store: SharedStore) -> str:
    return store.url if store == SharedStore(store.url) else _plain_text(store)


def _written_under(key: Key, value: Any) -> str:
    """A value as the file writes it under the key."""
    kinds = choices_of(key.kind)
    items = next((get_args(kind)[0] for kind in kinds if form_of(kind) is None and get_origin(kind) is tuple), None)
    if items is not None:
        return f"[{', '.join(_form_text(items, item) for item in value)}]"
    return _form_text(next((kind for kind in kinds if form_of(kind)), None), value)


def _form_text(kind: Any, value: Any) -> str:
    form = form_of(kind)
    return _plain_text(value) if form is None else form.write(value)


MODELS = [shape for shape in (vars(shapes) | vars(route_shapes) | vars(tls_shapes)).values() if hasattr(shape, "MODEL")]
FILE_KEYS = {
    (shape.MODEL, key.model_field): key
    for shape in MODELS
    for key in keys_of(shape).values()
    if key.model_field in attrs.fields_dict(shape.MODEL)
}
"""The file's key behind each field of the model's classes that stand for one mapping of the file."""

KEYS: dict[tuple[type, str], str] = {
    (Topology, "admin"): "admin.listen",
    (Topology, "admin_hosts"): "admin.hosts",
    (Topology, "admin_tls"): "admin.tls",
    (Topology, "tls"): "security.tls",
    (Tier, "per_core"): "replicas",
    (Pool, "agent_check_port"): "agent_check",
    (Pool, "outlier"): "health.outlier",
    **{place: key.name for place, key in FILE_KEYS.items()},
}
"""The file's key, where the model's field has another name."""

WRITERS: dict[tuple[type, str], Callable[[Any], str | None]] = {
    **{place: partial(_written_under, key) for place, key in FILE_KEYS.items()},
    (Topology, "store"): _store_text,
    (Tier, "hash_header"): "{{header: {}}}".format,
    (Tier, "cpus"): cpus_text,
    (TierListener, "tls"): _plain_text,
    (Tier, "listen"): _listeners_text,
    (Pool, "health"): _health_text,
}
"""How the file writes a field's value, where it is more than its plain text."""
