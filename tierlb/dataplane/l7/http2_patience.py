"""How much work for nothing the client of one connection of HTTP/2 may cause. Pure.

Streams that are reset as soon as they were opened (CVE-2023-44487, and by errors of the client that make this node
reset them, CVE-2025-8671), pings, settings, priorities, empty frames and tiny windows cost this node more than the
client. Each is charged. Work that is done for the client, and time, earn credit; without credit the connection ends
with ENHANCE_YOUR_CALM. Updates of windows and pings in return for DATA cost nothing (`Output.is_in_return`).
"""

from typing import Final

MOST_CREDIT: Final = 2000.0
"""A page that is left cancels some hundred streams at once."""
CREDIT_PER_S: Final = 100.0
RESET: Final = 10.0
"""A stream that ended unanswered by the client's doing."""
TOO_LARGE: Final = 50.0
"""A request head over the limits, which took as long to decode as many that are not."""
NEEDLESS: Final = 1.0
"""A frame that moves nothing."""
RESPONSE: Final = 10.0
"""Credit for a response that was handed over whole: clients may cancel half of their requests for ever."""
UPLOADED_BYTE: Final = 1 / 4096
"""Credit for a byte of the body of a request that an exchange took."""


class Patience:
    """Times are by any one clock."""

    __slots__ = ("_at", "_credit")

    def __init__(self, now: float) -> None:
        self._credit = MOST_CREDIT
        self._at = now

    def charge(self, now: float, cost: float) -> bool:
        """Whether there was so much credit."""
        self._credit = min(MOST_CREDIT, self._credit + (now - self._at) * CREDIT_PER_S) - cost
        self._at = now
        return self._credit >= 0.0

    def earn(self, credit: float) -> None:
        self._credit += credit
