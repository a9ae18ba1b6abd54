"""A request's body: as JSON, not too large, and of the shape that is asked for."""

import json
from typing import Any

from tierlb.admin.refusals import RequestRefused
from tierlb.net.http_server import BadRequest, HttpRequest
from tierlb.topology.load import MAX_FILE_BYTES
from tierlb.topology.problems import path_text
from tierlb.topology.reading import read_typed

MAX_REQUEST_BODY_BYTES = MAX_FILE_BYTES + 64 * 1024
"""The largest file that is read at all, and the other keys of a body."""


def read_typed_json(kind: Any, data: object) -> Any:
    """A value of the kind from parsed JSON. Raises RequestRefused, which names each fault with its path."""
    reading = read_typed(kind, data)
    if reading.faults:
        pairs = ((path_text(fault.path), fault.message) for fault in reading.faults)
        text = "; ".join(f"{path}: {message}" if path else message for path, message in pairs)
        raise RequestRefused(400, "request", text)
    return reading.value


async def read_body(request: HttpRequest, kind: Any) -> Any:
    """A value of the kind. Raises RequestRefused."""
    types = request.values("content-type") or [""]
    if types[0].partition(";")[0].strip().lower() != "application/json":
        raise RequestRefused(415, "request", "send JSON, with Content-Type: application/json")
    try:
        content = await request.body(MAX_REQUEST_BODY_BYTES)
    except BadRequest as problem:
        raise RequestRefused(problem.status, "request", str(problem)) from problem
    return read_typed_json(kind, _parse_json(content))


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "request", f"not JSON: {error}"[:200]) from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")
