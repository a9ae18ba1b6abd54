"""Why was this host chosen? One choice as a line of JSON, with the hosts it was made from.

An operator sends a request that carries a nonce (`FIELD`), which the controller has made known to all nodes for a
while. An l7 node then adds a line for each of its choices to the response, or one for an answer of its own; an l4 node,
which sees no request, writes into the PROXY header of every connection that it makes meanwhile how it chose
(`EXPLAINED`), and the l7 node below passes that on. So the response has all choices, from the first tier down.

A field that an endpoint wrote ends at the node above it: a node accepts them only from nodes, and not from those below
which an endpoint may have written them (`HostSpec.leads_out`).

Figures are those that the choice was made by, before the item was counted.
"""

import json
from collections.abc import Callable, Iterable

import attrs

from tierlb.balance.load_aware import cost_of
from tierlb.balance.peak import expected_s
from tierlb.dataplane.upstream.host import Host, load_of
from tierlb.model.topology import Policy

FIELD = b"x-tierlb-explain"
OLD_S = 2.0
"""The age of what a capacity was learnt from is shown when it is at least this."""
MOST_HOSTS = 8
"""Of a larger host set the best are shown, with how many more there were."""


def _in_flight(host: Host) -> float:
    return host.in_flight


def _weight(host: Host) -> float:
    return -host.weight


SCORES: dict[Policy, Callable[[Host], float]] = {
    Policy.LOAD_AWARE: cost_of,
    Policy.LEAST_REQUESTS: _in_flight,
    Policy.TWO_CHOICES: _in_flight,
    Policy.PEAK_EWMA: expected_s,
    Policy.WEIGHTED: _weight,
    Policy.MAGLEV: _weight,
}
"""The score by which each policy chooses, lower being better; other policies have none."""


@attrs.define
class Explaining:
    """The nonce in force, and until when (by the reactor's clock)."""

    _nonce: bytes = b""
    _until_s: float = 0.0

    def begin(self, nonce: bytes, until_s: float) -> None:
        self._nonce, self._until_s = nonce, until_s

    def active(self, now: float) -> bool:
        return now < self._until_s

    def covers(self, nonce: bytes | None, now: float) -> bool:
        """Whether a request with this nonce is to be explained."""
        return nonce == self._nonce and self.active(now)


def response_fields(lines: Iterable[bytes]) -> bytes:
    """The lines as complete fields of a response."""
    return b"".join(b"%b: %b\r\n" % (FIELD, line) for line in lines)


def answered(node: str, status: int, reason: str = "") -> bytes:
    """The line of a node that answers itself: by its route, as none matches, or as no host was of use (`reason`)."""
    told = {"node": node, "answered": status} | ({"reason": reason} if reason else {})
    return json.dumps(told, separators=(",", ":")).encode()


def explain_choice(
    node: str, policy: Policy, hosts: tuple[Host, ...], chosen: Host | None, way: str = "", route: str = ""
) -> bytes:
    """One line of JSON, in ASCII. `way`: how the connection gets there, `route`: by which of several routes."""
    score = SCORES.get(policy)
    order = sorted(hosts, key=lambda each: (each is not chosen, score(each) if score else 0.0))
    told: dict[str, object] = {
        "node": node,
        "policy": policy.value,
        "chose": chosen.name if chosen is not None else None,
        "members": [_member(each, score) for each in order[:MOST_HOSTS]],
    }
    if way:
        told["way"] = way
    if route:
        told["route"] = route
    if len(order) > MOST_HOSTS:
        told["more"] = len(order) - MOST_HOSTS
    return json.dumps(told, separators=(",", ":")).encode()


def _member(host: Host, score: Callable[[Host], float] | None) -> dict[str, object]:
    load = load_of(host, host.context.reactor.now)
    told: dict[str, object] = {"member": host.name, "in_flight": host.in_flight}
    if host.parked:
        told["parked"] = host.parked
    if score is not None:
        told["score"] = _short(score(host))
    if load.capacity:
        told["capacity"] = _short(load.capacity)
        if load.capacity_age_s is not None and load.capacity_age_s >= OLD_S:
            told["capacity_age_s"] = round(load.capacity_age_s, 1)
    if load.report_age_s is not None:
        told["report_age_s"] = round(load.report_age_s, 3)
    if load.availability != "available":
        told["availability"] = load.availability
    return told


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
