"""Plain data → the file's shape, with cattrs; and cattrs' tree of errors → faults with paths.

cattrs reports every error of one pass together. Data that failed is then cut out and the rest is structured
again, so that the cross checks can still look at what is right: one mistyped number does not hide an
unresolved name.
"""

import types
from collections.abc import Callable, Iterator
from typing import Any, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory, mapping_structure_factory
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from tierlb.topology.forms import FORMS
from tierlb.topology.problems import Fault, Path, suggestion
from tierlb.topology.shapes import FileShape
from tierlb.topology.source import Data, Scalar
from tierlb.topology.units import shown

Hook = Callable[[Any, Any], Any]

PASSES = 4
"""A key cut out can take its tier with it, and that the whole mapping of tiers: three cuts, one reading."""


@attrs.frozen
class Reading:
    """What could be made of the data. `shape` is None if nothing could; `damaged` are the paths cut out."""

    shape: FileShape | None
    faults: tuple[Fault, ...] = ()
    damaged: frozenset[Path] = frozenset()

    def intact(self, path: Path) -> bool:
        """Whether nothing at or below the path was cut out."""
        return not any(cut[: len(path)] == path for cut in self.damaged)


def structure(data: Data) -> Reading:
    """Read the data as a topology file."""
    faults: tuple[Fault, ...] = ()
    damaged: set[Path] = set()
    for _ in range(PASSES):
        try:
            return Reading(CONVERTER.structure(data, FileShape), faults, frozenset(damaged))
        except BaseValidationError as error:
            found = tuple(_faults(error, ()))
        except ValueError as error:
            found = (Fault((), str(error)),)
        faults = faults or found
        cuts = {_nearest_key(fault.path) for fault in found}
        damaged |= cuts
        data = _without(data, cuts, ())
        if isinstance(data, dict):
            data.setdefault("cluster", Scalar("unnamed"))
    return Reading(None, faults, frozenset(damaged))


def _faults(error: BaseValidationError, path: Path) -> Iterator[Fault]:
    for inner in error.exceptions:
        step, at_key = _step(inner)
        here = path if step is None else (*path, step)
        if isinstance(inner, BaseValidationError):
            yield from _faults(inner, here)
        elif isinstance(inner, ForbiddenExtraKeysError):
            known = [field.name for field in attrs.fields(inner.cl)]
            for key in inner.extra_fields:
                yield Fault((*path, key), f"unknown key{_advice(key, known)}", at_key=True)
        elif isinstance(inner, KeyError):
            yield Fault(path, f"the key {step!r} is missing")
        else:
            yield Fault(here, str(inner), at_key)


def _advice(key: str, known: list[str]) -> str:
    return suggestion(key, known) or f": known here are {', '.join(known)}"


def _step(error: Exception) -> tuple[str | int | None, bool]:
    """The key or position cattrs noted on an error, and whether the key itself was wrong."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return note.name, False
        if isinstance(note, IterableValidationNote):
            return note.index, note.startswith("Structuring mapping key")
    return None, False


def _nearest_key(path: Path) -> Path:
    """The path up to its last key: list items are not cut out singly, the others would move."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _without(data: Data, cuts: set[Path], path: Path) -> Data:
    if isinstance(data, dict):
        return {key: _without(value, cuts, (*path, key)) for key, value in data.items() if (*path, key) not in cuts}
    if isinstance(data, list):
        return [_without(value, cuts, (*path, index)) for index, value in enumerate(data)]
    return data


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _mapping_hook(cls, converter))
    converter.register_structure_hook_factory(_is(tuple), lambda kind: _tuple_hook(kind, converter))
    converter.register_structure_hook_factory(_is(dict), lambda kind: _dict_hook(kind, converter))
    union = _is(types.UnionType, Union)
    converter.register_structure_hook_factory(union, lambda kind: _union_hook(kind, converter))
    converter.register_structure_hook_func(lambda kind: kind in FORMS, _read_form)
    return converter


def _is(*origins: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) in origins


def _read_form(value: Any, kind: Any) -> Any:
    form = FORMS[kind]
    if value is None and form.accepts_null:
        return None
    if isinstance(value, str):
        value = Scalar(value)
    if not isinstance(value, Scalar):
        raise ValueError(_instead(value, "a single value"))
    return form.read(value)


def _mapping_hook(cls: Any, converter: cattrs.Converter) -> Hook:
    known = ", ".join(field.name for field in attrs.fields(cls))
    inner = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)
    return _guarded(inner, dict, f"a mapping with the keys {known}")


def _tuple_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    inner = list_structure_factory(kind, converter)
    return _guarded(lambda value, _: tuple(inner(value, kind)), list, "a list", may_be_empty=False)


def _dict_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    inner = mapping_structure_factory(kind, converter, structure_to=dict)

    def structure_all(value: Any, _: Any) -> Any:
        structured = inner(value, kind)
        if len(structured) < len(value):
            raise ValueError(f"{_twins(value, get_args(kind)[0], converter)} are the same: keep one of them")
        return structured

    return _guarded(structure_all, dict, "a mapping by name", may_be_empty=False)


def _twins(value: dict[str, Any], key_kind: Any, converter: cattrs.Converter) -> str:
    """The first two keys that mean the same: X-A and x-a, localhost:80 and 127.0.0.1:80."""
    first: dict[Any, str] = {}
    for key in value:
        twin = first.setdefault(converter.structure(key, key_kind), key)
        if twin != key:
            return f"{shown(twin)} and {shown(key)}"
    raise AssertionError("no two keys are the same")


def _union_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    """Tell the members of a union apart by the form of the data; a key that is there must have a value."""
    by_form: dict[type, Any] = {}
    for member in _flat_members(kind):
        form = {tuple: list, dict: dict}.get(get_origin(member)) or (dict if attrs.has(member) else Scalar)
        by_form[form] = member
    wanted = " or ".join(text for form, text in FORM_NAMES.items() if form in by_form)

    def structure_one(value: Any, _: Any) -> Any:
        member = by_form.get(type(value))
        if member is None and len(by_form) == 1:
            (member,) = by_form.values()
        if member is None:
            raise ValueError(_instead(value, wanted))
        return converter.structure(value, member)

    return structure_one


FORM_NAMES: dict[type, str] = {Scalar: "a single value", list: "a list", dict: "a mapping"}


def _flat_members(kind: Any) -> Iterator[Any]:
    return (member for member in get_args(kind) if member is not type(None))


def _guarded(inner: Hook, form: type, wanted: str, *, may_be_empty: bool = True) -> Hook:
    def structure_guarded(value: Any, kind: Any) -> Any:
        if not isinstance(value, form):
            raise ValueError(_instead(value, wanted))
        if not value and not may_be_empty:
            raise ValueError("is empty: fill it or leave the key out")
        return inner(value, kind)

    return structure_guarded


def _instead(value: Any, wanted: str) -> str:
    if value is None:
        return f"has no value: write {wanted}, or leave the key out"
    return f"must be {wanted}, not {FORM_NAMES[type(value)]}"


CONVERTER = _make_converter()
