"""Answers of the admin API: values as JSON that caches do not keep."""

import json
from typing import Any

from tierlb.admin.refusals import RequestRefused
from tierlb.net.http_server import HttpAnswer
from tierlb.topology.typed import plain

FIELDS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def json_answer(value: Any, status: int = 200, fields: dict[str, str] | None = None) -> HttpAnswer:
    """A value, in ASCII, so that any text that a client sent can be sent back."""
    content = json.dumps(plain(value), allow_nan=False, separators=(",", ":")).encode()
    return HttpAnswer(status, content, "application/json", {**FIELDS, **(fields or {})})


def text_answer(text: str, status: int = 200) -> HttpAnswer:
    """Plain text."""
    return HttpAnswer(status, text.encode(), "text/plain; charset=utf-8")


def refused_answer(refused: RequestRefused) -> HttpAnswer:
    """The answer to a request that is refused."""
    return json_answer(refused.refusal, refused.status, refused.fields)
