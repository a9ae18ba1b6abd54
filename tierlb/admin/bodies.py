"""What may be sent to the admin API: one class for each body, with its bounds. The verbs are those of the topology.

`who` names the client, for the history; it proves nothing. `expected` is the revision of the history that the change
was made from: if another one is current by now, nothing is done. With `dry_run` nothing is done either, and the answer
is what would be.
"""

from typing import Annotated, ClassVar

import attrs

from tierlb.controller.changes import DEADLINE_S, Request
from tierlb.topology.forms import Switch, decimal, json_text, whole
from tierlb.topology.parts import MAX_CHARS
from tierlb.topology.typed import exactly_one
from tierlb.topology.verbs import GivenName, Verb

MAX_WHY_CHARS = 500
MAX_WHO_CHARS = 64
UNNAMED = "somebody"
"""The author in the history where a client names none."""
LONGEST_DEADLINE_S = 3600.0

Text = Annotated[str, json_text(0, MAX_CHARS + 1, one_line=False)]
"""One more character than is read of a file, so that too long a text is refused in the same words."""
Who = Annotated[str, json_text(1, MAX_WHO_CHARS)]
Why = Annotated[str, json_text(0, MAX_WHY_CHARS)]
RevisionNumber = Annotated[int, whole(1, 10**9)]
Deadline = Annotated[float, decimal(1.0, LONGEST_DEADLINE_S, "a number of seconds", " seconds")]


@attrs.frozen
class PlanBody:
    """A whole topology file, or an edit of the active one."""

    RULES: ClassVar = (exactly_one("text", "edit"),)
    EXAMPLE: ClassVar = {"edit": {"verb": "scale", "replicas": {"web": 3}}}
    text: Text | None = None
    edit: Verb | None = None


@attrs.frozen(kw_only=True)
class ChangeBody:
    """The keys of every change of the topology."""

    who: Who = UNNAMED
    why: Why = ""
    expected: RevisionNumber | None = None
    dry_run: Switch = False
    deadline_s: Deadline = DEADLINE_S

    @property
    def request(self) -> Request:
        """For controller/changes.py."""
        return Request(self.who, self.why, self.expected, self.deadline_s)


@attrs.frozen(kw_only=True)
class ApplyBody(ChangeBody):
    """A whole topology file."""

    EXAMPLE: ClassVar = {"text": "cluster: shop\n…", "who": "ann", "why": "as reviewed", "expected": 7}
    text: Text


@attrs.frozen(kw_only=True)
class EditBody(ChangeBody):
    """A verb, carried out on the active revision."""

    EXAMPLE: ClassVar = {
        "edit": {"verb": "tier-add", "name": "cache", "kind": "l7", "between": ["edge", "web"], "replicas": 2},
        "who": "ann",
        "dry_run": True,
    }
    edit: Verb


@attrs.frozen(kw_only=True)
class RollbackBody(ChangeBody):
    """An old revision, whose text and admin states are applied anew."""

    EXAMPLE: ClassVar = {"number": 1, "who": "ann", "deadline_s": 30}
    number: RevisionNumber


@attrs.frozen
class RestartBody:
    """A tier whose nodes get new processes, one after the other."""

    EXAMPLE: ClassVar = {"tier": "web", "who": "ann"}
    tier: GivenName
    who: Who = UNNAMED

    @property
    def request(self) -> Request:
        """For controller/changes.py."""
        return Request(self.who)
