"""What the form of each key alone does not rule out: values that exclude each other, dead routes, l7 keys at l4
and the reverse.

Each rule yields the faults it finds. A mapping that lost a part to a fault is not reported for what the part may have
held.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from tierlb.model.address import Transport
from tierlb.model.topology import AUTO, Forwarding, Kind, Match, OutlierDetection, Paths, Policy
from tierlb.topology.build import build_health, build_match
from tierlb.topology.connection_rules import connection_faults
from tierlb.topology.http_forms import DOT_SEGMENT_IN_PATH
from tierlb.topology.problems import Fault, Path, path_text
from tierlb.topology.reading import TypedReading
from tierlb.topology.route_shapes import RespondShape, RouteShape, To
from tierlb.topology.shapes import (
    TLS_ONLY,
    AcceptProxyShape,
    FileShape,
    HealthShape,
    ListenerShape,
    OutlierShape,
    PoolShape,
    StoreShape,
    TierShape,
    listed_listeners,
    listener_address,
    places_of_tls,
)

WRONG_LAYER = {
    Kind.L4: ("l7_only", "is for l7 tiers; an l4 tier sees connections only"),
    Kind.L7: ("l4_only", "is for l4 tiers; an l7 tier ends connections and sends requests on"),
}
"""The mark of keys that a tier of this kind cannot have, and why."""
BODILESS_STATUSES = (204, 205, 304)
"""RFC 9110 §15.3.5, §15.3.6, §15.4.5: these answers have no content."""


NOT_IN_NORMAL_FORM: dict[str, Callable[[str], object]] = {
    "duplicate slashes": re.compile(r"//").search,
    "segments . and ..": DOT_SEGMENT_IN_PATH.search,
    "parameters (;a=b)": re.compile(r";").search,
    "% that begins no escape": re.compile(r"%(?![0-9A-Fa-f]{2})").search,
    "backslashes and escapes of / \\ % ; ? # and control characters": re.compile(
        r"\\|%(?:[01][0-9a-f]|2[35f]|3[bf]|5c|7f)", re.IGNORECASE
    ).search,
}
"""What a path cannot hold when it is compared with a route's, unless the tier takes paths as sent."""


def local_faults(file: FileShape, reading: TypedReading) -> Iterator[Fault]:
    """Faults that one mapping shows without a look at the others."""
    for path, shape in shapes_in(file, ()):
        match shape:
            case TierShape():
                yield from _layer_faults(path, shape)
                yield from _protocol_faults(path, shape, reading)
                yield from _listener_faults(path, shape)
                yield from _hash_faults(path, shape, reading)
                yield from _tls_faults(path, shape)
                yield from _agent_check_faults(path, shape)
                yield from connection_faults(path, shape, reading)
                if shape.kind is Kind.L7:
                    yield from _dead_route_faults(path, shape.routes or (), reading)
                yield from _path_faults(path, shape)
                yield from _to_faults((*path, "to"), shape.to)
            case RouteShape():
                yield from _to_faults((*path, "to"), shape.to)
            case RespondShape(status=status, body=body) if body and status in BODILESS_STATUSES:
                yield Fault((*path, "body"), f"an answer with status {status} has no body")
            case StoreShape(etcd=url) if url.startswith("etcd://"):
                yield from _plain_store_faults(path, shape)
            case HealthShape():
                yield from _health_faults(path, shape, reading)
            case OutlierShape():
                yield from _outlier_faults(path, shape)
            case PoolShape(endpoints=dict() as weights) if not any(weights.values()) and reading.intact(path):
                yield Fault((*path, "endpoints"), "every weight is 0: nothing could be sent anywhere")
            case PoolShape(endpoints=tuple() as endpoints):
                yield from _repeated((*path, "endpoints"), endpoints)
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


def _layer_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    mark, message = WRONG_LAYER[tier.kind]
    for place, shape in shapes_in(tier, path):
        for field in attrs.fields(type(shape)):
            if field.metadata.get(mark) and getattr(shape, field.name) is not None:
                yield Fault((*place, field.name), message, at_key=True)


def _protocol_faults(path: Path, tier: TierShape, reading: TypedReading) -> Iterator[Fault]:
    """`protocol` at l7, and keys that have no effect with the protocol of the tier."""
    if tier.kind is Kind.L7 and tier.protocol is not None:
        yield Fault((*path, "protocol"), "is for l4 tiers; an l7 tier takes HTTP over TCP", at_key=True)
    if tier.protocol is Transport.UDP:
        if tier.timeouts is not None and tier.timeouts.connect is not None:
            message = "has no effect with protocol: udp, which makes no connections; it acts with protocol: tcp"
            yield Fault((*path, "timeouts", "connect"), message, at_key=True)
    elif tier.responses is not None and reading.intact((*path, "protocol")):
        message = "only sessions of an l4 tier with protocol: udp end by it: write protocol: udp, or leave this out"
        yield Fault((*path, "responses"), message, at_key=True)


