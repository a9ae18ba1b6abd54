"""ORCA: the load of an endpoint in a response field, in its three formats.

`endpoint-load-metrics` holds `TEXT cpu_utilization=0.3, eps=1`, `JSON {...}` or `BIN <base64 of the protobuf message
xds.data.orca.v3.OrcaLoadReport>`; gRPC's `endpoint-load-metrics-bin` holds the base64 alone. Sources: Envoy's
source/common/orca/orca_parser.cc, cncf/xds's orca_load_report.proto, gRPC proposals A51, A58 and A64.

A value of zero counts as missing: protobuf cannot distinguish the two, and an endpoint that serves this very response
is not idle. One wrong number makes the whole report wrong, as in Envoy; unknown names are errors in TEXT and JSON (as
in Envoy) and skipped in BIN (as protobuf requires). Named metrics and request costs belong to the application: they
need only be finite.

The message is read and written here: it is one message of doubles and maps, and importing the protobuf runtime would
cost every node 50 ms and 7 MiB. Left out: groups (deprecated, refused), out-of-band reports, and the use of the
figures.
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import attrs

from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Orca
from tierlb.wire.memo import Memo

ORCA_RESPONSE_FIELD = b"endpoint-load-metrics"
BIN_FIELD = b"endpoint-load-metrics-bin"
MAX_VALUE_BYTES = 4096
MAX_METRICS = 64
MAX_METRIC_CHARACTERS = 128
HUGE = 1e12
"""No utilisation or request rate is that high: such a number is a mistake or malicious."""
SLOTS_METRIC = "slots"
"""The named metric with the number of requests that an endpoint works on at the same time."""

_TEXT, _JSON, _BIN = b"TEXT ", b"JSON ", b"BIN "
_NOTHING: Mapping[str, float] = MappingProxyType({})
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./-]+")


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


_LOADS = {
    "cpu_utilization": "cpu",
    "mem_utilization": "memory",
    "application_utilization": "application",
    "rps_fractional": "rps",
    "eps": "eps",
}
_MAPS = {"named_metrics": "named", "request_cost": "request_cost", "utilization": "utilization"}
_OPAQUE = ("named", "request_cost")
_ATTRIBUTES = {name.encode(): attribute for name, attribute in _LOADS.items()}
_PREFIXES = {b"named_metrics": "named", b"utilization": "utilization"}  # the maps that TEXT has a form for


def parse_orca(value: bytes) -> OrcaReport:
    """The report in a value of `endpoint-load-metrics`. Raises BadOrca."""
    if len(value) > MAX_VALUE_BYTES:
        raise BadOrca(f"longer than {MAX_VALUE_BYTES} bytes")
    if value.startswith(_TEXT):
        return _parse_text(value[5:])
    if value.startswith(_BIN):
        return _parse_base64(value[4:])
    if value.startswith(_JSON):
        return parse_json(value[5:])
    raise BadOrca(f"begins with {value[:5].decode('latin-1')!r} instead of TEXT, JSON or BIN")


def parse_bin(value: bytes) -> OrcaReport:
    """The report in a value of `endpoint-load-metrics-bin`. Raises BadOrca."""
    return parse_orca(_BIN + value)


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


def encode_orca(report: OrcaReport, form: Orca) -> bytes:
    """The value of `endpoint-load-metrics` for `report`, exactly.

    Raises ValueError in TEXT for what that format cannot hold: request costs, and names that are more than letters,
    digits and `_ . / -`.
    """
    match form:
        case Orca.TEXT:
            return _TEXT + ",".join(_text_parts(report)).encode()
        case Orca.JSON:
            return _JSON + json.dumps(_as_json(report), separators=(",", ":")).encode()
        case Orca.BIN:
            return _BIN + base64.b64encode(_write_message(report))


ORCA_BUDGET_BYTES = 512 * 1024
REPORT_BYTES = 1000
"""The memory of a report besides its named figures, which take more than their characters."""


@attrs.define
class OrcaBook:
    """Reads reports from responses; repeated values are read once. `bad` counts those that could not be read."""

    bad: int = 0
    _memo: Memo[OrcaReport | None] = attrs.field(factory=lambda: Memo(ORCA_BUDGET_BYTES))

    def read(self, value: bytes) -> OrcaReport | None:
        """The report in a value of `endpoint-load-metrics`, None for one that is wrong."""
        if value in self._memo.kept:
            report = self._memo.kept[value]
        else:
            report = _try_parse(value)
            self._memo.offer(value, report, REPORT_BYTES + 25 * len(value))
        if report is None:
            self.bad += 1
        return report

    def read_bin(self, value: bytes) -> OrcaReport | None:
        """The same for a value of `endpoint-load-metrics-bin`."""
        return self.read(_BIN + value)


def _try_parse(value: bytes) -> OrcaReport | None:
    try:
        return parse_orca(value)
    except BadOrca:
        return None


# TEXT: comma-separated NAME=NUMBER (Envoy used to write NAME:NUMBER, and reads both)


def _parse_text(body: bytes) -> OrcaReport:
    fields: dict[str, Any] = {}
    rest = []
    for part in body.split(b","):
        name, _, number = part.lstrip().partition(b"=")
        attribute = _ATTRIBUTES.get(name)
        if attribute is None or attribute in fields:
            rest.append(part)
        else:
            fields[attribute] = _checked_load(_text_number(number), name)
    return _with_rest(fields, rest) if rest else OrcaReport(**fields)


def _with_rest(fields: dict[str, Any], parts: list[bytes]) -> OrcaReport:
    """Add the parts that are slower to read: names with blanks or a colon, named metrics, and errors."""
    if len(parts) > MAX_METRICS:
        raise BadOrca(f"more than {MAX_METRICS} metrics")
    for part in parts:
        name, number = _split(part)
        if name in _ATTRIBUTES:
            _note(fields, _ATTRIBUTES[name], _checked_load(_text_number(number), name), name)
        elif name or number:
            _note_in_map(fields, name, _text_number(number))
    return OrcaReport(**fields)


def _split(part: bytes) -> tuple[bytes, bytes]:
    name, separator, number = part.partition(b"=")
    if not separator or b":" in name:
        name, _, number = part.partition(b":")
    return name.strip(), number


def _note_in_map(fields: dict[str, Any], name: bytes, value: float) -> None:
    prefix, _, key = name.partition(b".")
    attribute = _PREFIXES.get(prefix)
    if attribute is None:
        raise BadOrca(f"no metric is called {_shown(name)}")
    text = _name(key)
    _note(fields.setdefault(attribute, {}), text, _entry(attribute, value, text), name)


def _note(fields: dict[str, float], key: str, value: float, name: bytes) -> None:
    if key in fields:
        raise BadOrca(f"{_shown(name)} twice")
    fields[key] = value


def _text_number(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadOrca(f"{_shown(text)} is not a number") from None
    if b"_" in text:  # which Python would accept
        raise BadOrca(f"{_shown(text)} is not a number")
    return value


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("latin-1"))


def _text_parts(report: OrcaReport) -> Iterator[str]:
    if report.request_cost:
        raise ValueError("TEXT has no form for request costs: use JSON or BIN")
    for name, attribute in _LOADS.items():
        if value := getattr(report, attribute):
            yield f"{name}={value!r}"
    for prefix in ("named_metrics", "utilization"):
        for key, value in getattr(report, _MAPS[prefix]).items():
            if not _SAFE_NAME.fullmatch(key):
                raise ValueError(f"TEXT has no form for the name {key!r}: use JSON or BIN")
            yield f"{prefix}.{key}={value!r}"


# JSON: the protobuf mapping, by which names may be in either case and numbers in quotes

_CAMEL: dict[str, str] = {re.sub("_(.)", lambda match: match[1].upper(), name): name for name in (*_LOADS, *_MAPS)}


def parse_json(body: bytes) -> OrcaReport:
    """The report in a JSON document, without the field's prefix. Raises BadOrca."""
    try:
        document = json.loads(body, object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, BadOrca) else BadOrca("not JSON") from None
    if not isinstance(document, dict):
        raise BadOrca("the JSON is not an object")
    fields: dict[str, Any] = {}
    for key, value in document.items():
        if value is not None:  # which stands for the default
            _note_json(fields, str(_CAMEL.get(key, key)), value)
    return _with_old_rate(fields)


