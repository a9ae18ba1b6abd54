"""The single values of frames: how each is read, what limits it, and how snapshots and rows become mappings.

A reader takes what msgpack unpacked and returns the value, or raises a ValueError whose text follows the field's name.
Nothing is coerced: "5" is not a number, and no number is negative, infinite or absurdly large, because each is a count,
a duration, a rate or a share. Snapshots and rows are mappings by field name; keys that are not known are ignored.

Left out: which fields a frame has, in what order, and the numbers of a report, which are packed and checked without a
reader for each (`frames.py`).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from tierlb.model.address import Address, parse_address, read_address
from tierlb.model.load import JSON_KEY, KindTimes, NodeLoad, NodeRow
from tierlb.model.snapshot import Destination, Send, Snapshot
from tierlb.model.topology import Redirect, Respond

MAX_TEXT_CHARACTERS = 4096
MAX_COUNT = 2**63 - 1
MAX_NUMBER = 1e12
MAX_SKETCH_BYTES = 64 * 1024
MAX_ROWS = 512
"""Rows in one report; a row has about 1 KB."""
MAX_DOWN = 64
MAX_KINDS = 64
"""Nine today; later versions may send more."""
MAX_NAME_CHARACTERS = 40
"""The longest name of a tier or pool; see topology.forms."""
MAX_WATCH_S = 60.0
MAX_NONCE_CHARACTERS = 64
MAX_PORT = 65535
HOST_NAME = r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?"

Reader = Callable[[Any], Any]

EXPECTED_NUMBER: dict[type, str] = {
    int: f"a whole number from 0 to {MAX_COUNT}",
    float: f"a number from 0 to {MAX_NUMBER:g}",
    bool: "true or false",
}
LARGEST_NUMBER: dict[type, float] = {int: MAX_COUNT, float: MAX_NUMBER, bool: True}
"""The bounds of numbers by their type, in words for errors and as values."""


def is_calling_place(text: str) -> bool:
    """Whether the text is HOST:PORT with a host name, not an IP address."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(HOST_NAME, host) or not re.search("[a-zA-Z]", host):
        return False
    return re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) <= MAX_PORT


def read_count(value: object, _: object = None) -> int:
    """A whole number of 0 or more, not true or false."""
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"is not {EXPECTED_NUMBER[int]}")
    return value


def read_number(value: object, _: object = None) -> float:
    """A number of 0 or more, which may be whole."""
    if not isinstance(value, int | float) or value is True or value is False or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"is not {EXPECTED_NUMBER[float]}")  # NaN is in no range
    return float(value)


def read_positive(value: object) -> float:
    """A number above 0."""
    number = read_number(value)
    if number == 0:
        raise ValueError("is not a number above 0")
    return number


def read_truth(value: object, _: object = None) -> bool:
    """True or false, not 0 or 1."""
    if type(value) is not bool:
        raise ValueError("is not true or false")
    return value


def read_any_text(value: object, _: object = None) -> str:
    """Text of any length, which the limit of the frame bounds."""
    if type(value) is not str:
        raise ValueError("is not text")
    return value


def read_label(value: object) -> str:
    """Text of limited length that is not empty: a name or a reason."""
    text = read_any_text(value)
    if not 0 < len(text) <= MAX_TEXT_CHARACTERS:
        raise ValueError(f"is not text of 1 to {MAX_TEXT_CHARACTERS} characters")
    return text


def read_short_text(value: object) -> str:
    """Text of limited length, which may be empty."""
    text = read_any_text(value)
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"is longer than {MAX_TEXT_CHARACTERS} characters")
    return text


def read_nonce(value: object) -> str:
    """What a request carries that is to be explained, or ""."""
    text = read_any_text(value)
    if len(text) > MAX_NONCE_CHARACTERS or not text.isascii():
        raise ValueError(f"is not ASCII text of at most {MAX_NONCE_CHARACTERS} characters")
    return text


def read_place(value: object) -> str:
    """An address as text, or ""."""
    return str(parse_address(read_any_text(value))) if value != "" else ""


def read_calling_place(value: object) -> str:
    """An address or a host name with a port, as text, or ""."""
    text = read_any_text(value)
    return text if is_calling_place(text) else read_place(text)


def read_watch_duration(value: object) -> float:
    """The seconds for which rows are attached to reports."""
    number = read_number(value)
    if number > MAX_WATCH_S:
        raise ValueError(f"is more than {MAX_WATCH_S:g} s")
    return number


def read_sketch(value: object, _: object = None) -> bytes:
    """The encoded latency sketch of a row."""
    if type(value) is not bytes or len(value) > MAX_SKETCH_BYTES:
        raise ValueError(f"is not a string of at most {MAX_SKETCH_BYTES} bytes")
    return value


def read_addresses(value: object) -> tuple[Address, ...]:
    """Addresses, from an array of texts."""
    return tuple(_read_address(item) for item in read_items(value, MAX_ROWS))


def read_names(value: object) -> tuple[str, ...]:
    """Names of pools or tiers, from an array of texts."""
    names = tuple(read_label(item) for item in read_items(value, MAX_DOWN))
    if any(len(name) > MAX_NAME_CHARACTERS for name in names):
        raise ValueError(f"holds a name of more than {MAX_NAME_CHARACTERS} characters")
    return names


def read_kinds(value: object) -> tuple[KindTimes, ...]:
    """Times by kind of request, from an array of arrays."""
    return tuple(_read_kind(item) for item in read_items(value, MAX_KINDS))


def read_rows(value: object) -> tuple[NodeRow, ...]:
    """Rows, from an array of mappings. Raises also what cattrs raises."""
    return tuple(frame_converter.structure(item, NodeRow) for item in read_items(value, MAX_ROWS))


def read_snapshot(value: object) -> Snapshot:
    """A snapshot, from a mapping. Raises also what cattrs raises."""
    return frame_converter.structure(value, Snapshot)


def read_items(value: object, longest: int) -> Sequence[Any]:
    """The items of an array of at most so many."""
    if not isinstance(value, list) or len(value) > longest:
        raise ValueError(f"is not an array of at most {longest}")
    return value


def within(value: Any, most: float) -> Any:
    """The nearest number from 0 to `most`; 0 for other values."""
    return value if 0 <= value <= most else most if value > most else type(value)(0)


def _read_address(value: object, _: object = None) -> Address:
    return read_address(read_any_text(value))


def _is_kinds(kind: object) -> bool:
    return kind == tuple[KindTimes, ...]


def _read_kind(value: object) -> KindTimes:
    """Fields that a later version appends to an entry are ignored."""
    if not isinstance(value, list) or len(value) < len(("key", "count", "seconds")):
        raise ValueError("holds a kind that is not a key, a count and seconds")
    key, count, seconds = value[:3]
    return read_count(key), read_count(count), read_number(seconds)


def _make_frame_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    readers = (
        (int, read_count),
        (float, read_number),
        (bool, read_truth),
        (str, read_any_text),
        (bytes, read_sketch),
        (Address, _read_address),
    )
    for kind, read in readers:
        converter.register_structure_hook(kind, read)
    converter.register_structure_hook_func(_is_kinds, lambda value, _: read_kinds(value))
    converter.register_unstructure_hook(Address, str)
    for renamed in (NodeLoad, Destination):
        _keep_keys(converter, renamed)
    converter.register_unstructure_hook(NodeRow, _row_writer(converter))
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
        return within(value, LARGEST_NUMBER[type(value)])
    return value


def _action_tag(kind: type) -> str:
    return kind.__name__.lower()


frame_converter = _make_frame_converter()
"""Between values and what msgpack packs: snapshots, rows, addresses."""
