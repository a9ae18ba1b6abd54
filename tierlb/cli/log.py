"""Events as lines on stderr: readable on a terminal, JSON elsewhere; one event, one line.

No caller waits for the reader of the lines (line_writer.py), and no flood of one event fills the log
(telemetry/log_quota.py). An error in a line is counted and does not reach the caller.

Importing structlog takes a tenth of a second of CPU time, because it imports rich and asyncio. Commands that log
nothing avoid that: it is imported at the first event, or by `warm` before a node serves, so that no event has to wait
for it during traffic.
"""

import logging
import os
import sys
import time
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import attrs

from tierlb.cli.line_writer import LineWriter
from tierlb.cli.printable import printable
from tierlb.telemetry.log_quota import LogLosses, LogQuota

DROPPED = "log_lines_dropped"
STDOUT, STDERR = 1, 2


@attrs.define
class LazyLog:
    """A structlog logger with `bound` fields on every event, imported at the first one."""

    bound: dict[str, str] = attrs.field(factory=dict)
    losses: LogLosses = attrs.field(factory=LogLosses)
    _writer: LineWriter | None = attrs.field(default=None, init=False)
    _logger: Any = attrs.field(default=None, init=False)

    def info(self, event: str, **fields: Any) -> None:
        """Log a normal event."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log a failure from which the process recovers by itself."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log a failure that needs the attention of an operator."""
        self._log("error", event, fields)

    def warm(self) -> Any:
        """Import structlog now, and log an exception that ends the process: otherwise the interpreter would wait for
        the reader of stderr."""
        if self._logger is None:
            self._writer, self._logger = _make_logger(self.bound, self.losses)
            sys.excepthook = self._report_end
            _log_libraries(self)
        return self._logger

    def flush(self) -> bool:
        """Wait a moment for the lines to be written; whether they were."""
        return self._writer is None or self._writer.flush()

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        try:
            getattr(self.warm(), level)(event, **fields)
        except Exception:
            self.losses.dropped += 1

    def _report_end(self, kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            self.error("process_failed", exc_info=error)


def say(text: str) -> None:
    """Print a message for the user who started the process, without waiting for a terminal that blocks."""
    fd = None if sys.stdout is None else STDOUT
    LineWriter(fd, LogLosses(), lambda lines: f"{lines} lines dropped").write(text)


def _make_logger(bound: dict[str, str], losses: LogLosses) -> tuple[LineWriter, Any]:
    import structlog

    fd = None if sys.stderr is None else STDERR
    on_terminal = fd is not None and os.isatty(fd)
    level = structlog.processors.add_log_level
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal)
    render: list[Any]
    if on_terminal:
        render = [_without_control, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]

    def notice(lines: int) -> str:
        fields: Any = {"event": DROPPED, "lines": lines, **bound}
        for processor in (level, stamp, *render):
            fields = processor(None, "warning", fields)
        return str(fields)

    writer = LineWriter(fd, losses, notice)
    logger = structlog.wrap_logger(
        _LogLines(writer),
        processors=[_fitting(LogQuota(losses)), level, stamp, *render],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return writer, logger.bind(**bound)


def _fitting(quota: LogQuota) -> Any:
    import structlog

    def process(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        left_out = quota.admit(str(fields["event"]), time.monotonic())
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            fields["suppressed"] = left_out
        return fields

    return process


def _without_control(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove control characters from text of other processes, so that it moves no cursor and begins no line."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}


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


class _LogLines:
    """The file object that structlog writes to."""

    def __init__(self, writer: LineWriter) -> None:
        self.info = self.warning = self.error = writer.write