def _note_json(fields: dict[str, Any], name: str, value: Any) -> None:
    attribute = _LOADS.get(name, _MAPS.get(name))
    if attribute is None and name != "rps":
        raise BadOrca(f"no metric is called {name[:40]!r}")
    key = attribute or "rps_whole"
    if key in fields:
        raise BadOrca(f"{name} twice")
    if name not in _MAPS:
        fields[key] = _checked_load(_json_number(value), name)
    elif isinstance(value, dict) and len(value) <= MAX_METRICS:
        named = ((_name(each.encode("utf-8", "surrogatepass")), number) for each, number in value.items())
        fields[key] = {each: _entry(key, _json_number(number), each) for each, number in named}
    else:
        raise BadOrca(f"{name} is not a map of at most {MAX_METRICS} numbers")


def _json_number(value: Any) -> float:
    if isinstance(value, str):
        return _text_number(value.encode("utf-8", "replace"))
    if isinstance(value, float):
        return value
    raise BadOrca(f"{str(value)[:40]!r} is not a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise BadOrca("a name twice in one object")
    return document


def _no_constant(text: str) -> NoReturn:
    raise BadOrca(f"{text} is not a number")


def _as_json(report: OrcaReport) -> dict[str, Any]:
    loads = {name: getattr(report, attribute) for name, attribute in _LOADS.items()}
    maps = {name: dict(getattr(report, attribute)) for name, attribute in _MAPS.items()}
    return {name: value for name, value in (loads | maps).items() if value}


# BIN: the protobuf message. Fields may come in any order and again; the last one counts.

_DOUBLES = {1: "cpu", 2: "memory", 6: "rps", 7: "eps", 9: "application"}
_RPS_WHOLE = 3
_ENTRIES = {4: "request_cost", 5: "utilization", 8: "named"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")


def _parse_base64(text: bytes) -> OrcaReport:
    padding = b"=" * (-len(text) % 4)  # gRPC's writers leave it out
    try:
        message = binascii.a2b_base64(text + padding, strict_mode=True)
    except binascii.Error:
        raise BadOrca("not base64") from None
    return _read_message(message)


def _read_message(message: bytes) -> OrcaReport:
    fields: dict[str, Any] = {}
    for number, kind, value in _protobuf_fields(message):
        if kind == _FIXED64 and number in _DOUBLES:
            name = _DOUBLES[number]
            fields[name] = _checked_load(_DOUBLE.unpack(value)[0], name)
        elif kind == _VARINT and number == _RPS_WHOLE:
            fields["rps_whole"] = _checked_load(float(value), "rps")
        elif kind == _BYTES and number in _ENTRIES:
            attribute = _ENTRIES[number]
            key, metric = _read_entry(value)
            fields.setdefault(attribute, {})[key] = _entry(attribute, metric, key)
    if sum(len(fields.get(attribute, ())) for attribute in _ENTRIES.values()) > MAX_METRICS:
        raise BadOrca(f"more than {MAX_METRICS} metrics")
    return _with_old_rate(fields)


def _read_entry(message: bytes) -> tuple[str, float]:
    key, metric = b"", 0.0
    for number, kind, value in _protobuf_fields(message):
        if (number, kind) == (1, _BYTES):
            key = value
        elif (number, kind) == (2, _FIXED64):
            metric = _DOUBLE.unpack(value)[0]
        else:  # protobuf's runtimes disagree on whether the entry then counts
            raise BadOrca("a metric has more than a name and a number")
    return _name(key), metric


def _protobuf_fields(message: bytes) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field: an int for a varint, bytes for the others."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise BadOrca("not a protobuf message")
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise BadOrca("not a protobuf message")
        if size > len(message) - at:
            raise BadOrca("the message is cut short")
        yield number, kind, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise BadOrca("the message is cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise BadOrca("not a protobuf message")


def _write_message(report: OrcaReport) -> bytes:
    parts = []
    for number, attribute in _DOUBLES.items():
        if value := getattr(report, attribute):
            parts.append(_tag(number, _FIXED64) + _DOUBLE.pack(value))
    for number, attribute in _ENTRIES.items():
        for key, value in getattr(report, attribute).items():
            entry = _sized(1, key.encode()) + _tag(2, _FIXED64) + _DOUBLE.pack(value)
            parts.append(_sized(number, entry))
    return b"".join(parts)


def _sized(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + _write_varint(len(content)) + content


def _tag(number: int, kind: int) -> bytes:
    return _write_varint(number << 3 | kind)


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


# Judgement, the same for all forms


def _checked_load(value: float, name: object) -> float:
    if 0.0 <= value <= HUGE:
        return value
    raise BadOrca(f"{_plain(name)} is negative, huge or not a number")


def _entry(attribute: str, value: float, name: str) -> float:
    if attribute not in _OPAQUE:
        return _checked_load(value, name)
    if not math.isfinite(value):
        raise BadOrca(f"{name} is not a number")
    return value


def _name(key: bytes) -> str:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise BadOrca("a metric's name is not UTF-8") from None
    if 0 < len(text) <= MAX_METRIC_CHARACTERS:
        return text
    raise BadOrca("a metric's name is empty or too long")


def _with_old_rate(fields: dict[str, Any]) -> OrcaReport:
    """`rps`, deprecated and whole, counts where there is no `rps_fractional`."""
    whole = fields.pop("rps_whole", 0.0)
    fields["rps"] = fields.get("rps") or whole
    return OrcaReport(**fields)


def _plain(name: object) -> str:
    return name.decode("latin-1")[:40] if isinstance(name, bytes) else str(name)[:40]
