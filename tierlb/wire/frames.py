"""The frames of the control channel as values and as bytes.

A frame is one msgpack array: a tag, then its fields in a fixed order. The order is the compatibility rule: fields are
only ever appended, so that a reader takes the ones it knows and ignores the rest. A field that is missing or of the
wrong type is a ProtocolError. Snapshots and loads are mappings by field name, under the same rule (unknown keys are
ignored). Nothing is coerced: "5" is not a number, and no number is negative, infinite or absurdly large, because each
is a count, a duration, a rate or a share.

A report is the most frequent frame, sent several times a second by every child to every parent. Its numbers are flat in
the array and are packed and checked by hand: some 135 bytes and 16 for each kind of requests, and 3 µs instead of 30
through cattrs.

Left out: which frames are allowed when (`control.py`).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import cattrs
import msgpack  # type: ignore[import-untyped]
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from tierlb.model.address import Address, parse_address
from tierlb.model.load import JSON_KEY, Echo, Guidance, KindTimes, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Destination, Send, Snapshot
from tierlb.model.topology import Redirect, Respond

PROTOCOL_VERSION = 1
SUBPROTOCOL = "tierlb.v1"
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_CHILD_FRAME_BYTES = 1024 * 1024
"""Five hundred rows with hosts; a plain report has some 140 bytes."""
MAX_TEXT_CHARACTERS = 4096
MAX_COUNT = 2**63 - 1
MAX_NUMBER = 1e12
MAX_SKETCH_BYTES = 64 * 1024
MAX_ROWS = 512
"""Rows in one report; a row has about 1 KB."""
MAX_PARENTS = 1024
MAX_PARENT_FIELDS = 8
"""Three today; later versions may append some."""
MAX_DOWN = 64
MAX_KINDS = 64
"""Nine today; later versions may send more."""
MAX_NAME_CHARACTERS = 40
"""The longest name of a tier or pool; see topology.forms."""
MAX_WATCH_S = 60.0
MAX_NONCE_CHARACTERS = 64
MAX_PORT = 65535
HOST_NAME = r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?"


class ProtocolError(Exception):
    """The peer sent something that is no frame; the text is the reason to close with."""


@attrs.frozen
class Hello:
    """Child to parent, the first frame: the identity of the child. `boot_id` differs between two runs of one node.

    `control` is where this node's own children connect, HOST:PORT in which the host may be a name of all nodes of its
    tier. `data` is the address for items: of an agent, whose `tier` is the name of a pool, and of a node that serves
    already; "" where there is none.
    """

    version: int
    node: str
    tier: str
    boot_id: str
    pid: int
    control: str = ""
    data: str = ""


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

    `rows` (of the child and of nodes below it) are attached only while a client watches.
    """

    subtree: SubtreeLoad
    echo: Echo = Echo()
    rows: tuple[NodeRow, ...] = ()


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
Reader = Callable[[Any], Any]


def encode_frame(frame: Frame) -> bytes:
    """One frame as bytes."""
    if type(frame) is Report:
        return _encode_report(frame)
    tag, _ = _SHAPES[type(frame)]
    values = [getattr(frame, field.name) for field in attrs.fields(type(frame))]
    packed: bytes = _pack([tag, *(_frame_converter.unstructure(value) for value in values)])
    return packed


