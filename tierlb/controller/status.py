"""What the cluster is doing now, as values: the controller makes them, the admin API serves them."""

import enum
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tierlb.balance.availability import Availability
from tierlb.model.address import Address, Transport
from tierlb.model.load import CertificateExpiry, HostLoad, NodeLoad, SubtreeLoad
from tierlb.model.topology import Admin
from tierlb.telemetry.sketch import decode_sketch
from tierlb.topology.certificates import DAY_S
from tierlb.topology.typed import plain


class State(enum.Enum):
    """How far a node or an endpoint is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"


@attrs.frozen
class NodeStatus:
    """One node. `connected` is the control socket only: traffic does not depend on it. `load` and `latency` (an encoded
    sketch) are what its last row said, `subtree` what it reported last. `revision` is the one of the history that it
    serves, 0 for none. `control` is the address where its children
    report and where it answers `GET /metrics`; `admin` is what an operator wants of the node; `build`: whether it runs
    compiled modules."""

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
    subtree: SubtreeLoad | None = None
    latency: bytes = b""
    parents: tuple[str, ...] = ()
    control: str = ""
    admin: Admin = Admin.READY
    build: str = ""


def _as_tuple(given: Address | tuple[Address, ...] | None) -> tuple[Address, ...]:
    """One address stands for a list of it, None for an empty one."""
    return () if given is None else (given,) if isinstance(given, Address) else given


@attrs.frozen
class TierStatus:
    """A tier and its nodes, in their order. `protocol`: tcp or udp. `tls`: those of `listen` where clients speak TLS,
    with this tier or one below."""

    kind: str
    listen: tuple[Address, ...] = attrs.field(converter=_as_tuple)
    to: tuple[str, ...]
    nodes: tuple[NodeStatus, ...]
    protocol: str = Transport.TCP.value
    tls: tuple[Address, ...] = ()


@attrs.frozen
class EndpointStatus:
    """One endpoint of a pool; the pid is known where this machine started it, the name is an agent's.

    `seen_by`: how the nodes that send to it see it, by the node's name. `observed`: the same in a word, which is
    available, or as what and by how many of them it is passed over (`ejected 1/3`). Both only while a client of the
    admin API watches.
    """

    address: Address
    state: State
    pid: int | None = None
    name: str = ""
    seen_by: dict[str, HostLoad] = attrs.field(factory=dict)
    observed: str = ""


@attrs.frozen
class PoolStatus:
    """A pool and its endpoints; those that joined by themselves are among both."""

    endpoints: tuple[EndpointStatus, ...]
    agents: tuple[NodeStatus, ...] = ()


@attrs.frozen
class CertificateStatus:
    """A certificate as `CertificateExpiry`, with the days that are left and the processes that show it."""

    file: str
    names: tuple[str, ...]
    expires: float
    use: str
    days_left: float
    nodes: tuple[str, ...]


@attrs.frozen
class ClusterStatus:
    """The whole tree, at the `revision` of the history that is active. `serving`: each tier and pool has one that
    serves. Pools that fill themselves, by agents or by a name in DNS, may still be empty. `missing`: what is not up,
    `waiting`: the same by tier and pool. `down`: pools of which the nodes observe no endpoint to be available; the
    cluster is not `serving` then. `starting`: a cluster that was not whole since its start; it is not `serving` yet.
    `internal_errors`: of the controller's process, since its start. `certificates`: those of the controller,
    and while a client watches those of nodes."""

    cluster: str
    revision: int
    serving: bool
    missing: tuple[str, ...]
    tiers: dict[str, TierStatus]
    pools: dict[str, PoolStatus]
    starting: bool = False
    waiting: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    internal_errors: int = 0
    certificates: tuple[CertificateStatus, ...] = ()


def certificates_of(
    each_shows: Iterable[tuple[str, Iterable[CertificateExpiry]]], epoch: float
) -> tuple[CertificateStatus, ...]:
    """What the processes show, by name, the first to expire first. Those that have read other files are told apart by
    the time of expiry. `epoch`: seconds since 1970."""
    shown: dict[CertificateExpiry, list[str]] = {}
    for name, certificates in each_shows:
        for certificate in certificates:
            shown.setdefault(certificate, []).append(name)
    return tuple(
        CertificateStatus(
            each.file, each.names, each.expires, each.use, round((each.expires - epoch) / DAY_S, 1), tuple(names)
        )
        for each, names in sorted(shown.items(), key=lambda item: (item[0].expires, item[0].file, item[0].use))
    )


def observed(seen_by: Mapping[str, HostLoad]) -> str:
    """What the nodes that send to an endpoint observe of it, in a word; "" where none has reported anything."""
    words = Counter(host.availability for host in seen_by.values())
    if not words:
        return ""
    worse = Counter({word: count for word, count in words.items() if word != Availability.AVAILABLE.value})
    if not worse:
        return Availability.AVAILABLE.value
    word, count = worse.most_common(1)[0]
    return word if count == len(seen_by) else f"{word} {count}/{len(seen_by)}"


def as_json(status: ClusterStatus) -> dict[str, Any]:
    """The status as a mapping that `json.dumps` takes; addresses and states as text, of a latency its quantiles."""
    found: dict[str, Any] = plain(status, _quantiles)
    return found


def _quantiles(latency: bytes) -> dict[str, Any] | None:
    try:
        sketch = decode_sketch(latency)
    except ValueError:
        return None
    figures = {f"p{percent}_s": sketch.quantile_s(percent / 100) for percent in (50, 90, 99)}
    return {"count": sketch.count, **figures, "sketch": b64encode(latency).decode()}
