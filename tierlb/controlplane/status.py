"""What the cluster is doing now, as values: the controller makes them, the admin API serves them."""

import enum
from typing import Any

import attrs

from tierlb.model.address import Address
from tierlb.model.load import NodeLoad


class State(enum.Enum):
    """How far a node or an endpoint is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"


@attrs.frozen
class NodeStatus:
    """One node. `connected` is the control socket only: traffic does not depend on it."""

    name: str
    state: State
    connected: bool
    pid: int | None
    revision: int
    addresses: tuple[Address, ...]
    load: NodeLoad | None
    items_per_s: float | None
    report_age_s: float | None
    problem: str = ""


@attrs.frozen
class TierStatus:
    """A tier and its nodes, in their order."""

    kind: str
    listen: Address | None
    to: tuple[str, ...]
    nodes: tuple[NodeStatus, ...]


@attrs.frozen
class EndpointStatus:
    """One endpoint of a pool; the pid is known where this machine started it."""

    address: Address
    state: State
    pid: int | None = None


@attrs.frozen
class PoolStatus:
    """A pool and its endpoints."""

    endpoints: tuple[EndpointStatus, ...]


@attrs.frozen
class ClusterStatus:
    """The whole tree. `serving`: each tier and pool has one that serves. `missing`: what is not up."""

    cluster: str
    revision: int
    serving: bool
    missing: tuple[str, ...]
    tiers: dict[str, TierStatus]
    pools: dict[str, PoolStatus]


def as_json(status: ClusterStatus) -> dict[str, Any]:
    """The status as a mapping that `json.dumps` takes; addresses and states as text."""
    plain: dict[str, Any] = _plain(status)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
