"""A load report of an endpoint (ORCA) as a value, and what is accepted as its figures in every form.

A value of zero counts as missing: protobuf cannot distinguish the two, and an endpoint that serves this very response
is not idle. One wrong number makes the whole report wrong, as in Envoy. Named metrics and request costs belong to the
application: they need only be finite.

Left out: the forms in which a report is sent (`orca.py`, `orca_protobuf.py`), and the use of the figures.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from tierlb.model.load import SubtreeLoad

MAX_METRICS = 64
MAX_METRIC_CHARACTERS = 128
HUGE = 1e12
"""No utilisation or request rate is that high: such a number is a mistake or malicious."""
SLOTS_METRIC = "slots"
"""The named metric with the number of requests that an endpoint works on at the same time."""

_NOTHING: Mapping[str, float] = MappingProxyType({})
_OPAQUE = ("named", "request_cost")


class BadOrca(ValueError):  # noqa: N818 (a verdict on the input, like BadHead)
    """The field's value is no load report, and why."""


@attrs.frozen
class OrcaReport:
    """One report. 0 means missing; utilisations are fractions and may exceed 1."""

    cpu: float = 0.0
    memory: float = 0.0
    application: float = 0.0
    rps: float = 0.0
    eps: float = 0.0
    named: Mapping[str, float] = _NOTHING
    request_cost: Mapping[str, float] = _NOTHING
    utilization: Mapping[str, float] = _NOTHING

    @property
    def busy(self) -> float:
        """The utilisation that counts: the application's own figure where there is one, else the processor's (A58)."""
        return self.application or self.cpu

    @property
    def slots(self) -> int:
        """How many requests it works on at a time, by its named metric (0: missing)."""
        slots = self.named.get(SLOTS_METRIC, 0.0)
        return int(slots) if 1.0 <= slots <= 1e6 else 0


def node_report(load: SubtreeLoad, rps: float, eps: float) -> OrcaReport:
    """The report of a node on its subtree, with its recent rates of items done and of errors.

    Readers weight by the rate over the utilisation (A58, Envoy's client_side_weighted_round_robin), so the utilisation
    is such that this gives the capacity. Parked items are left out everywhere. Four digits: more would only make each
    value a new one.
    """
    busy = rps / load.capacity if load.capacity > 0 else load.utilisation
    application, rate, errors = (float(f"{min(figure, HUGE):.4g}") for figure in (busy, rps, eps))
    named = {"in_flight": float(load.queued)} if load.queued else {}
    return OrcaReport(application=application, rps=rate, eps=errors, named=named)


def checked_load(value: float, name: object) -> float:
    """`value` as a utilisation or a rate. Raises BadOrca."""
    if 0.0 <= value <= HUGE:
        return value
    raise BadOrca(f"{_plain(name)} is negative, huge or not a number")


def checked_entry(attribute: str, value: float, name: str) -> float:
    """`value` as an entry of this map of a report. Raises BadOrca."""
    if attribute not in _OPAQUE:
        return checked_load(value, name)
    if not math.isfinite(value):
        raise BadOrca(f"{name} is not a number")
    return value


def metric_name(key: bytes) -> str:
    """The name of an entry. Raises BadOrca."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise BadOrca("a metric's name is not UTF-8") from None
    if 0 < len(text) <= MAX_METRIC_CHARACTERS:
        return text
    raise BadOrca("a metric's name is empty or too long")


def finished_report(fields: dict[str, Any]) -> OrcaReport:
    """The report with these attributes. `rps_whole`, which is deprecated, counts where there is no `rps`."""
    whole = fields.pop("rps_whole", 0.0)
    fields["rps"] = fields.get("rps") or whole
    return OrcaReport(**fields)


def _plain(name: object) -> str:
    return name.decode("latin-1")[:40] if isinstance(name, bytes) else str(name)[:40]
