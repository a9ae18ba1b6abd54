"""The frames of the control channel as values and as bytes.

A frame is one msgpack array: a tag, then its fields in a fixed order. The order is the compatibility rule: fields are
only ever appended, so that a reader takes the ones it knows and ignores the rest. A field that is missing or of the
wrong type is a ProtocolError. Snapshots and loads are mappings by field name, under the same rule (unknown keys are
ignored).

A report is the most frequent frame, sent several times a second by every child to every parent. Its numbers are flat in
the array and are packed and checked by hand: some 135 bytes and 16 for each kind of requests, and 3 µs instead of 30
through cattrs.

Left out: how a single value is read and what limits it (`frame_fields.py`), and which frames are allowed when
(`control.py`).
"""

from typing import Any

import attrs
import cattrs
import msgpack  # type: ignore[import-untyped]

from tierlb.model.address import Address
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.wire.frame_fields import (
    EXPECTED_NUMBER,
    LARGEST_NUMBER,
    MAX_COUNT,
    MAX_NUMBER,
    Reader,
    frame_converter,
    read_addresses,
    read_calling_place,
    read_count,
    read_items,
    read_kinds,
    read_label,
    read_names,
    read_nonce,
    read_number,
    read_place,
    read_positive,
    read_rows,
    read_short_text,
    read_snapshot,
    read_truth,
    read_watch_duration,
    within,
)

PROTOCOL_VERSION = 1
SUBPROTOCOL = "tierlb.v1"
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_CHILD_FRAME_BYTES = 1024 * 1024
"""Five hundred rows with hosts; a plain report has some 140 bytes."""
MAX_PARENTS = 1024
MAX_PARENT_FIELDS = 8
"""Three today; later versions may append some."""


class ProtocolError(Exception):
    """The peer sent something that is no frame; the text is the reason to close with."""


@attrs.frozen
class Hello:
    """Child to parent, the first frame: the identity of the child. `boot_id` differs between two runs of one node.

    `control` is where this node's own children connect, HOST:PORT in which the host may be a name of all nodes of its
    tier. `data` is the address for items: of an agent, whose `tier` is the name of a pool, and of a node that serves
    already; "" where there is none. `build`: pure or compiled (model/build.py).
    """

    version: int
    node: str
    tier: str
    boot_id: str
    pid: int
    control: str = ""
    data: str = ""
    build: str = ""


@attrs.frozen
class Welcome:
    """Parent to child: the hello was accepted; report at this interval. `parent` is the name of the parent ("": the
    controller), which a child that found it by a name of several does not know."""

    report_interval_s: float
    parent: str = ""


@attrs.frozen
class Configure:
    """Parent to child: serve this snapshot. The answer is Ack or Refuse, in order."""

    snapshot: Snapshot


@attrs.frozen
class Ack:
    """Child to parent: the snapshot with this `revision` is served, at these addresses, parallel to its listeners."""

    revision: int
    addresses: tuple[Address, ...]


@attrs.frozen
class Refuse:
    """Child to parent: the snapshot with this `revision` cannot be served; the one before stays in use."""

    revision: int
    reason: str


@attrs.frozen
class Report:
    """Child to parent, at each interval: the same `subtree` to all parents, and the part that came from this one as
    `echo`.

    `rows` (of the child and of nodes below it) are attached only while a client watches. `next_s`: when the next report
    is due at the latest; it comes sooner if anything changes.
    """

    subtree: SubtreeLoad
    echo: Echo = Echo()
    rows: tuple[NodeRow, ...] = ()
    next_s: float = REPORT_INTERVAL_S


@attrs.frozen
class Watch:
    """Parent to child: attach rows to reports for so long, and pass this on. With a nonce in `explain`, requests that
    carry it are explained meanwhile."""

    ttl_s: float
    explain: str = ""


@attrs.frozen
class ParentAddress:
    """A parent to report to: its name and the URL of its control socket. If the URL's host is a name, it stands for all
    nodes that it resolves to. `ticket`: the credential to present there."""

    name: str
    url: str
    ticket: str = attrs.field(default="", repr=False)


@attrs.frozen
class ReportTo:
    """Controller to child: its parents from now on, instead of those named before. Without any it reports to the
    controller."""

    parents: tuple[ParentAddress, ...]


@attrs.frozen
class Leaving:
    """Child to parent: it is about to leave and accepts nothing new."""


