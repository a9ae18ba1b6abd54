"""Events as lines on stderr: readable on a terminal, JSON elsewhere; one event, one line (log_line.py).

No caller waits for the reader of the lines (line_writer.py), and no flood of one event fills the log
(telemetry/log_quota.py). An error in a line is counted and does not reach the caller.

Commands that log nothing start no writer: that is done at the first event, or by `warm` before a node serves, so that
no event has to wait for it during traffic.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import attrs

from tierlb.cli.line_writer import LineWriter
from tierlb.cli.log_line import TerminalLine, json_line
from tierlb.telemetry.log_quota import LogLosses, LogQuota

DROPPED = "log_lines_dropped"
STDOUT, STDERR = 1, 2


@attrs.define
class LazyLog:
    """A logger with `bound` fields on every event. Its writer is made at the first one."""

    bound: dict[str, str] = attrs.field(factory=dict)
    losses: LogLosses = attrs.field(factory=LogLosses)
    _writer: LineWriter | None = attrs.field(default=None, init=False)
    _render: Callable[[str, dict[str, Any]], str] = attrs.field(default=json_line, init=False)
    _quota: LogQuota = attrs.field(
        default=attrs.Factory(lambda self: LogQuota(self.losses), takes_self=True), init=False
    )

    def info(self, event: str, **fields: Any) -> None:
        """Log a normal event."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log a failure from which the process recovers by itself."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log a failure that needs the attention of an operator."""
        self._log("error", event, fields)

    def warm(self) -> LineWriter:
        """Make the writer now, and log an exception that ends the process: otherwise the interpreter would wait for
        the reader of stderr."""
        if self._writer is None:
            fd = None if sys.stderr is None else STDERR
            if fd is not None and os.isatty(fd):
                self._render = TerminalLine()
            self._writer = LineWriter(fd, self.losses, self._notice)
            sys.excepthook = self._report_end
            _log_libraries(self)
        return self._writer

    def flush(self) -> bool:
        """Wait a moment for the lines to be written; whether they were."""
        return self._writer is None or self._writer.flush()

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        try:
            writer = self.warm()
            left_out = self._quota.admit(event, time.monotonic())
            if left_out is not None:
                suppressed = {"suppressed": left_out} if left_out else {}
                writer.write(self._render(level, {**self.bound, **fields, "event": event, **suppressed}))
        except Exception:
            self.losses.dropped += 1

    def _notice(self, lines: int) -> str:
        return self._render("warning", {"event": DROPPED, "lines": lines, **self.bound})

    def _report_end(self, kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            self.error("process_failed", exc_info=error)


def say(text: str) -> None:
    """Print a message for the user who started the process, without waiting for a terminal that blocks."""
    fd = None if sys.stdout is None else STDOUT
    LineWriter(fd, LogLosses(), lambda lines: f"{lines} lines dropped").write(text)


def _log_libraries(log: LazyLog) -> None:
    """Route log records of libraries to this log only."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _OfLibraries)]:
        root.removeHandler(handler)
    root.addHandler(_OfLibraries(log))


class _OfLibraries(logging.Handler):
    """Takes log records of libraries. Without a handler Python would write them to stderr, and wait for the reader."""

    def __init__(self, log: LazyLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._log.warning("library_warning", library=record.name, message=record.getMessage(), exc_info=error)
