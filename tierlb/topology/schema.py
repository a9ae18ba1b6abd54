"""A JSON Schema (draft 2020-12) of the topology file, made from the classes that read it, for editors to
complete by.

It says what a mapping can say alone: keys, forms, exactly-one-of, keys that need others, l7 keys at l4. What takes
a look at the whole file (names, cycles, ports) or compares quantities is left to `load`; so the schema accepts some
files that `load` refuses, and a little less leniently written ones than it (a number as a name, for one).
"""

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from tierlb.model.topology import Kind, Policy
from tierlb.topology.forms import FORMS, Schema
from tierlb.topology.shapes import AT_MOST_ONE, EXACTLY_ONE, NEEDS, TLS_ONLY, FileShape, RouteShape, TierShape

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> Schema:
    """The schema as plain data, ready for json.dumps."""
    definitions: dict[str, Schema] = {}
    top = _of(FileShape, definitions)
    return {"$schema": DIALECT, "title": "tierlb topology", **top, "$defs": definitions}


def _of(kind: Any, definitions: dict[str, Schema]) -> Schema:
    if kind in FORMS:
        return FORMS[kind].schema
    if attrs.has(kind):
        return _reference(kind, definitions)
    if get_origin(kind) is tuple:
        return {"type": "array", "minItems": 1, "items": _of(get_args(kind)[0], definitions)}
    if get_origin(kind) is dict:
        key, value = (_of(part, definitions) for part in get_args(kind))
        return {"type": "object", "minProperties": 1, "propertyNames": key, "additionalProperties": value}
    assert get_origin(kind) in (types.UnionType, Union), kind
    choices = [_of(part, definitions) for part in get_args(kind) if part is not type(None)]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _reference(cls: type, definitions: dict[str, Schema]) -> Schema:
    name = cls.__name__.removesuffix("Shape").lower()
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _mapping(cls, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _mapping(cls: type, definitions: dict[str, Schema]) -> Schema:
    hints, fields = get_type_hints(cls), attrs.fields(cls)
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            field.name: {"description": field.metadata["about"], **_of(hints[field.name], definitions)}
            for field in fields
        },
    }
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    if required:
        schema["required"] = required
    return schema | _choices(cls) | (_l4_only() | _tier_conditions() if cls is TierShape else {})


def _choices(cls: type) -> Schema:
    choices: Schema = {}
    if cls in EXACTLY_ONE:
        choices["oneOf"] = [{"required": [key]} for key in EXACTLY_ONE[cls]]
    if cls in AT_MOST_ONE:
        choices["not"] = {"required": list(AT_MOST_ONE[cls])}
    if cls in NEEDS:
        choices["dependentRequired"] = {key: [needed] for key, needed in NEEDS[cls].items()}
    if cls in TLS_ONLY:
        has_tls = {"properties": {"etcd": {"pattern": "^etcds://"}}}
        choices["dependentSchemas"] = dict.fromkeys(TLS_ONLY[cls], has_tls)
    return choices


def _tier_conditions() -> Schema:
    hashes = {"properties": {"balance": {"const": Policy.MAGLEV.value}}, "required": ["balance"]}
    alone = {"properties": {"replicas": {"maximum": 1}}}
    return {"dependentSchemas": {"hash_on": hashes, "agent_check": alone}}


def _l4_only() -> Schema:
    is_l4 = {"properties": {"kind": {"const": Kind.L4.value}}, "required": ["kind"]}
    return {"if": is_l4, "then": {"properties": _without_l7_keys(TierShape)}}


def _without_l7_keys(cls: type) -> Schema:
    """`false` for each key that only l7 tiers have, at any depth below the class."""
    hints = get_type_hints(cls)
    forbidden: Schema = {}
    for field in attrs.fields(cls):
        nested = next((part for part in get_args(hints[field.name]) if attrs.has(part)), None)
        if field.metadata.get("l7_only"):
            forbidden[field.name] = False
        elif nested is not None and nested is not RouteShape:
            forbidden[field.name] = {"properties": _without_l7_keys(nested)}
    return forbidden
