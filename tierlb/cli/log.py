"""Events as lines on stderr: readable on a terminal, JSON elsewhere; one event, one line, one write.

structlog takes a tenth of a second of processor time to import, as it brings rich and asyncio along. A
command that logs nothing does not pay for that: it is imported at the first event, or by `warm` before a node
serves, so that no event has to wait for it while traffic flows.
"""

import sys
from typing import Any

import attrs


@attrs.define
class LazyLog:
    """A structlog logger with `bound` fields on every event, imported at the first one."""

    bound: dict[str, str] = attrs.field(factory=dict)
    _logger: Any = attrs.field(default=None, init=False)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self.warm().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something failed that mends itself."""
        self.warm().warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed that a person must mend."""
        self.warm().error(event, **fields)

    def warm(self) -> Any:
        """Import structlog now."""
        if self._logger is None:
            self._logger = _make_logger(self.bound)
        return self._logger


def _make_logger(bound: dict[str, str]) -> Any:
    import structlog

    on_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal)
    logger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[structlog.processors.add_log_level, stamp, renderer],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return logger.bind(**bound)
