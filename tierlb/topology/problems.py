"""What is wrong with a topology file, and where: values to print, to sort and to send.

A reader of the file wants all problems in one go. Each has a place an editor can jump to, the path of keys that leads
there, and a guess at what was meant.
"""

import difflib
import re
from collections.abc import Iterable
from itertools import islice

import attrs

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file: ("tiers", "web", "routes", 0, "to")."""

PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
COMPARED_NAMES = 300
"""difflib is slow; beyond this many names a guess is worth less than the wait."""


@attrs.frozen(order=True)
class Problem:
    """One thing to correct. Lines and columns count from 1, as editors do; `path` may be empty. A `warning` does not
    keep the file from being run."""

    file: str
    line: int
    column: int
    path: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        subject = f"{self.path}: " if self.path else ""
        kind = "warning: " if self.warning else ""
        return f"{self.file}:{self.line}:{self.column}: {kind}{subject}{self.message}"

    def as_json(self) -> dict[str, object]:
        """For programs."""
        plain = attrs.asdict(self, filter=lambda field, _: field.name != "warning")
        return {"severity": "warning" if self.warning else "error", **plain}


class TopologyError(Exception):
    """The file cannot be used; `problems` are all its faults, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@attrs.frozen
class Fault:
    """A problem that has a path but no place yet. `at_key`: the key is wrong rather than its value."""

    path: Path
    message: str
    at_key: bool = False


def path_text(path: Path) -> str:
    """`tiers.web.routes[0].to`; keys that would not read well in it are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if PLAIN_KEY.fullmatch(step) else repr(step[:60]))
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'app'?)`, or nothing if no known name is near."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant, if any is near."""
    if len(word) > 60:
        return None
    near = difflib.get_close_matches(word.lower(), islice(known, COMPARED_NAMES), n=1)
    return near[0] if near else None
