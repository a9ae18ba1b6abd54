"""Values as JSON: how they are written, which schema that has, and how those that somebody sends are read.

All three follow the annotations of attrs classes, so that the API's description cannot say something else than the API
does. What is sent has bounds, as `Annotated[str, Chars(...)]`, unknown keys are refused, and null is no value: what is
not to be said is left out.
"""

import enum
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from tierlb.model.address import Address
from tierlb.model.load import JSON_KEY
from tierlb.topology.units import shown

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/"
NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$"
LATENCY: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "count": {"type": "integer"},
                **{f"p{percent}_s": {"type": ["number", "null"]} for percent in (50, 90, 99)},
                "sketch": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["count", "p50_s", "p90_s", "p99_s", "sketch"],
        },
        {"type": "null"},
    ]
}
"""What controller/status.py makes of an encoded sketch."""


class Misshapen(ValueError):  # noqa: N818 (a verdict on what was sent)
    """It has not the shape that is asked for; the text names all that is wrong, each with its path."""


@attrs.frozen
class Chars:
    """How long a text may be; `line`: it has no control characters, so neither has it a line break."""

    least: int
    most: int
    line: bool = True


@attrs.frozen
class Between:
    """The least and the largest number, both allowed."""

    least: float
    most: float


def plain(value: Any) -> Any:
    """What `json.dumps` takes: addresses and enums as text, attrs values as mappings of their public fields."""
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return {name: plain(getattr(value, name)) for name in _public(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def shown_schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """Of what is answered. Classes go to `definitions`, by their names."""
    return _schema(kind, definitions, sent=False)


def sent_schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """Of what `read` takes."""
    return _schema(kind, definitions, sent=True)


def read(kind: Any, data: object) -> Any:
    """A value of the kind from parsed JSON. Raises Misshapen."""
    faults: list[str] = []
    value = _read(kind, data, "", faults)
    if faults:
        raise Misshapen("; ".join(faults))
    return value


def _public(cls: type) -> list[str]:
    return [field.name for field in attrs.fields(cls) if not field.name.startswith("_")]


def _schema(kind: Any, definitions: dict[str, Schema], *, sent: bool) -> Schema:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _schema(arguments[0], definitions, sent=sent) | _bounds(kind)
    if origin in (types.UnionType, Union):
        choices = [part for part in arguments if not (sent and part is type(None))]
        schemas = [_schema(part, definitions, sent=sent) for part in choices]
        return schemas[0] if len(schemas) == 1 else {"oneOf" if sent else "anyOf": schemas}
    if origin is Literal:
        return {"const": arguments[0]}
    if origin is tuple and Ellipsis not in arguments:
        items = [_schema(part, definitions, sent=sent) for part in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (tuple, list):
        return {"type": "array", "items": _schema(arguments[0], definitions, sent=sent)}
    if origin is dict:
        return _mapping_schema(arguments, definitions, sent=sent)
    if attrs.has(kind) and kind is not Address:
        return _reference(kind, definitions, sent=sent)
    return _simple(kind)


def _simple(kind: Any) -> Schema:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if kind is bytes:
        return LATENCY
    names = {str: "string", Address: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return {"type": names[kind]}


def _mapping_schema(arguments: tuple[Any, ...], definitions: dict[str, Schema], *, sent: bool) -> Schema:
    key, value = (_schema(part, definitions, sent=sent) for part in arguments)
    schema = {"type": "object", "additionalProperties": value}
    return {**schema, "propertyNames": key, "minProperties": 1} if sent else schema


def _reference(cls: type, definitions: dict[str, Schema], *, sent: bool) -> Schema:
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _object_schema(cls, definitions, sent=sent)
    return {"$ref": REFERENCE + name}


def _object_schema(cls: type, definitions: dict[str, Schema], *, sent: bool) -> Schema:
    hints = get_type_hints(cls, include_extras=True)
    fields = {name: field for field in attrs.fields(cls) if (name := field.name) in _public(cls)}
    keys = {name: field.metadata.get(JSON_KEY, name) for name, field in fields.items()}
    properties = {keys[name]: _schema(hints[name], definitions, sent=sent) for name in fields}
    properties |= {name: {"const": field.default} for name, field in fields.items() if not field.init}
    required = [keys[name] for name, field in fields.items() if not sent or field.default is attrs.NOTHING]
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if cls.__doc__:
        schema["description"] = " ".join(cls.__doc__.split())
    if required:
        schema["required"] = required
    if sent and (one_of := _one_of(cls)):
        schema["oneOf"] = [{"required": [name]} for name in one_of]
    return schema


def _one_of(cls: type) -> tuple[str, ...]:
    """The fields of which just one is given."""
    return getattr(cls, "ONE_OF", ())


def _bounds(kind: Any) -> Schema:
    match kind.__metadata__[0]:
        case Chars(least, most, line):
            return {"minLength": least, "maxLength": most} | ({"pattern": NO_CONTROLS} if line else {})
        case Between(least, most):
            return {"minimum": least, "maximum": most}
        case other:
            raise TypeError(f"{other} is no bound")


def _read(kind: Any, data: object, path: str, faults: list[str]) -> Any:
    """The value; where it is none, faults are added, and what is returned means nothing."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        return _read_choice([part for part in arguments if part is not type(None)], data, path, faults)
    if origin is tuple:
        return _read_tuple(arguments, data, path, faults)
    if origin is dict:
        return _read_mapping(arguments, data, path, faults)
    if attrs.has(kind):
        return _read_object(kind, data, path, faults)
    try:
        return _read_simple(kind, data)
    except ValueError as error:
        faults.append(_at(path, str(error)))
        return None


def _read_simple(kind: Any, data: object) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(_read_simple(arguments[0], data), kind.__metadata__[0])
    if origin is Literal:
        return _one_among(data, {value: value for value in arguments})
    if kind is str:
        return _text(data)
    if kind is bool:
        if type(data) is not bool:
            raise ValueError("write true or false")
        return data
    if kind is float:
        return float(_number(data))
    if kind is int:
        number = _number(data)
        if number != int(number):
            raise ValueError("write a whole number")
        return int(number)
    return _one_among(data, {member.value: member for member in kind})


def _text(data: object) -> str:
    if not isinstance(data, str):
        raise ValueError("write a text")
    try:
        data.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text") from None
    return data


def _number(data: object) -> int | float:
    if type(data) is not int and type(data) is not float:
        raise ValueError("write a number")
    if abs(data) > 2**53:
        raise ValueError("that number is too large")
    return data


def _bounded(value: Any, bound: Chars | Between) -> Any:
    if isinstance(bound, Between):
        if not bound.least <= value <= bound.most:
            raise ValueError(f"write {bound.least:g} to {bound.most:g}")
    elif not bound.least <= len(value) <= bound.most:
        raise ValueError(f"write {bound.least} to {bound.most} characters, not {len(value)}")
    elif bound.line and not re.fullmatch(NO_CONTROLS, value):
        raise ValueError("write one line, without control characters")
    return value


def _one_among(data: object, known: dict[Any, Any]) -> Any:
    if not isinstance(data, str) or data not in known:
        raise ValueError(f"write one of {', '.join(known)}")
    return known[data]


def _read_choice(choices: list[Any], data: object, path: str, faults: list[str]) -> Any:
    """One of several classes, which a Literal field tells apart, or the only one."""
    if len(choices) == 1:
        return _read(choices[0], data, path, faults)
    tag = attrs.fields(choices[0])[0].name
    kinds = {get_args(get_type_hints(choice)[tag])[0]: choice for choice in choices}
    named = data.get(tag) if isinstance(data, dict) else None
    if not isinstance(named, str) or named not in kinds:
        faults.append(f"{_below(path, tag)}: write one of {', '.join(kinds)}")
        return None
    return _read_object(kinds[named], data, path, faults)


def _read_tuple(kinds: tuple[Any, ...], data: object, path: str, faults: list[str]) -> Any:
    if not isinstance(data, list) or len(data) != len(kinds):
        faults.append(f"{path}: write a list of {len(kinds)}")
        return None
    pairs = enumerate(zip(kinds, data, strict=True))
    return tuple(_read(kind, item, f"{path}[{index}]", faults) for index, (kind, item) in pairs)


def _read_mapping(arguments: tuple[Any, ...], data: object, path: str, faults: list[str]) -> Any:
    if not isinstance(data, dict) or not data:
        faults.append(f"{path}: write an object with something in it")
        return None
    key, value = arguments
    return {
        _read(key, name, _below(path, name), faults): _read(value, item, _below(path, name), faults)
        for name, item in data.items()
    }


def _read_object(cls: Any, data: object, path: str, faults: list[str]) -> Any:
    if not isinstance(data, dict):
        faults.append(_at(path, "write an object"))
        return None
    hints, fields = get_type_hints(cls, include_extras=True), attrs.fields_dict(cls)
    before = len(faults)
    faults += [f"{_below(path, name)}: unknown key" for name in data if name not in fields]
    required = [name for name, field in fields.items() if field.default is attrs.NOTHING]
    faults += [f"{_below(path, name)}: is missing" for name in required if name not in data]
    one_of = _one_of(cls)
    if one_of and sum(name in data for name in one_of) != 1:
        faults.append(_at(path, f"write one of {', '.join(one_of)}"))
    values = {name: _read(hints[name], data[name], _below(path, name), faults) for name in fields if name in data}
    return cls(**values) if len(faults) == before else None


def _below(path: str, name: object) -> str:
    """The path of a key; one that would not read well is quoted."""
    step = str(name)
    step = step if re.fullmatch(r"[a-z0-9_-]{1,60}", step) else shown(step)
    return f"{path}.{step}" if path else step


def _at(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message
