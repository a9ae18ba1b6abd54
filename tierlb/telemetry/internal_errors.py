"""Errors of this program that were caught by a barrier: counted by place, and logged with a traceback at a bounded
rate.

A barrier surrounds whatever can fail by itself: a handler, a tick, a session, a page. The exception ends that item and
nothing else. A failure that repeats is logged at its first, tenth, hundredth … occurrence, so that a bug in a handler
that runs a thousand times a second costs a few lines.

Left out: what happens to the item, which the code beside the barrier decides.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol

MAX_SITES = 256
"""Places of failure with log lines of their own. Further ones are only counted."""


class ErrorLog(Protocol):
    """The log for these errors."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log an event that needs the attention of an operator."""


class InternalErrors:
    """One for each process. `counts` holds the number of errors by the name of the barrier."""

    def __init__(self, log: ErrorLog) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._sites: Counter[object] = Counter()

    def note(self, where: str, error: BaseException, **fields: Any) -> None:
        """Count the error, and log it unless the same failure was logged enough."""
        self.counts[where] += 1
        site = (where, type(error), _raised_at(error.__traceback__))
        if site not in self._sites and len(self._sites) >= MAX_SITES:
            return
        self._sites[site] += 1
        times = self._sites[site]
        if _is_power_of_ten(times):
            self._log.error("internal_error", where=where, times=times, **fields, exc_info=error)

    def barrier(self, where: str, **fields: Any) -> AbstractContextManager[None]:
        """Catch every error of the block. Cancellation and the end of the process pass."""
        return barrier(lambda error: self.note(where, error, **fields))


@contextmanager
def barrier(on_error: Callable[[Exception], object]) -> Iterator[None]:
    """Pass an error of the block to `on_error` instead of raising it."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors, others = group.split(Exception)
        if errors is not None:
            on_error(errors)
        if others is not None:
            raise others from None
    except Exception as error:
        on_error(error)


def _raised_at(traceback: TracebackType | None) -> object:
    """The line of code that failed."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return None if traceback is None else (traceback.tb_frame.f_code, traceback.tb_lineno)


def _is_power_of_ten(number: int) -> bool:
    return str(number).strip("0") == "1"
