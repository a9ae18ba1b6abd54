"""JSON documents in which damage is found: attrs values as plain ones and back, a checksum, a format number.

Nothing is coerced on the way back: a number in quotes was not written here. A document of a newer format is refused. A
field that has a default may be added without a new format.

Left out: where the documents are kept (store.py, etcd_store.py).
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

import cattrs

from tierlb.channel.durable import StoreError

DOCUMENT_FORMAT = 1

T = TypeVar("T")


class Damaged(ValueError):  # noqa: N818 (a verdict on the input)
    """The document is not one that was written here."""


def to_plain(value: object) -> Any:
    """What JSON can hold."""
    return _document_converter.unstructure(value)


def from_plain(plain: object, kind: type[T]) -> T:
    """Raises Damaged."""
    try:
        return _document_converter.structure(plain, kind)
    except (ValueError, TypeError, cattrs.BaseValidationError) as error:
        raise Damaged(_why_misshapen(error)) from None


def parse_document(content: bytes, where: object, advice: str) -> dict[str, Any]:
    """The fields of a document that this version can read. Raises Damaged, and StoreError, with what else there is to
    do in `advice`, if a newer tierlb wrote it."""
    document = _parse_json(content)
    number = document.get("format") if isinstance(document, dict) else None
    if type(number) is not int or number < 1:
        raise Damaged("not a document of tierlb")
    if number > DOCUMENT_FORMAT:
        raise StoreError(
            f"{where} has format {number} and was written by a newer tierlb; this one reads up to {DOCUMENT_FORMAT}: "
            f"start the newer one, or {advice}"
        )
    return dict(document)


def digest(plain: object) -> str:
    """Of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON: {error}") from None


def _why_misshapen(error: Exception) -> str:
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error))[:200]
    return str(error)


def _exactly(kind: type[Any]) -> Callable[[object, object], Any]:
    def read(value: object, _: object) -> Any:
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"is not of type {kind.__name__}")
        return kind(value)

    return read


def _make_document_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for kind in (int, float, str):
        converter.register_structure_hook(kind, _exactly(kind))
    return converter


_document_converter = _make_document_converter()
