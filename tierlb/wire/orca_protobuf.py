"""The binary form of a load report: the protobuf message xds.data.orca.v3.OrcaLoadReport.

The message is read and written here: it is one message of doubles and maps, and importing the protobuf runtime would
cost every node 50 ms and 7 MiB. Fields may come in any order and again; the last one counts. Unknown fields are
skipped, as protobuf requires. Sources: cncf/xds's orca_load_report.proto, and protobuf's description of its encoding.

Left out: base64 and the prefix of the response field (`orca.py`), groups (deprecated, refused), and every type that the
message does not have.
"""

import struct
from collections.abc import Iterator
from typing import Any

from tierlb.wire.orca_report import (
    MAX_METRICS,
    BadOrca,
    OrcaReport,
    checked_entry,
    checked_load,
    finished_report,
    metric_name,
)

_DOUBLES = {1: "cpu", 2: "memory", 6: "rps", 7: "eps", 9: "application"}
_RPS_WHOLE = 3
_ENTRIES = {4: "request_cost", 5: "utilization", 8: "named"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")


def read_message(message: bytes) -> OrcaReport:
    """The report in a message. Raises BadOrca."""
    fields: dict[str, Any] = {}
    for number, kind, value in _protobuf_fields(message):
        if kind == _FIXED64 and number in _DOUBLES:
            name = _DOUBLES[number]
            fields[name] = checked_load(_DOUBLE.unpack(value)[0], name)
        elif kind == _VARINT and number == _RPS_WHOLE:
            fields["rps_whole"] = checked_load(float(value), "rps")
        elif kind == _BYTES and number in _ENTRIES:
            attribute = _ENTRIES[number]
            key, metric = _read_entry(value)
            fields.setdefault(attribute, {})[key] = checked_entry(attribute, metric, key)
    if sum(len(fields.get(attribute, ())) for attribute in _ENTRIES.values()) > MAX_METRICS:
        raise BadOrca(f"more than {MAX_METRICS} metrics")
    return finished_report(fields)


def write_message(report: OrcaReport) -> bytes:
    """The message for `report`, exactly."""
    parts = []
    for number, attribute in _DOUBLES.items():
        if value := getattr(report, attribute):
            parts.append(_tag(number, _FIXED64) + _DOUBLE.pack(value))
    for number, attribute in _ENTRIES.items():
        for key, value in getattr(report, attribute).items():
            entry = _sized(1, key.encode()) + _tag(2, _FIXED64) + _DOUBLE.pack(value)
            parts.append(_sized(number, entry))
    return b"".join(parts)


def _read_entry(message: bytes) -> tuple[str, float]:
    key, metric = b"", 0.0
    for number, kind, value in _protobuf_fields(message):
        if (number, kind) == (1, _BYTES):
            key = value
        elif (number, kind) == (2, _FIXED64):
            metric = _DOUBLE.unpack(value)[0]
        else:  # protobuf's runtimes disagree on whether the entry then counts
            raise BadOrca("a metric has more than a name and a number")
    return metric_name(key), metric


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
