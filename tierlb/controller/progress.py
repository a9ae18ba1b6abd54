"""How far a change is, for those that follow it."""

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
    """One change, in the name of the user `who`. `outcome` is running, done, rolled back or failed. `revision`: its
    number in the history, 0 for a restart, which changes no text. `number`: its own since the start of the process.
    """

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

    def add(self, text: str) -> None:
        """Note what has happened; lines beyond `MAX_LINES` are dropped."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(Line(round(time.monotonic() - self._began_s, 2), text))

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.outcome != "running"
