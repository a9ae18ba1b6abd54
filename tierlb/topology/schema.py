"""JSON Schema (draft 2020-12) of typed classes, and that of the topology file, for editors to complete by.

It covers what one mapping shows alone: keys, forms, conditions between keys, l7 keys at l4. What needs the whole file
(names, cycles, ports) or compares quantities is left to `load`. So the schema of the file accepts some files that
`load` refuses. It is also a little stricter about how values are written (a number as a name, for one).
"""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import attrs

from tierlb.model.address import Transport
from tierlb.model.topology import Kind
from tierlb.topology.shapes import FileShape, TierShape
from tierlb.topology.typed import Key, Schema, choices_of, form_of, is_mapping, is_union, keys_of, rules_of, tag_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFINITIONS = "#/$defs/"


@attrs.frozen
class Describer:
    """Schemas of types; those of classes go to `definitions`, by their names.

    `reads`: of what is read, where null is no value and keys with a default may be left out. Otherwise of what is
    written, where every key is there. `simple`: schemas of types that are only written.
    """

    reference: str
    definitions: dict[str, Schema]
    reads: bool = True
    simple: dict[Any, Schema] = attrs.field(factory=dict)
    name_of: Callable[[type], str] = lambda cls: cls.__name__

    def schema(self, kind: Any) -> Schema:
        """The schema of a type."""
        if kind in self.simple:
            return self.simple[kind]
        if (form := form_of(kind)) is not None:
            return form.schema
        origin, parts = get_origin(kind), get_args(kind)
        if is_union(kind):
            return self._union(kind)
        if origin in (tuple, list):
            return self._list(parts if origin is tuple else (*parts, ...))
        if origin is dict:
            return self._by_name(parts)
        return {"const": parts[0]} if origin is Literal else self._reference(kind)

    def _union(self, kind: Any) -> Schema:
        parts = choices_of(kind) if self.reads else get_args(kind)
        choices = [self.schema(part) for part in parts]
        if len(choices) == 1:
            return choices[0]
        return {"oneOf" if all(is_mapping(part) and tag_of(part) for part in parts) else "anyOf": choices}

    def _list(self, kinds: tuple[Any, ...]) -> Schema:
        if kinds[-1] is Ellipsis:
            return {"type": "array", **({"minItems": 1} if self.reads else {}), "items": self.schema(kinds[0])}
        items = [self.schema(kind) for kind in kinds]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _by_name(self, kinds: tuple[Any, ...]) -> Schema:
        key, value = map(self.schema, kinds)
        bounds = {"minProperties": 1, "propertyNames": key} if self.reads else {}
        return {"type": "object", **bounds, "additionalProperties": value}

    def _reference(self, cls: type) -> Schema:
        name = self.name_of(cls)
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self._mapping(cls)
        return {"$ref": self.reference + name}

    def _mapping(self, cls: type) -> Schema:
        keys, tag = keys_of(cls), tag_of(cls)
        properties = {tag[0]: {"const": tag[1]}} if tag else {}
        properties |= {name: self._key(key) for name, key in keys.items()}
        required = [tag[0]] if tag else []
        required += [name for name, key in keys.items() if key.is_required or not self.reads]
        schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
        if cls.__doc__:
            schema["description"] = " ".join(cls.__doc__.split())
        if required:
            schema["required"] = required
        for rule in rules_of(cls) if self.reads else ():
            schema |= rule.schema
        return schema

    def _key(self, key: Key) -> Schema:
        if not key.field.init:
            return {"const": key.field.default}
        about = key.field.metadata.get("about")
        return {**({"description": about} if about else {}), **self.schema(key.kind)}


def json_schema() -> Schema:
    """The schema of the topology file as plain data, ready for json.dumps."""
    definitions: dict[str, Schema] = {}
    file = Describer(DEFINITIONS, definitions, name_of=lambda cls: cls.__name__.removesuffix("Shape").lower())
    top = file.schema(FileShape)
    definitions["tier"] |= {"allOf": [_by_kind(), _udp_only(), _one_route()]}
    return {"$schema": DIALECT, "title": "tierlb topology", **top, "$defs": definitions}


def _by_kind() -> Schema:
    is_l4 = {"properties": {"kind": {"const": Kind.L4.value}}, "required": ["kind"]}
    is_l7 = {"properties": {"kind": {"const": Kind.L7.value}}, "required": ["kind"]}
    return {
        "if": is_l4,
        "then": {"properties": _without_keys(TierShape, "l7_only")},
        "else": {"if": is_l7, "then": {"properties": _without_keys(TierShape, "l4_only")}},
    }


def _udp_only() -> Schema:
    is_udp = {"properties": {"protocol": {"const": Transport.UDP.value}}, "required": ["protocol"]}
    return {"if": is_udp, "then": {"properties": {"timeouts": {"properties": {"connect": False}}}}}


def _one_route() -> Schema:
    is_l4 = {"properties": {"kind": {"const": Kind.L4.value}}, "required": ["kind", "to"]}
    return {"if": is_l4, "then": {"properties": {"timeouts": {"properties": {"head": False}}}}}


def _without_keys(cls: type, mark: str) -> Schema:
    """`false` for each key with this mark, at any depth below the class."""
    forbidden: Schema = {}
    for name, key in keys_of(cls).items():
        choices = choices_of(key.kind)
        nested = next((part for part in choices if is_mapping(part)), None)
        item = next((get_args(part)[0] for part in choices if get_origin(part) is tuple), None)
        if key.field.metadata.get(mark):
            forbidden[name] = False
        elif nested is not None and (inner := _without_keys(nested, mark)):
            forbidden[name] = {"properties": inner}
        elif item is not None and is_mapping(item) and (inner := _without_keys(item, mark)):
            forbidden[name] = {"items": {"properties": inner}}
    return forbidden
