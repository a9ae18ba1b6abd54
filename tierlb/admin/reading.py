"""A request's body: as JSON, not too large, and of the shape that is asked for."""

import json
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect, Request

from tierlb.admin.refusals import Refused
from tierlb.topology.load import MAX_FILE_BYTES
from tierlb.topology.problems import path_text
from tierlb.topology.reading import read

MAX_BODY_BYTES = MAX_FILE_BYTES + 64 * 1024
"""The largest file that is read at all, and what is said beside it."""


def read_json(kind: Any, data: object) -> Any:
    """A value of the kind from parsed JSON. Raises Refused, which names all that is wrong, each with its path."""
    reading = read(kind, data)
    if reading.faults:
        pairs = ((path_text(fault.path), fault.message) for fault in reading.faults)
        text = "; ".join(f"{path}: {message}" if path else message for path, message in pairs)
        raise Refused(400, "request", text)
    return reading.value


async def read_body(request: Request, kind: Any) -> Any:
    """A value of the kind. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "request", "send JSON, with Content-Type: application/json")
    return read_json(kind, _parse(await _bytes(request)))


async def _bytes(request: Request) -> bytes:
    _check_size(int(length) if (length := request.headers.get("content-length", "0")).isdecimal() else 0)
    content = bytearray()
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                content += chunk
                _check_size(len(content))
    except ClientDisconnect as gone:
        raise Refused(400, "request", "the request ended before its body did") from gone
    return bytes(content)


def _check_size(count: int) -> None:
    if count > MAX_BODY_BYTES:
        raise Refused(413, "request", f"at most {MAX_BODY_BYTES} bytes are read")


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "request", f"not JSON: {error}"[:200]) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")
