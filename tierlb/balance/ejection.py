"""When a host that cannot be reached is ejected, and for how long.

Passive outlier ejection as in Envoy, for connects only: a host that refuses, or fails `FAILURES_TO_EJECT` connects in a
row, is ejected for 1 s, doubled with every further ejection up to 30 s (BALANCING.md §5). One success resets that. The
owner probes an ejected host when its time is over, and only a successful probe restores it, so that no client request
is risked. How many may be ejected at once is decided in availability.py.
"""

from typing import Final

FAILURES_TO_EJECT: Final = 5
FIRST_EJECTION_S = 1.0
LONGEST_CONNECT_EJECTION_S: Final = 30.0


class Ejection:
    """One host's record. `until` is 0 while it is not ejected."""

    __slots__ = ("failures", "times", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.times = 0
        self.until = 0.0

    @property
    def ejected(self) -> bool:
        return self.until > 0

    def succeeded(self) -> None:
        self.failures = self.times = 0
        self.until = 0.0

    def tried_again(self) -> None:
        """Its time is over, and traffic is to show whether it works: the next failure ejects it for longer."""
        self.failures = 0
        self.until = 0.0

    def failed(self, now: float, *, refused: bool) -> bool:
        """Note a failed connect (or probe); true if the host is newly ejected, or ejected again.

        One refusal is enough: the machine answered that no process listens there.
        """
        self.failures += 1
        if not refused and not self.ejected and self.failures < FAILURES_TO_EJECT:
            return False
        if self.until > now:
            return False
        self.until = now + ejection_s(self.times)
        self.times += 1
        return True


def ejection_s(times: int) -> float:
    """How long the ejection after `times` earlier ones lasts: 1, 2, 4 … 30 seconds."""
    return float(min(LONGEST_CONNECT_EJECTION_S, FIRST_EJECTION_S * 2 ** min(times, 10)))
