"""How long to wait before the next attempt: from short to long by doubling, and short again after a long success.

Pure; the caller sleeps, and adds jitter where many would otherwise retry in the same instant.
"""

import attrs

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
FORGIVEN_AFTER_S = 10.0
"""An attempt that worked for so long had no lasting fault, so the next failure counts as a first one."""


@attrs.define
class Backoff:
    """The waits between attempts of one thing."""

    first_s: float = FIRST_BACKOFF_S
    longest_s: float = LONGEST_BACKOFF_S
    forgiven_after_s: float = FORGIVEN_AFTER_S
    failures: int = 0

    def wait_s(self, lasted_s: float) -> float:
        """The wait after an attempt that worked for `lasted_s` (0 when it failed at once)."""
        if lasted_s >= self.forgiven_after_s:
            self.failures = 0
        wait = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return wait
