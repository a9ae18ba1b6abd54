"""How far a change is: what whoever follows it is told."""

import time

import attrs

MAX_LINES = 200


@attrs.frozen
class Line:
    """Something that happened: seconds since the change began, and what."""

    at_s: float
    text: str


@attrs.define
class Progress:
    """One change, as far as it is. `outcome` is running, done, rolled back or failed; `revision` its number in the
    history (0 for a restart, which changes no text), `number` its own among the changes since the start."""

    what: str
    revision: int
    who: str
    stage: int = 0
    stages: int = 0
    outcome: str = "running"
    reason: str = ""
    lines: list[Line] = attrs.field(factory=list)
    number: int = 0
    _began_s: float = attrs.field(factory=time.monotonic)

    def say(self, text: str) -> None:
        """Note what happens."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(Line(round(time.monotonic() - self._began_s, 2), text))

    @property
    def over(self) -> bool:
        return self.outcome != "running"
