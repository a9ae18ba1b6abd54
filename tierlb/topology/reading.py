"""Plain data → a value of a typed class (`typed`), with every fault and its path.

A fault does not hide another one: the part that cannot be read is left out, and the rest is read on. An optional key
whose value is wrong counts as not given. A required one takes its mapping along, and a wrong item its list, up to the
next key that can be left out. `Reading.damaged` names the keys that were left out, so that later checks do not report a
mapping for what it may have held.
"""

from typing import Any, get_args, get_origin

import attrs

from tierlb.topology.problems import Fault, Path, suggestion
from tierlb.topology.typed import Form, Scalar, choices_of, form_of, is_mapping, is_union, keys_of, rules_of, tag_of
from tierlb.topology.units import shown

DATA_NAMES: dict[type, str] = {Scalar: "a single value", list: "a list", dict: "a mapping"}
UNREAD: Any = object()
"""Stands for a value that could not be read."""


@attrs.frozen
class TypedReading:
    """What could be made of the data. `value` is None if nothing could; `damaged` are the keys that were left out."""

    value: Any
    faults: tuple[Fault, ...] = ()
    damaged: frozenset[Path] = frozenset()

    def intact(self, path: Path) -> bool:
        """Whether nothing at or below the path was left out."""
        return not any(cut[: len(path)] == path for cut in self.damaged)


def read_typed(kind: Any, data: object) -> TypedReading:
    """Read a value of the type from mappings, lists, and scalars of a file or of JSON."""
    reader = _Reader()
    value = reader.value(kind, data, ())
    return TypedReading(None if value is UNREAD else value, tuple(reader.faults), frozenset(reader.damaged))


