"""ORCA: the load of an endpoint in a response field, in its three formats.

`endpoint-load-metrics` holds `TEXT cpu_utilization=0.3, eps=1`, `JSON {...}` or `BIN <base64 of the protobuf message
xds.data.orca.v3.OrcaLoadReport>`; gRPC's `endpoint-load-metrics-bin` holds the base64 alone. Sources: Envoy's
source/common/orca/orca_parser.cc, cncf/xds's orca_load_report.proto, gRPC proposals A51, A58 and A64.

Unknown names are errors in TEXT and JSON (as in Envoy) and skipped in BIN (as protobuf requires). The same report comes
with many responses, so repeated values are read once (`OrcaBook`).

Left out: which figures are accepted (`orca_report.py`), the message behind BIN (`orca_protobuf.py`), out-of-band
reports, and the use of the figures.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import attrs

from tierlb.model.topology import Orca
from tierlb.wire.memo import Memo
from tierlb.wire.orca_protobuf import read_message, write_message
from tierlb.wire.orca_report import (
    MAX_METRICS,
    BadOrca,
    OrcaReport,
    checked_entry,
    checked_load,
    finished_report,
    metric_name,
)

ORCA_RESPONSE_FIELD = b"endpoint-load-metrics"
BIN_FIELD = b"endpoint-load-metrics-bin"
MAX_VALUE_BYTES = 4096

_TEXT, _JSON, _BIN = b"TEXT ", b"JSON ", b"BIN "
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_LOADS = {
    "cpu_utilization": "cpu",
    "mem_utilization": "memory",
    "application_utilization": "application",
    "rps_fractional": "rps",
    "eps": "eps",
}
_MAPS = {"named_metrics": "named", "request_cost": "request_cost", "utilization": "utilization"}
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
            return _BIN + base64.b64encode(write_message(report))


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


def _parse_base64(text: bytes) -> OrcaReport:
    padding = b"=" * (-len(text) % 4)  # gRPC's writers leave it out
    try:
        message = binascii.a2b_base64(text + padding, strict_mode=True)
    except binascii.Error:
        raise BadOrca("not base64") from None
    return read_message(message)


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
            fields[attribute] = checked_load(_text_number(number), name)
    return _with_rest(fields, rest) if rest else OrcaReport(**fields)


def _with_rest(fields: dict[str, Any], parts: list[bytes]) -> OrcaReport:
    """Add the parts that are slower to read: names with blanks or a colon, named metrics, and errors."""
    if len(parts) > MAX_METRICS:
        raise BadOrca(f"more than {MAX_METRICS} metrics")
    for part in parts:
        name, number = _split(part)
        if name in _ATTRIBUTES:
            _note(fields, _ATTRIBUTES[name], checked_load(_text_number(number), name), name)
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
    text = metric_name(key)
    _note(fields.setdefault(attribute, {}), text, checked_entry(attribute, value, text), name)


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
    return finished_report(fields)


def _note_json(fields: dict[str, Any], name: str, value: Any) -> None:
    attribute = _LOADS.get(name, _MAPS.get(name))
    if attribute is None and name != "rps":
        raise BadOrca(f"no metric is called {name[:40]!r}")
    key = attribute or "rps_whole"
    if key in fields:
        raise BadOrca(f"{name} twice")
    if name not in _MAPS:
        fields[key] = checked_load(_json_number(value), name)
    elif isinstance(value, dict) and len(value) <= MAX_METRICS:
        named = ((metric_name(each.encode("utf-8", "surrogatepass")), number) for each, number in value.items())
        fields[key] = {each: checked_entry(key, _json_number(number), each) for each, number in named}
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
