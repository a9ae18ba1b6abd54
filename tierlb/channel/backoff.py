"""How long to wait before the next attempt: doubling from short to long, forgotten after a good while.

Pure; the caller sleeps, and adds jitter where many would otherwise come back together.
"""

import attrs

FIRST_S = 0.1
LONGEST_S = 10.0
FORGIVEN_AFTER_S = 10.0
"""What ran this long had no fault that is still there, so the next failure is treated as a first one."""


@attrs.define
class Backoff:
    """The waits between attempts of one thing."""

    first_s: float = FIRST_S
    longest_s: float = LONGEST_S
    forgiven_after_s: float = FORGIVEN_AFTER_S
    failures: int = 0

    def wait_s(self, lasted_s: float) -> float:
        """The wait after an attempt that worked for `lasted_s` (0 when it failed at once)."""
        if lasted_s >= self.forgiven_after_s:
            self.failures = 0
        wait = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return wait