def _listener_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    """Settings of a listener that have no effect at its address, and addresses that the tier cannot have."""
    for place, given in shapes_in(tier.listen, (*path, "listen")):
        if isinstance(given, ListenerShape) and given.mode is not None and not given.address.is_unix:
            yield Fault((*place, "mode"), "only unix sockets have permissions: leave this out", at_key=True)
    yield from _accept_proxy_faults(path, tier)
    for given in listed_listeners(tier):
        if listener_address(given).is_unix and tier.protocol is Transport.UDP:
            yield Fault((*path, "listen"), "datagrams come to HOST:PORT only, not to a unix socket: leave that out")
        if listener_address(given).is_unix and tier.forward is Forwarding.NFTABLES:
            message = "the kernel forwards what comes to HOST:PORT, not to a unix socket: write forward: auto"
            yield Fault((*path, "forward"), message)


def _tls_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    """TLS where no bytes are seen, or no connections are made."""
    for place, _ in places_of_tls(tier, path) if tier.kind is Kind.L4 else ():
        if tier.protocol is Transport.UDP:
            yield Fault(place, "is for connections: an l4 tier with protocol: udp has none", at_key=True)
        if tier.forward in (Forwarding.HANDOFF, Forwarding.NFTABLES):
            message = (
                f"ends the TLS of clients here, and forward: {tier.forward.value} passes connections on unread: write "
                "forward: relay or auto, or write tls for the l7 tier below instead"
            )
            yield Fault(place, message, at_key=True)


def _accept_proxy_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    """PROXY headers where there are no listeners, or none that is read."""
    places = [(place, each) for place, each in shapes_in(tier, path) if isinstance(each, AcceptProxyShape)]
    for place, _ in places:
        if tier.listen is None:
            message = "has no effect: this tier has no 'listen', and its parents announce clients by themselves"
            yield Fault(place, message, at_key=True)
        elif tier.protocol is Transport.UDP:
            yield Fault(place, "is for connections, and this tier takes datagrams: leave it out", at_key=True)
        elif tier.forward is Forwarding.NFTABLES:
            message = "the kernel does not read PROXY headers: write forward: auto, or leave this out"
            yield Fault(place, message, at_key=True)


def _hash_faults(path: Path, tier: TierShape, reading: TypedReading) -> Iterator[Fault]:
    if tier.hash_on is None or tier.balance is Policy.MAGLEV or not reading.intact((*path, "balance")):
        return
    is_now = (tier.balance or Policy.LOAD_AWARE).value
    message = f"only balance: maglev hashes, and the balance here is {is_now}: write balance: maglev, or leave this out"
    yield Fault((*path, "hash_on"), message, at_key=True)


def _agent_check_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    if tier.agent_check is not None and tier.replicas not in (None, 1):
        number = "one per core" if tier.replicas == AUTO else tier.replicas
        message = (
            f"any of the {number} replicas would answer here for another one: "
            "write tiers of one replica, each with an agent_check of its own"
        )
        yield Fault((*path, "agent_check"), message, at_key=True)


def _health_faults(path: Path, shape: HealthShape, reading: TypedReading) -> Iterator[Fault]:
    check = build_health(shape)
    if check is not None and check.timeout_s > check.interval_s and reading.intact((*path, "interval")):
        message = f"is longer than the interval, {check.interval_s:g}s: write at most that, or a longer interval"
        yield Fault((*path, "timeout"), message)


def _outlier_faults(path: Path, shape: OutlierShape) -> Iterator[Fault]:
    errors, gateway = (
        shape.consecutive_errors or OutlierDetection().consecutive_errors,
        shape.consecutive_gateway_errors,
    )
    if gateway is not None and gateway >= errors:
        message = f"has no effect: consecutive_errors ({errors}) counts these too: write fewer, or leave it out"
        yield Fault((*path, "consecutive_gateway_errors"), message)


def _plain_store_faults(path: Path, store: StoreShape) -> Iterator[Fault]:
    for key in TLS_ONLY:
        if getattr(store, key) is not None:
            yield Fault((*path, key), "is for TLS: write etcds:// instead of etcd://, or leave this out", at_key=True)


def _dead_route_faults(path: Path, routes: tuple[RouteShape, ...], reading: TypedReading) -> Iterator[Fault]:
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


def _path_faults(path: Path, tier: TierShape) -> Iterator[Fault]:
    """Paths that no request has once it is in normal form (wire/http_path.py)."""
    if tier.paths is Paths.AS_SENT:
        return
    for index, route in enumerate(tier.routes or ()):
        for key in ("path", "path_prefix"):
            text = getattr(route.match, key, None)
            what = text and next((what for what, found in NOT_IN_NORMAL_FORM.items() if found(text)), None)
            if what:
                message = (
                    f"can never match, because paths are matched without {what}: "
                    "leave that out, or write paths: as-sent for the tier"
                )
                yield Fault((*path, "routes", index, "match", key), message)


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
