"""Responses of the admin API: values as JSON that caches do not keep."""

import enum
import json
from collections.abc import Mapping
from typing import Any

import attrs
from starlette.responses import JSONResponse

from tierlb.model.address import Address
from tierlb.topology.typed import keys_of

FIELDS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Answer(JSONResponse):
    """A value, in ASCII, so that any text that a client sent can be sent back."""

    def __init__(self, value: Any, status: int = 200, fields: dict[str, str] | None = None) -> None:
        super().__init__(value, status, {**FIELDS, **(fields or {})})

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(plain(content), allow_nan=False, separators=(",", ":")).encode()


def plain(value: Any) -> Any:
    """What `json.dumps` takes: addresses and enums as text, attrs values as mappings of their public fields."""
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return {name: plain(getattr(value, name)) for name in keys_of(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
