"""What typed data is made of, for the topology file and the bodies of the admin API alike.

A type is an attrs class (a mapping), a tuple (a list), a dict (a mapping by name), a union, or an enum. A single value
is `Annotated[python type, Form]`. `reading` makes values of such types from plain data, `schema` describes them as JSON
Schema. So what is read and what is described cannot differ.

A class may have more conditions: `RULES` are conditions between keys, and `TAG` is a key with a fixed value, by
which a union tells its classes apart.
"""

import enum
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import attrs

from tierlb.model.address import Address
from tierlb.model.load import JSON_KEY
from tierlb.topology.problems import suggestion
from tierlb.topology.units import shown

Schema = dict[str, Any]


@attrs.frozen
class Scalar:
    """A single value as written. A quoted one is text whatever it looks like."""

    text: str
    quoted: bool = False


@attrs.frozen(eq=False)
class Form:
    """How one kind of single value is read, its JSON Schema, and how the file writes it.

    `read` raises ValueError with a sentence that says what to write.
    """

    read: Callable[[Scalar], Any]
    schema: Schema
    accepts_null: bool = False
    write: Callable[[Any], str] = str


@attrs.frozen(eq=False)
class KeyRule:
    """A condition between keys of a mapping. `faults` takes the keys that are given and yields each key that is wrong
    (None: the mapping itself) with what is wrong. `schema` is the same for JSON Schema."""

    keys: tuple[str, ...]
    schema: Schema
    faults: Callable[[list[str]], Iterable[tuple[str | None, str]]]


def exactly_one(*keys: str) -> KeyRule:
    """Of these keys a mapping has one, no more and no less."""

    def faults(given: list[str]) -> Iterator[tuple[str | None, str]]:
        if not any(key in given for key in keys):
            yield None, f"needs one of the keys {', '.join(keys)}"
        yield from at_most_one(*keys).faults(given)

    return KeyRule(keys, {"oneOf": [{"required": [key]} for key in keys]}, faults)


def at_most_one(*keys: str) -> KeyRule:
    """Of these keys a mapping has one or none."""

    def faults(given: list[str]) -> Iterator[tuple[str | None, str]]:
        first, *others = [key for key in keys if key in given] or [""]
        yield from ((key, f"cannot stand beside {first!r}: keep one of them") for key in others)

    return KeyRule(keys, {"not": {"required": list(keys)}}, faults)


def needs(pairs: dict[str, str]) -> KeyRule:
    """Each of these keys has no effect without another one."""

    def faults(given: list[str]) -> Iterator[tuple[str | None, str]]:
        for key, needed in pairs.items():
            if key in given and needed not in given:
                yield key, f"has no effect without {needed!r}: write both or none"

    schema = {"dependentRequired": {key: [needed] for key, needed in pairs.items()}}
    return KeyRule((*pairs, *pairs.values()), schema, faults)


def schema_only(demands: dict[str, Schema]) -> KeyRule:
    """What JSON Schema demands of a mapping that has a key; when the file is read, `rules` look at the values."""
    return KeyRule(tuple(demands), {"dependentSchemas": demands}, lambda given: ())


@attrs.frozen
class Key:
    """One key of a mapping: its type, and the attrs field behind it, whose metadata may name the key (JSON_KEY)."""

    name: str
    kind: Any
    field: Any

    @property
    def is_required(self) -> bool:
        """Whether the mapping must have it."""
        return self.field.default is attrs.NOTHING

    @property
    def model_field(self) -> str:
        """The name of the model's field that the key sets."""
        return self.field.metadata.get("field") or self.name


def required(about: str, *, field: str = "", l7_only: bool = False, l4_only: bool = False) -> Any:
    """A key that must be given."""
    return attrs.field(metadata={"about": about, "field": field, "l7_only": l7_only, "l4_only": l4_only})


def optional(about: str, *, field: str = "", l7_only: bool = False, l4_only: bool = False) -> Any:
    """A key that may be left out, and is None then."""
    return attrs.field(default=None, metadata={"about": about, "field": field, "l7_only": l7_only, "l4_only": l4_only})


def keys_of(cls: Any) -> dict[str, Key]:
    """The keys of a mapping by their names; private fields are none."""
    return _keys_of(cls)


@cache
def _keys_of(cls: Any) -> dict[str, Key]:
    hints = get_type_hints(cls, include_extras=True)
    fields = (field for field in attrs.fields(cls) if not field.name.startswith("_"))
    keys = (Key(field.metadata.get(JSON_KEY, field.name), hints[field.name], field) for field in fields)
    return {key.name: key for key in keys}


def rules_of(cls: type) -> tuple[KeyRule, ...]:
    """The conditions between the keys of a mapping."""
    return getattr(cls, "RULES", ())


def tag_of(cls: type) -> tuple[str, str] | None:
    """The key that tells the classes of a union apart, and the value that means this class."""
    return getattr(cls, "TAG", None)


def form_of(kind: Any) -> Form | None:
    """The form of a type that stands for a single value, None for all others."""
    if get_origin(kind) is Annotated:
        form = kind.__metadata__[0]
        return form if isinstance(form, Form) else None
    return _enum_form(kind) if isinstance(kind, type) and issubclass(kind, enum.Enum) else None


def is_mapping(kind: Any) -> bool:
    """Whether the type is an attrs class that stands for a mapping."""
    return form_of(kind) is None and attrs.has(kind)


def is_union(kind: Any) -> bool:
    """Whether the type is one of several, or may be None."""
    return get_origin(kind) in (types.UnionType, Union)


def choices_of(kind: Any) -> list[Any]:
    """The types of a union but for None; of another type that itself."""
    return [part for part in get_args(kind) if part is not type(None)] if is_union(kind) else [kind]


def plain(value: Any, bytes_as: Callable[[bytes], Any] = bytes.hex) -> Any:
    """What `json.dumps` takes: addresses and enums as text, attrs values as mappings of their public keys."""
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return bytes_as(value)
    if attrs.has(type(value)):
        return {name: plain(getattr(value, key.field.name), bytes_as) for name, key in keys_of(type(value)).items()}
    if isinstance(value, Mapping):
        return {key: plain(item, bytes_as) for key, item in value.items()}
    return [plain(item, bytes_as) for item in value] if isinstance(value, tuple | list) else value


@cache
def _enum_form(choices: type[enum.Enum]) -> Form:
    words = [str(choice.value) for choice in choices]

    def read(scalar: Scalar) -> enum.Enum:
        if scalar.text not in words:
            listed = f"{', '.join(words[:-1])} or {words[-1]}"
            raise ValueError(f"{shown(scalar.text)} is not known: write {listed}{suggestion(scalar.text, words)}")
        return choices(scalar.text)

    return Form(read, {"enum": words}, write=lambda choice: str(choice.value))