class _Reader:
    """One pass over the data. Each method returns UNREAD after it has noted why."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.damaged: set[Path] = set()

    def value(self, kind: Any, data: object, path: Path) -> Any:
        if (form := form_of(kind)) is not None:
            return self._single(form, data, path)
        origin, parts = get_origin(kind), get_args(kind)
        if is_union(kind):
            return self._choice(choices_of(kind), data, path)
        if origin is tuple:
            return self._list(parts, data, path)
        if origin is dict:
            return self._by_name(parts, data, path)
        return self._mapping(kind, data, path)

    def _fault(self, path: Path, message: str, *, at_key: bool = False) -> Any:
        self.faults.append(Fault(path, message, at_key))
        return UNREAD

    def _single(self, form: Form, data: object, path: Path, *, at_key: bool = False) -> Any:
        if data is None and form.accepts_null:
            return None
        scalar = _as_scalar(data)
        if scalar is None:
            return self._fault(path, _instead(data, DATA_NAMES[Scalar]))
        try:
            return form.read(scalar)
        except ValueError as error:
            return self._fault(path, str(error), at_key=at_key)

    def _choice(self, choices: list[Any], data: object, path: Path) -> Any:
        """Data's own form tells the types of a union apart, and a tag several classes."""
        tagged = {tag[1]: choice for choice in choices if is_mapping(choice) and (tag := tag_of(choice))}
        if tagged:
            return self._tagged(tagged, data, path)
        by_form = {_form_of_data(choice): choice for choice in choices}
        choice = choices[0] if len(choices) == 1 else by_form.get(_kind_of(data))
        if choice is None:
            return self._fault(
                path, _instead(data, " or ".join(DATA_NAMES[form] for form in DATA_NAMES if form in by_form))
            )
        return self.value(choice, data, path)

    def _tagged(self, tagged: dict[str, Any], data: object, path: Path) -> Any:
        (key,) = {tag[0] for choice in tagged.values() if (tag := tag_of(choice))}
        if not isinstance(data, dict):
            return self._fault(path, _instead(data, DATA_NAMES[dict]))
        word = _as_scalar(data.get(key))
        if word is None or word.text not in tagged:
            return self._fault((*path, key), f"write one of {', '.join(tagged)}")
        return self._mapping(tagged[word.text], data, path)

    def _list(self, kinds: tuple[Any, ...], data: object, path: Path) -> Any:
        if not isinstance(data, list):
            return self._fault(path, _instead(data, DATA_NAMES[list]))
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(data)
            if not data:
                return self._empty(path)
        elif len(kinds) != len(data):
            return self._fault(path, f"must be a list of {len(kinds)}, not of {len(data)}")
        items = [
            self.value(kind, item, (*path, index)) for index, (kind, item) in enumerate(zip(kinds, data, strict=True))
        ]
        return UNREAD if any(item is UNREAD for item in items) else tuple(items)

    def _by_name(self, kinds: tuple[Any, ...], data: object, path: Path) -> Any:
        if not isinstance(data, dict):
            return self._fault(path, _instead(data, "a mapping by name"))
        if not data:
            return self._empty(path)
        form = form_of(kinds[0])
        assert form is not None
        found: dict[Any, Any] = {}
        names: dict[Any, str] = {}
        for name, item in data.items():
            here = (*path, name)
            key = self._single(form, Scalar(name, quoted=True), here, at_key=True)
            value = self.value(kinds[1], item, here)
            if key is UNREAD or value is UNREAD:
                self.damaged.add(here)
            elif key in found:
                return self._fault(path, f"{shown(names[key])} and {shown(name)} are the same: keep one of them")
            else:
                found[key], names[key] = value, name
        return found or UNREAD

    def _mapping(self, cls: Any, data: object, path: Path) -> Any:
        keys, tag = keys_of(cls), tag_of(cls)
        if not isinstance(data, dict):
            return self._fault(path, _instead(data, f"a mapping with the keys {', '.join(keys)}"))
        before = len(self.faults)
        for name in data:
            if name not in keys and name != (tag and tag[0]):
                self.damaged.add((*path, name))
                advice = suggestion(name, keys) or f": known here are {', '.join(keys)}"
                self._fault((*path, name), f"unknown key{advice}", at_key=True)
        values = {}
        for name, key in keys.items():
            if name in data:
                value = self.value(key.kind, data[name], (*path, name))
                if value is UNREAD:
                    self.damaged.add((*path, name))
                else:
                    values[name] = value
            elif key.is_required:
                self._fault(path, f"the key {name!r} is missing")
        if len(self.faults) == before:
            self._check_rules(cls, list(data), path)
        return UNREAD if any(key.is_required and name not in values for name, key in keys.items()) else cls(**values)

    def _check_rules(self, cls: type, given: list[str], path: Path) -> None:
        for rule in rules_of(cls):
            for key, message in rule.faults(given):
                self._fault(path if key is None else (*path, key), message, at_key=key is not None)

    def _empty(self, path: Path) -> Any:
        return self._fault(path, "is empty: fill it or leave the key out")


def _as_scalar(data: object) -> Scalar | None:
    """The data as one written value, None if it is none. Numbers and texts of JSON become what a file would hold."""
    match data:
        case Scalar():
            return data
        case str():
            return Scalar(data, quoted=True)
        case bool():
            return Scalar("true" if data else "false")
        case float() if data.is_integer() and abs(data) < 2**53:
            return Scalar(str(int(data)))
        case int() | float():
            return Scalar(repr(data))
        case _:
            return None


def _kind_of(data: object) -> Any:
    """By which of DATA_NAMES the data goes; None for no value."""
    if data is None:
        return None
    return type(data) if isinstance(data, list | dict) else Scalar


def _form_of_data(kind: Any) -> type:
    """By which of DATA_NAMES data of the type goes."""
    if form_of(kind) is None and get_origin(kind) is tuple:
        return list
    return dict if get_origin(kind) is dict or is_mapping(kind) else Scalar


def _instead(data: object, wanted: str) -> str:
    found = _kind_of(data)
    if found is None:
        return f"has no value: write {wanted}, or leave the key out"
    return f"must be {wanted}, not {DATA_NAMES[found]}"
