"""What the simulated endpoints and the open-loop generator share: an epoll set that is waited on precisely.

`epoll.poll` rounds its timeout up to whole milliseconds, a tenth of a service time. An epoll descriptor can
itself be waited on, and select(2) takes microseconds.
"""

import gc
import math
import select
from collections.abc import Iterable

BATCH = 256
"""Events taken at once; due timers wait for a batch to end, so it must be short."""
LONGEST_WAIT_S = 0.5
LATE_S = 0.005
"""A process whose timers are later than this at the 99th percentile shows its own queue instead of the contender's.
It is a tenth of the smallest p99 that is to be measured."""


def wait(epoll: select.epoll, seconds: float) -> list[tuple[int, int]]:
    """Events, waited for no longer than that."""
    select.select([epoll], [], [], min(LONGEST_WAIT_S, max(0.0, seconds)))
    return epoll.poll(0, BATCH)


def no_pauses() -> None:
    """Keep the cyclic collector away: a run is short, and a collection takes as long as a service."""
    gc.collect()
    gc.disable()


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile; nan of nothing."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)] if ranked else math.nan