Frame = Hello | Welcome | Configure | Ack | Refuse | Report | Leaving | Guidance | Watch | ReportTo


def encode_frame(frame: Frame) -> bytes:
    """One frame as bytes."""
    if type(frame) is Report:
        return _encode_report(frame)
    tag, _ = _SHAPES[type(frame)]
    values = [getattr(frame, field.name) for field in attrs.fields(type(frame))]
    packed: bytes = _pack([tag, *(frame_converter.unstructure(value) for value in values)])
    return packed


def decode_frame(data: bytes, limit_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """The frame in `data`; raises ProtocolError with a sentence that names the tag and the field."""
    tag, *fields = _unpacked(data, limit_bytes)
    if tag == "report":
        return _read_report(fields)
    kind = _KINDS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise ProtocolError(f"unknown frame {str(tag)[:40]!r}")
    known = attrs.fields(kind)
    if len(fields) < len(known) and known[len(fields)].default is attrs.NOTHING:
        raise ProtocolError(f"{tag}: field '{known[len(fields)].name}' is missing")
    values = (
        _read_field(tag, field.name, read, value)
        for field, read, value in zip(known, _SHAPES[kind][1], fields, strict=False)
    )
    return kind(*values)


def _read_field(tag: str, name: str, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except (ValueError, TypeError, cattrs.BaseValidationError) as error:
        raise ProtocolError(f"{tag}: field '{name}' {_frame_fault(error)}") from error


def _encode_report(report: Report) -> bytes:
    """Numbers are limited to their bounds: a parent would otherwise close this connection because of what nodes below
    reported."""
    s, e = report.subtree, report.echo
    numbers: list[Any] = [
        s.capacity,
        s.own_capacity,
        s.utilisation,
        s.hottest,
        s.in_flight,
        s.arrivals,
        s.done,
        s.errors,
        s.rejected,
        s.connections,
        s.response_s,
        s.connection_s,
        s.age_s,
        s.ready_leaves,
        s.leaves,
        s.draining,
        e.in_flight,
        e.arrivals,
        e.connections,
    ]
    if not _is_ordinary(numbers):
        numbers = [within(value, most) for value, (_, _, most) in zip(numbers, _REPORT, strict=True)]
    rows = [frame_converter.unstructure(row) for row in report.rows] if report.rows else ()
    parked = within(s.parked, MAX_COUNT), within(e.parked, MAX_COUNT)
    later = (within(value, MAX_NUMBER) for value in (s.capacity_age_s, s.slots, s.overdue))
    packed: bytes = _pack(("report", *numbers, rows, s.down, *parked, *later, s.kinds, report.next_s))
    return packed


def _read_report(fields: list[Any]) -> Report:
    if len(fields) <= len(_REPORT):
        missing = _REPORT[len(fields)][0] if len(fields) < len(_REPORT) else "rows"
        raise ProtocolError(f"report: field '{missing}' is missing")
    if not _is_ordinary(fields[:_ROWS_AT]):
        for (name, kind, most), value in zip(_REPORT, fields, strict=False):
            given = type(value)
            if (given is not kind and (given is not int or kind is not float)) or not 0 <= value <= most:  # so is NaN
                raise ProtocolError(f"report: field '{name}' is not {EXPECTED_NUMBER[kind]}")
    rows = _read_field("report", "rows", read_rows, fields[_ROWS_AT])
    later = _read_later(fields[_ROWS_AT + 1 :])
    down, parked, own_parked, *subtree_later, next_s = later
    subtree = SubtreeLoad(*[*fields[:_ECHO_AT], down, parked, *subtree_later])
    return Report(subtree, Echo(*[*fields[_ECHO_AT:_ROWS_AT], own_parked]), rows, next_s)


def _read_later(fields: list[Any]) -> list[Any]:
    """The fields behind the rows. A report of an earlier version ends before some of them. Ordinary numbers are read as
    fast as those before the rows; a NaN makes their sum one."""
    if len(fields) >= len(_LATER):
        down, *numbers, kinds, next_s = fields[: len(_LATER)]
        checked = [*numbers, next_s]
        is_ordinary = tuple(map(type, checked)) == _LATER_TYPES and min(checked) >= 0 and sum(checked) <= MAX_NUMBER
        if not down and is_ordinary:
            return [(), *numbers, _read_field("report", *_KINDS_LATER, kinds), next_s]
    values = [_read_field("report", name, read, value) for (name, read, _), value in zip(_LATER, fields, strict=False)]
    return [*values, *(default for _, _, default in _LATER[len(values) :])]


def _is_ordinary(numbers: list[Any]) -> bool:
    """Whether all numbers of a report have the exact types and are well within bounds; otherwise they are checked one
    by one. A NaN makes the sum one, which is in no range."""
    return tuple(map(type, numbers)) == _TYPES and min(numbers) >= 0 and 0 <= sum(numbers) <= MAX_NUMBER


def _unpacked(data: bytes, limit_bytes: int) -> list[Any]:
    if len(data) > limit_bytes:
        raise ProtocolError(f"a frame of {len(data)} bytes, more than {limit_bytes}")
    try:
        frame = msgpack.unpackb(data, strict_map_key=True, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"not msgpack: {error}") from error
    if not isinstance(frame, list) or not frame:
        raise ProtocolError("a frame is an array that begins with its tag")
    return frame


def _frame_fault(error: Exception) -> str:
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error))[:200]
    return str(error)


