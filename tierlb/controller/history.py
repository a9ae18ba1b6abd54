"""Which topologies the cluster was asked to be, by which user and why; and the apply that is on its way.

A history is a value. Each change names the revision that it was made from (compare-and-swap). So of two users who edit
at the same time, the second gets a conflict instead of undoing the work of the first. A failed apply moves `active`
back and leaves its revision in the list. Going back to an old revision accepts its text anew, so that the list shows
the user and the reason.

Left out: where this is kept (store.py), and how a revision is carried out.
"""

import enum
from collections.abc import Iterable, Sequence, Set
from datetime import UTC, datetime
from difflib import SequenceMatcher
from itertools import takewhile

import attrs

from tierlb.controller.admin_states import AdminStates

KEPT_REVISIONS = 200
KEPT_CHARACTERS = 4 * 2**20
"""The whole history is written at every change, so it stays small: 16 of the largest files that are read at all."""
LATEST_S = 253402300799.0
"""The end of the year 9999, the last moment that can be shown as a date."""


class Conflict(ValueError):  # noqa: N818 (a verdict on the request: another one was first)
    """The change was made from a revision that is not the current one."""


class UnknownRevision(LookupError):  # noqa: N818 (a verdict on the request)
    """There is no such revision, or none any more."""


@attrs.frozen
class Revision:
    """One accepted topology file, and what is wanted of nodes and agents beside it. `when` is in Unix seconds; `base`
    the revision it was made from (0: none)."""

    number: int
    text: str
    who: str
    why: str
    when: float
    base: int = 0
    admin_states: AdminStates = ()

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.base < self.number:
            raise ValueError(f"revision {self.number} cannot be made from revision {self.base}")
        if not 0 <= self.when <= LATEST_S:
            raise ValueError(f"revision {self.number} was made at {self.when}, which is no date")

    @property
    def characters(self) -> int:
        """What it adds to the size of the whole."""
        states = sum(len(each.group) + len(each.name) for each in self.admin_states)
        return len(self.text) + len(self.who) + len(self.why) + states


@attrs.frozen
class HistoryRow:
    """A revision as `tierlb history` shows it.

    `added` and `removed` count lines against the base, None if that is kept no more. `undone`: it is not active, and
    nothing was made from it.
    """

    number: int
    when: float
    who: str
    why: str
    added: int | None
    removed: int | None
    active: bool
    undone: bool


@attrs.frozen
class History:
    """The revisions that are kept, newest last, and the number of the one the cluster should be (0: none yet)."""

    revisions: tuple[Revision, ...] = ()
    active: int = 0

    def __attrs_post_init__(self) -> None:
        numbers = [revision.number for revision in self.revisions]
        if numbers != sorted(set(numbers)):
            raise ValueError("the revisions are not in order")
        if self.active not in (numbers or [0]):
            raise ValueError(f"the active revision {self.active} is not among the revisions")

    @property
    def current(self) -> Revision | None:
        """The active revision."""
        return self.get(self.active) if self.revisions else None

    def get(self, number: int) -> Revision:
        """The revision with this number; raises UnknownRevision."""
        for revision in self.revisions:
            if revision.number == number:
                return revision
        raise UnknownRevision(f"there is no revision {number}: {_what_exists(self.revisions)}")

    @property
    def admin_states(self) -> AdminStates:
        """The admin states of nodes and agents in the active revision."""
        return self.get(self.active).admin_states if self.revisions else ()

    def accept(
        self, text: str, who: str, why: str, when: float, expected: int | None, admin_states: AdminStates = ()
    ) -> "History":
        """With a new revision, active from now on; raises Conflict unless it was made from the active one (`expected`;
        None: whatever that is). Old revisions are dropped, but never the one it was made from: an apply that fails
        goes back to it."""
        if expected is not None and expected != self.active:
            raise Conflict(_conflict(self.current, expected))
        number = self.revisions[-1].number + 1 if self.revisions else 1
        revision = Revision(number, text, who, why, when, self.active, admin_states)
        return History(_bounded_revisions((*self.revisions, revision), {number, self.active}), number)

    def has_text(self, text: str) -> bool:
        """Whether this text was a revision, as far as they are kept."""
        return any(revision.text == text for revision in self.revisions)

    def activate(self, number: int) -> "History":
        """With another of its revisions active, where an apply failed; raises UnknownRevision."""
        return attrs.evolve(self, active=self.get(number).number)

    def rows(self) -> tuple[HistoryRow, ...]:
        """All revisions for a person, newest last."""
        texts = {0: "", **{revision.number: revision.text for revision in self.revisions}}
        bases = {revision.base for revision in self.revisions}
        return tuple(self._row(revision, texts.get(revision.base), bases) for revision in self.revisions)

    def _row(self, revision: Revision, before: str | None, bases: Set[int]) -> HistoryRow:
        added, removed = (None, None) if before is None else changed_lines(before, revision.text)
        active = revision.number == self.active
        undone = not active and revision.number not in bases
        return HistoryRow(revision.number, revision.when, revision.who, revision.why, added, removed, active, undone)


