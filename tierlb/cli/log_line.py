"""An event as one line: JSON for programs, and readable on a terminal.

The line for a terminal is structlog's. Importing that takes a tenth of a second of CPU time and 5 MiB, because it
imports rich and asyncio, so a process that writes to a pipe or a file does without it.
"""

import json
import traceback
from datetime import UTC, datetime
from typing import Any

from tierlb.cli.printable import printable


def json_line(level: str, fields: dict[str, Any]) -> str:
    """The fields as one JSON object. A value that JSON does not know is written as its `repr`."""
    error = fields.pop("exc_info", None)
    stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {**fields, "level": level, "timestamp": stamp}
    if error is not None:
        line["exception"] = "".join(traceback.format_exception(error)).removesuffix("\n")
    return json.dumps(line, default=repr)


class TerminalLine:
    """Renders events with structlog, which is imported here."""

    def __init__(self) -> None:
        import structlog

        self._render = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)

    def __call__(self, level: str, fields: dict[str, Any]) -> str:
        """The line with colours. A traceback follows on lines of its own."""
        stamp = datetime.now().astimezone().strftime("%H:%M:%S")
        return self._render(None, level, {**_without_control(fields), "level": level, "timestamp": stamp})


def _without_control(fields: dict[str, Any]) -> dict[str, Any]:
    """Remove control characters from text of other processes, so that it moves no cursor and begins no line."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}