def _parents(value: object) -> tuple[ParentAddress, ...]:
    return tuple(_parent(item) for item in read_items(value, MAX_PARENTS))


def _parent(value: object) -> ParentAddress:
    fields = read_items(value, MAX_PARENT_FIELDS)
    (name, url), ticket = map(read_label, fields[:2]), read_short_text(fields[2]) if len(fields) > 2 else ""
    if not url.startswith(("ws://", "wss://")):
        raise ValueError("has a URL that begins with neither ws:// nor wss://")
    return ParentAddress(name, url, ticket)


_pack = msgpack.Packer().pack
frame_converter.register_unstructure_hook(ParentAddress, attrs.astuple)  # the only value that is a frame's own

_LATER: tuple[tuple[str, Reader, Any], ...] = (
    ("down", read_names, ()),
    ("subtree.parked", read_count, 0),
    ("echo.parked", read_count, 0),
    ("subtree.capacity_age_s", read_number, 0.0),
    ("subtree.slots", read_number, 0.0),
    ("subtree.overdue", read_number, 0.0),
    ("subtree.kinds", read_kinds, ()),
    ("next_s", read_number, REPORT_INTERVAL_S),
)
"""Fields that later versions added to reports, behind the rows, in this order: name, reader, and the value where it is
missing. New ones are appended, as SubtreeLoad and Echo grow."""
_KINDS_LATER = _LATER[-2][:2]
_LATER_TYPES = (*(type(default) for _, _, default in _LATER[1:-2]), float)
_APPENDED = {"down", "parked", "capacity_age_s", "slots", "overdue", "kinds"}
_NUMBERS = [field for field in attrs.fields(SubtreeLoad) if field.name not in _APPENDED]
_OWN_NUMBERS = [field for field in attrs.fields(Echo) if field.name not in _APPENDED]
_ECHO_AT = len(_NUMBERS)
_ROWS_AT = _ECHO_AT + len(_OWN_NUMBERS)
_REPORT: tuple[tuple[str, type, float], ...] = tuple(
    (f"{part}.{field.name}", field.type, LARGEST_NUMBER[field.type])  # type: ignore[index, misc]
    for part, fields in (("subtree", _NUMBERS), ("echo", _OWN_NUMBERS))
    for field in fields
)
"""The first numbers of a report in their order: name, type, largest."""

_TYPES = tuple(kind for _, kind, _ in _REPORT)

_SHAPES: dict[type[Frame], tuple[str, tuple[Reader, ...]]] = {
    Hello: (
        "hello",
        (read_count, read_label, read_label, read_label, read_count, read_calling_place, read_place, read_short_text),
    ),
    Welcome: ("welcome", (read_positive, read_short_text)),
    Configure: ("snapshot", (read_snapshot,)),
    Ack: ("ack", (read_count, read_addresses)),
    Refuse: ("refuse", (read_count, read_label)),
    Leaving: ("drain", ()),
    Guidance: ("guidance", (read_number, read_truth, read_number, read_number, read_number, read_truth)),
    Watch: ("watch", (read_watch_duration, read_nonce)),
    ReportTo: ("report-to", (_parents,)),
}
_KINDS: dict[str, type[Frame]] = {tag: kind for kind, (tag, _) in _SHAPES.items()}
