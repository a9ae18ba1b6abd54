"""Responses of the admin API: values as JSON that is never kept by anybody in between."""

import json
from typing import Any

from starlette.responses import JSONResponse

from tierlb.admin.shapes import plain

FIELDS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Answer(JSONResponse):
    """A value, in ASCII, so that whatever somebody wrote can be sent back."""

    def __init__(self, value: Any, status: int = 200, fields: dict[str, str] | None = None) -> None:
        super().__init__(value, status, {**FIELDS, **(fields or {})})

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(plain(content), allow_nan=False, separators=(",", ":")).encode()