class RolloutOutcome(enum.Enum):
    """How far an apply is."""

    RUNNING = "running"
    DONE = "done"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"


UNDER_WAY = (RolloutOutcome.RUNNING, RolloutOutcome.ROLLING_BACK)


@attrs.frozen
class Rollout:
    """An apply from revision `previous` to `target`, kept so that a controller that was killed in the middle goes on.

    `stage` is the step that it is in, and `reason` why it was given up. `deadline_s` is when the step must have
    succeeded, in Unix seconds because it has to outlive the process. The first revision of all has no rollout: there is
    nothing to go back to.
    """

    target: int
    previous: int
    deadline_s: float
    stage: int = 0
    outcome: RolloutOutcome = RolloutOutcome.RUNNING
    reason: str = ""

    def __attrs_post_init__(self) -> None:
        if self.target < 1 or self.previous < 1 or self.stage < 0:
            raise ValueError(f"no apply goes from revision {self.previous} to {self.target} by stage {self.stage}")

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.outcome not in UNDER_WAY

    def reach(self, stage: int) -> "Rollout":
        """In another stage."""
        return attrs.evolve(self, stage=stage)


def changed_lines(before: str, after: str) -> tuple[int, int]:
    """How many lines were added and removed. A line that changed counts as both, and so does one that moved: the order
    of routes matters. Where hundreds of lines repeat, the counts may be higher than a patient diff's."""
    old, new = before.splitlines(), after.splitlines()
    head = _common_lines(old, new)
    tail = _common_lines(reversed(old[head:]), reversed(new[head:]))
    old, new = old[head : len(old) - tail], new[head : len(new) - tail]
    same = sum(block.size for block in SequenceMatcher(None, old, new).get_matching_blocks())
    return len(new) - same, len(old) - same


def moment(when: float) -> str:
    """Unix seconds as a person reads them."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _common_lines(one: Iterable[str], other: Iterable[str]) -> int:
    """How many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _bounded_revisions(revisions: Sequence[Revision], needed: Set[int]) -> tuple[Revision, ...]:
    """The needed revisions and as many of the newest others as there is room for."""
    room = KEPT_REVISIONS - sum(revision.number in needed for revision in revisions)
    characters = KEPT_CHARACTERS - sum(revision.characters for revision in revisions if revision.number in needed)
    kept = []
    for revision in reversed(revisions):
        if revision.number not in needed:
            room, characters = room - 1, characters - revision.characters
        if revision.number in needed or (room >= 0 and characters >= 0):
            kept.append(revision)
    return tuple(reversed(kept))


def _conflict(current: Revision | None, expected: int) -> str:
    if current is None:
        return f"this was made from revision {expected}, but there is no revision yet: apply it without naming one"
    return (
        f"this was made from revision {expected}, but the current one is {current.number}, by {current.who} at "
        f"{moment(current.when)} ({current.why or 'no reason given'}): see what changed with `tierlb history`, make "
        f"your change again from revision {current.number}, then apply"
    )


def _what_exists(revisions: Sequence[Revision]) -> str:
    """`kept are 3, 7 to 204`."""
    runs: list[tuple[int, int]] = []
    for number in (revision.number for revision in revisions):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    texts = (str(first) if first == last else f"{first} to {last}" for first, last in runs)
    return f"kept are {', '.join(texts)}" if runs else "there is none yet"
