"""The frames of the control channel as values, and as the bytes that carry them.

A frame is one msgpack array: a tag, then its fields in a fixed order. The order is the compatibility rule:
fields are only ever appended, so a reader takes the ones it knows and ignores what follows them; a field
that is missing or of the wrong type is a ProtocolError. Snapshots and loads travel as mappings by field name,
under the same rule (unknown keys are ignored). Nothing is coerced: "5" is not a number.

Left out: who may send what and when, which is `control.py`.
"""

from collections.abc import Callable
from typing import Any

import attrs
import cattrs
import msgpack  # type: ignore[import-untyped]
from cattrs.strategies import configure_tagged_union

from tierlb.model.address import Address, parse_address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Send, Snapshot
from tierlb.model.topology import Redirect, Respond

PROTOCOL_VERSION = 1
SUBPROTOCOL = "tierlb.v1"
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_TEXT_CHARACTERS = 4096


class ProtocolError(Exception):
    """The peer sent something that is no frame; the text is the reason to close with."""


@attrs.frozen
class Hello:
    """Child to parent, first of all: who I am. `boot_id` differs between two runs of one node."""

    version: int
    node: str
    tier: str
    boot_id: str
    pid: int


@attrs.frozen
class Welcome:
    """Parent to child: the hello was accepted, report this often."""

    report_interval_s: float


@attrs.frozen
class Configure:
    """Parent to child: serve this snapshot; answered with Ack or Refuse, in order."""

    snapshot: Snapshot


@attrs.frozen
class Ack:
    """Child to parent: I serve `revision`, at these addresses, parallel to its listeners."""

    revision: int
    addresses: tuple[Address, ...]


@attrs.frozen
class Refuse:
    """Child to parent: I cannot serve `revision` and go on with what I had."""

    revision: int
    reason: str


@attrs.frozen
class Report:
    """Child to parent, at each interval."""

    load: NodeLoad


@attrs.frozen
class Drain:
    """Child to parent: I am about to leave, send me nothing new."""


Frame = Hello | Welcome | Configure | Ack | Refuse | Report | Drain
Reader = Callable[[Any], Any]


def encode(frame: Frame) -> bytes:
    """One frame as bytes."""
    tag, _ = _SHAPES[type(frame)]
    values = [getattr(frame, field.name) for field in attrs.fields(type(frame))]
    packed: bytes = msgpack.packb([tag, *(_converter.unstructure(value) for value in values)])
    return packed


def decode(data: bytes) -> Frame:
    """The frame in `data`; raises ProtocolError with a sentence that names the tag and the field."""
    tag, *fields = _read_array(data)
    kind = _KINDS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise ProtocolError(f"unknown frame {str(tag)[:40]!r}")
    names = [field.name for field in attrs.fields(kind)]
    if len(fields) < len(names):
        raise ProtocolError(f"{tag}: field '{names[len(fields)]}' is missing")
    values = []
    for name, read, field in zip(names, _SHAPES[kind][1], fields, strict=False):
        try:
            values.append(read(field))
        except (ValueError, TypeError, cattrs.BaseValidationError) as error:
            raise ProtocolError(f"{tag}: field '{name}' {_why(error)}") from error
    return kind(*values)


def _read_array(data: bytes) -> list[Any]:
    if len(data) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(data)} bytes, more than {MAX_FRAME_BYTES}")
    try:
        frame = msgpack.unpackb(data, strict_map_key=True, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"not msgpack: {error}") from error
    if not isinstance(frame, list) or not frame:
        raise ProtocolError("a frame is an array that begins with its tag")
    return frame


def _why(error: Exception) -> str:
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error))[:200]
    return str(error)


def _natural(value: object, _: object = None) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("is not a whole number from 0")
    return value


def _number(value: object, _: object = None) -> float:
    if type(value) not in (int, float) or value != value:
        raise ValueError("is not a number")
    return float(value)  # type: ignore[arg-type]


def _positive(value: object) -> float:
    number = _number(value)
    if not 0 < number < float("inf"):
        raise ValueError("is not a number above 0")
    return number


def _truth(value: object, _: object = None) -> bool:
    if type(value) is not bool:
        raise ValueError("is not true or false")
    return value


def _text(value: object, _: object = None) -> str:
    if type(value) is not str:
        raise ValueError("is not text")
    return value


def _label(value: object) -> str:
    text = _text(value)
    if not 0 < len(text) <= MAX_TEXT_CHARACTERS:
        raise ValueError(f"is not text of 1 to {MAX_TEXT_CHARACTERS} characters")
    return text


def _address(value: object, _: object = None) -> Address:
    return parse_address(_text(value))


def _addresses(value: object) -> tuple[Address, ...]:
    if not isinstance(value, list):
        raise ValueError("is not an array")
    return tuple(_address(item) for item in value)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for kind, read in ((int, _natural), (float, _number), (bool, _truth), (str, _text), (Address, _address)):
        converter.register_structure_hook(kind, read)
    converter.register_unstructure_hook(Address, str)
    configure_tagged_union(Send | Respond | Redirect, converter, tag_name="do", tag_generator=_action_tag)
    return converter


def _action_tag(kind: type) -> str:
    return kind.__name__.lower()


def _snapshot(value: object) -> Snapshot:
    return _converter.structure(value, Snapshot)


def _load(value: object) -> NodeLoad:
    return _converter.structure(value, NodeLoad)


_converter = _make_converter()

_SHAPES: dict[type[Frame], tuple[str, tuple[Reader, ...]]] = {
    Hello: ("hello", (_natural, _label, _label, _label, _natural)),
    Welcome: ("welcome", (_positive,)),
    Configure: ("snapshot", (_snapshot,)),
    Ack: ("ack", (_natural, _addresses)),
    Refuse: ("refuse", (_natural, _label)),
    Report: ("report", (_load,)),
    Drain: ("drain", ()),
}
_KINDS: dict[str, type[Frame]] = {tag: kind for kind, (tag, _) in _SHAPES.items()}
