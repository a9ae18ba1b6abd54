"""Which log lines are written when one event happens very often, and how many lines were not written.

Any client that can open a connection can cause log lines. Each kind of event has a token bucket, so that a flood costs
a few lines a second, and the next line that is written says how many were left out. Events of different kinds do not
displace each other.

Pure: the caller passes the time.
"""

from collections import Counter

import attrs

BURST = 100.0
"""Lines of one event at once: the nodes of a large cluster join within a second, and each deserves its line."""
LINES_PER_S = 5.0
MAX_EVENTS = 256
"""The most kinds of events. Their names are constants of this program, about a hundred. A name that is made of data
shares the last bucket."""
OTHER_EVENTS = "other"


@attrs.define
class LogLosses:
    """Lines that were not written: `dropped` because no reader or disk took them, `suppressed` by event because there
    were too many of the kind."""

    dropped: int = 0
    suppressed: Counter[str] = attrs.field(factory=Counter)


@attrs.define
class _Bucket:
    tokens: float
    filled_s: float
    left_out: int = 0


@attrs.define
class LogQuota:
    """One for each process."""

    losses: LogLosses = attrs.field(factory=LogLosses)
    _buckets: dict[str, _Bucket] = attrs.field(factory=dict, init=False)

    def admit(self, event: str, now: float) -> int | None:
        """None if the line is to be left out; otherwise how many of its kind were left out since the last one."""
        if event not in self._buckets and len(self._buckets) >= MAX_EVENTS:
            event = OTHER_EVENTS
        bucket = self._buckets.get(event)
        if bucket is None:
            bucket = self._buckets[event] = _Bucket(BURST, now)
        bucket.tokens = min(BURST, bucket.tokens + max(0.0, now - bucket.filled_s) * LINES_PER_S)
        bucket.filled_s = now
        if bucket.tokens < 1.0:
            bucket.left_out += 1
            self.losses.suppressed[event] += 1
            return None
        bucket.tokens -= 1.0
        left_out, bucket.left_out = bucket.left_out, 0
        return left_out