def decode_frame(data: bytes, limit_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """The frame in `data`; raises ProtocolError with a sentence that names the tag and the field."""
    tag, *fields = _read_array(data, limit_bytes)
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


def is_calling_place(text: str) -> bool:
    """Whether the text is HOST:PORT with a host name, not an IP address."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(HOST_NAME, host) or not re.search("[a-zA-Z]", host):
        return False
    return re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) <= MAX_PORT


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
        numbers = [_within(value, most) for value, (_, _, most) in zip(numbers, _REPORT, strict=True)]
    rows = [_frame_converter.unstructure(row) for row in report.rows] if report.rows else ()
    parked = _within(s.parked, MAX_COUNT), _within(e.parked, MAX_COUNT)
    later = (_within(value, MAX_NUMBER) for value in (s.capacity_age_s, s.slots, s.overdue))
    packed: bytes = _pack(("report", *numbers, rows, s.down, *parked, *later, s.kinds))
    return packed


def _within(value: Any, most: float) -> Any:
    """The nearest number from 0 to `most`; 0 for other values."""
    return value if 0 <= value <= most else most if value > most else type(value)(0)


def _read_report(fields: list[Any]) -> Report:
    if len(fields) <= len(_REPORT):
        missing = _REPORT[len(fields)][0] if len(fields) < len(_REPORT) else "rows"
        raise ProtocolError(f"report: field '{missing}' is missing")
    if not _is_ordinary(fields[:_ROWS_AT]):
        for (name, kind, most), value in zip(_REPORT, fields, strict=False):
            given = type(value)
            if (given is not kind and (given is not int or kind is not float)) or not 0 <= value <= most:  # so is NaN
                raise ProtocolError(f"report: field '{name}' is not {_EXPECTED[kind]}")
    rows = _read_field("report", "rows", _rows, fields[_ROWS_AT])
    later = _read_later(fields[_ROWS_AT + 1 :])
    down, parked, own_parked, *subtree_later = later
    subtree = SubtreeLoad(*[*fields[:_ECHO_AT], down, parked, *subtree_later])
    return Report(subtree, Echo(*[*fields[_ECHO_AT:_ROWS_AT], own_parked]), rows)


def _read_later(fields: list[Any]) -> list[Any]:
    """The fields behind the rows. A report of an earlier version ends before some of them. Ordinary numbers are read as
    fast as those before the rows; a NaN makes their sum one."""
    if len(fields) >= len(_LATER):
        down, *numbers = fields[: len(_LATER) - 1]
        is_ordinary = tuple(map(type, numbers)) == _LATER_TYPES and min(numbers) >= 0 and sum(numbers) <= MAX_NUMBER
        if not down and is_ordinary:
            return [(), *numbers, _read_field("report", *_LATER[-1][:2], fields[len(_LATER) - 1])]
    values = [_read_field("report", name, read, value) for (name, read, _), value in zip(_LATER, fields, strict=False)]
    return [*values, *(default for _, _, default in _LATER[len(values) :])]


def _is_ordinary(numbers: list[Any]) -> bool:
    """Whether all numbers of a report have the exact types and are well within bounds; otherwise they are checked one
    by one. A NaN makes the sum one, which is in no range."""
    return tuple(map(type, numbers)) == _TYPES and min(numbers) >= 0 and 0 <= sum(numbers) <= MAX_NUMBER


def _read_array(data: bytes, limit_bytes: int) -> list[Any]:
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


def _natural(value: object, _: object = None) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"is not {_EXPECTED[int]}")
    return value


def _read_number(value: object, _: object = None) -> float:
    if not isinstance(value, int | float) or value is True or value is False or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"is not {_EXPECTED[float]}")  # NaN is in no range
    return float(value)


def _positive(value: object) -> float:
    number = _read_number(value)
    if number == 0:
        raise ValueError("is not a number above 0")
    return number


def _truth(value: object, _: object = None) -> bool:
    if type(value) is not bool:
        raise ValueError("is not true or false")
    return value


def _read_text(value: object, _: object = None) -> str:
    if type(value) is not str:
        raise ValueError("is not text")
    return value


def _label(value: object) -> str:
    text = _read_text(value)
    if not 0 < len(text) <= MAX_TEXT_CHARACTERS:
        raise ValueError(f"is not text of 1 to {MAX_TEXT_CHARACTERS} characters")
    return text


def _short_text(value: object) -> str:
    text = _read_text(value)
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"is longer than {MAX_TEXT_CHARACTERS} characters")
    return text


def _nonce(value: object) -> str:
    text = _read_text(value)
    if len(text) > MAX_NONCE_CHARACTERS or not text.isascii():
        raise ValueError(f"is not ASCII text of at most {MAX_NONCE_CHARACTERS} characters")
    return text


def _read_place(value: object) -> str:
    return str(parse_address(_read_text(value))) if value != "" else ""


def _calling_place(value: object) -> str:
    text = _read_text(value)
    return text if is_calling_place(text) else _read_place(text)


def _duration(value: object) -> float:
    number = _read_number(value)
    if number > MAX_WATCH_S:
        raise ValueError(f"is more than {MAX_WATCH_S:g} s")
    return number


def _bytes(value: object, _: object = None) -> bytes:
    if type(value) is not bytes or len(value) > MAX_SKETCH_BYTES:
        raise ValueError(f"is not a string of at most {MAX_SKETCH_BYTES} bytes")
    return value


def _read_address(value: object, _: object = None) -> Address:
    return parse_address(_read_text(value))


def _read_addresses(value: object) -> tuple[Address, ...]:
    return tuple(_read_address(item) for item in _array(value, MAX_ROWS))


def _read_names(value: object) -> tuple[str, ...]:
    names = tuple(_label(item) for item in _array(value, MAX_DOWN))
    if any(len(name) > MAX_NAME_CHARACTERS for name in names):
        raise ValueError(f"holds a name of more than {MAX_NAME_CHARACTERS} characters")
    return names


def _kinds(value: object) -> tuple[KindTimes, ...]:
    return tuple(_read_kind(item) for item in _array(value, MAX_KINDS))


def _is_kinds(kind: object) -> bool:
    return kind == tuple[KindTimes, ...]


def _read_kind(value: object) -> KindTimes:
    """Fields that a later version appends to an entry are ignored."""
    if not isinstance(value, list) or len(value) < len(("key", "count", "seconds")):
        raise ValueError("holds a kind that is not a key, a count and seconds")
    key, count, seconds = value[:3]
    return _natural(key), _natural(count), _read_number(seconds)


def _rows(value: object) -> tuple[NodeRow, ...]:
    return tuple(_frame_converter.structure(item, NodeRow) for item in _array(value, MAX_ROWS))


def _parents(value: object) -> tuple[ParentAddress, ...]:
    return tuple(_parent(item) for item in _array(value, MAX_PARENTS))


def _parent(value: object) -> ParentAddress:
    fields = _array(value, MAX_PARENT_FIELDS)
    (name, url), ticket = map(_label, fields[:2]), _short_text(fields[2]) if len(fields) > 2 else ""
    if not url.startswith(("ws://", "wss://")):
        raise ValueError("has a URL that begins with neither ws:// nor wss://")
    return ParentAddress(name, url, ticket)


def _array(value: object, longest: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise ValueError(f"is not an array of at most {longest}")
    return value


def _make_frame_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    readers = (
        (int, _natural),
        (float, _read_number),
        (bool, _truth),
        (str, _read_text),
        (bytes, _bytes),
        (Address, _read_address),
    )
    for kind, read in readers:
        converter.register_structure_hook(kind, read)
    converter.register_structure_hook_func(_is_kinds, lambda value, _: _kinds(value))
    converter.register_unstructure_hook(Address, str)
    for renamed in (NodeLoad, Destination):
        _keep_keys(converter, renamed)
    converter.register_unstructure_hook(NodeRow, _row_writer(converter))
    converter.register_unstructure_hook(ParentAddress, attrs.astuple)
    configure_tagged_union(Send | Respond | Redirect, converter, tag_name="do", tag_generator=_action_tag)
    return converter


def _keep_keys(converter: cattrs.Converter, kind: type) -> None:
    """Fields whose key in JSON is not their name have the same key here."""
    fields = {field.name: field.metadata[JSON_KEY] for field in attrs.fields(kind) if JSON_KEY in field.metadata}
    names = {name: override(rename=key) for name, key in fields.items()}
    converter.register_structure_hook(kind, make_dict_structure_fn(kind, converter, **names))  # type: ignore[arg-type]
    converter.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, converter, **names))  # type: ignore[arg-type]


def _row_writer(converter: cattrs.Converter) -> Callable[[NodeRow], dict[str, Any]]:
    """Rows with their numbers limited to their bounds, as in reports."""

    def write(row: NodeRow) -> dict[str, Any]:
        return _all_within(plain(row))  # type: ignore[no-any-return]

    plain = make_dict_unstructure_fn(NodeRow, converter)
    return write


def _all_within(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _all_within(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_all_within(each) for each in value]
    if type(value) in (int, float):
        return _within(value, _MOST[type(value)])
    return value


def _action_tag(kind: type) -> str:
    return kind.__name__.lower()


def _snapshot(value: object) -> Snapshot:
    return _frame_converter.structure(value, Snapshot)


_frame_converter = _make_frame_converter()
_pack = msgpack.Packer().pack

_EXPECTED: dict[type, str] = {
    int: f"a whole number from 0 to {MAX_COUNT}",
    float: f"a number from 0 to {MAX_NUMBER:g}",
    bool: "true or false",
}
_MOST: dict[type, float] = {int: MAX_COUNT, float: MAX_NUMBER, bool: True}
_LATER: tuple[tuple[str, Reader, Any], ...] = (
    ("down", _read_names, ()),
    ("subtree.parked", _natural, 0),
    ("echo.parked", _natural, 0),
    ("subtree.capacity_age_s", _read_number, 0.0),
    ("subtree.slots", _read_number, 0.0),
    ("subtree.overdue", _read_number, 0.0),
    ("subtree.kinds", _kinds, ()),
)
"""Fields that later versions added to reports, behind the rows, in this order: name, reader, and the value where it is
missing. New ones are appended, as SubtreeLoad and Echo grow."""
_LATER_TYPES = tuple(type(default) for _, _, default in _LATER[1:-1])
_APPENDED = {"down", "parked", "capacity_age_s", "slots", "overdue", "kinds"}
_NUMBERS = [field for field in attrs.fields(SubtreeLoad) if field.name not in _APPENDED]
_OWN_NUMBERS = [field for field in attrs.fields(Echo) if field.name not in _APPENDED]
_ECHO_AT = len(_NUMBERS)
_ROWS_AT = _ECHO_AT + len(_OWN_NUMBERS)
_REPORT: tuple[tuple[str, type, float], ...] = tuple(
    (f"{part}.{field.name}", field.type, _MOST[field.type])  # type: ignore[index, misc]
    for part, fields in (("subtree", _NUMBERS), ("echo", _OWN_NUMBERS))
    for field in fields
)
"""The first numbers of a report in their order: name, type, largest."""

_TYPES = tuple(kind for _, kind, _ in _REPORT)

_SHAPES: dict[type[Frame], tuple[str, tuple[Reader, ...]]] = {
    Hello: ("hello", (_natural, _label, _label, _label, _natural, _calling_place, _read_place)),
    Welcome: ("welcome", (_positive, _short_text)),
    Configure: ("snapshot", (_snapshot,)),
    Ack: ("ack", (_natural, _read_addresses)),
    Refuse: ("refuse", (_natural, _label)),
    Leaving: ("drain", ()),
    Guidance: ("guidance", (_read_number, _truth, _read_number, _read_number, _read_number, _truth)),
    Watch: ("watch", (_duration, _nonce)),
    ReportTo: ("report-to", (_parents,)),
}
_KINDS: dict[str, type[Frame]] = {tag: kind for kind, (tag, _) in _SHAPES.items()}
