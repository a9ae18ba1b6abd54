"""The list of revisions, who may add to it, and the record of an apply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.controller.history import (
    KEPT_CHARACTERS,
    KEPT_REVISIONS,
    LATEST_S,
    Conflict,
    History,
    Revision,
    Rollout,
    RolloutOutcome,
    UnknownRevision,
    changed_lines,
    moment,
)

NOON = 1767268800.0
"""2026-01-01 12:00:00 UTC."""


def history_of(*texts: str) -> History:
    history = History()
    for text in texts:
        history = history.accept(text, "ann", "why not", NOON, None)
    return history


def numbers(history: History) -> list[int]:
    return [revision.number for revision in history.revisions]


def test_the_first_revision_is_made_from_none() -> None:
    assert History().current is None
    history = History().accept("cluster: a\n", "ann", "start", NOON, 0)
    assert history.current == Revision(1, "cluster: a\n", "ann", "start", NOON, 0)


def test_an_accepted_revision_is_active_and_knows_what_it_was_made_from() -> None:
    history = history_of("a", "b", "c").activate(1).accept("d", "bob", "", NOON, 1)
    assert (history.active, history.get(4).base, history.get(3).base) == (4, 1, 2)


def test_a_history_is_a_value() -> None:
    before = history_of("a")
    before.accept("b", "ann", "", NOON, 1)
    assert numbers(before) == [1]


def test_who_comes_second_is_told_about_the_first_and_what_to_do() -> None:
    history = history_of("a").accept("b", "bob", "more replicas", NOON, 1)
    with pytest.raises(Conflict) as conflict:
        history.accept("c", "ann", "", NOON, 1)
    for part in ("revision 1", "is 2", "by bob", "2026-01-01 12:00:00 UTC", "more replicas", "`tierlb history`"):
        assert part in str(conflict.value)


def test_a_conflict_is_a_value_error_for_those_who_know_no_better() -> None:
    with pytest.raises(ValueError, match="no revision yet"):
        History().accept("a", "ann", "", NOON, 3)


def test_after_a_failed_apply_a_change_is_made_from_what_is_active_again() -> None:
    history = history_of("a", "b").activate(1)
    with pytest.raises(Conflict):
        history.accept("c", "ann", "", NOON, 2)
    assert history.accept("c", "ann", "", NOON, 1).active == 3


def test_the_expected_revision_may_be_left_out() -> None:
    assert history_of("a", "b", "c").active == 3


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (History(), "there is none yet"),
        (history_of("a"), "kept are 1"),
        (history_of(*"abc"), "kept are 1 to 3"),
        (History(tuple(Revision(n, "", "", "", 0) for n in (2, 5, 6)), 6), "kept are 2, 5 to 6"),
    ],
)
def test_who_asks_for_a_revision_that_is_not_there_hears_which_are(history: History, said: str) -> None:
    for ask in (history.get, history.activate):
        with pytest.raises(UnknownRevision, match=f"no revision 99: .*{said}$"):
            ask(99)


def test_old_revisions_are_dropped() -> None:
    history = history_of(*(str(n) for n in range(KEPT_REVISIONS + 50)))
    assert numbers(history) == list(range(51, KEPT_REVISIONS + 51))


def test_neither_the_active_one_nor_the_one_before_is_dropped() -> None:
    history = history_of(*(str(n) for n in range(KEPT_REVISIONS))).activate(1)
    for _ in range(2 * KEPT_REVISIONS):
        history = history.accept("fails", "ann", "", NOON, 1)
        assert {1, history.active} <= set(numbers(history))
        assert len(history.revisions) == KEPT_REVISIONS
        history = history.activate(1)


def test_large_files_leave_room_for_fewer() -> None:
    large = "x" * (KEPT_CHARACTERS // 4)
    history = history_of(*[large] * 10)
    assert numbers(history) == [8, 9, 10]
    huge = "x" * KEPT_CHARACTERS
    assert numbers(history.accept(huge, "ann", "", NOON, None)) == [10, 11]


@pytest.mark.parametrize(
    ("revisions", "active"),
    [
        ((), 1),
        ((Revision(1, "", "", "", 0),), 0),
        ((Revision(1, "", "", "", 0),), 2),
        ((Revision(2, "", "", "", 0), Revision(1, "", "", "", 0)), 1),
        ((Revision(1, "", "", "", 0), Revision(1, "", "", "", 0)), 1),
    ],
)
def test_what_is_no_history_cannot_be_made(revisions: tuple[Revision, ...], active: int) -> None:
    with pytest.raises(ValueError, match="revision"):
        History(revisions, active)


@pytest.mark.parametrize(
    ("number", "base", "when"),
    [(0, 0, 0), (1, 1, 0), (1, 2, 0), (1, -1, 0), (1, 0, -1), (1, 0, float("nan")), (1, 0, LATEST_S + 1)],
)
def test_what_is_no_revision_cannot_be_made(number: int, base: int, when: float) -> None:
    with pytest.raises(ValueError, match="revision"):
        Revision(number, "", "", "", when, base)


@pytest.mark.parametrize(("when", "text"), [(0, "1970-01-01 00:00:00 UTC"), (LATEST_S, "9999-12-31 23:59:59 UTC")])
def test_moments_are_shown_in_one_zone(when: float, text: str) -> None:
    assert moment(when) == text


def test_rows_count_lines_against_the_base() -> None:
    history = history_of("a\nb\n", "a\nB\nc\n").activate(1).accept("b\n", "bob", "less", NOON + 1, 1)
    assert [(row.number, row.added, row.removed) for row in history.rows()] == [(1, 2, 0), (2, 2, 1), (3, 0, 1)]
    last = history.rows()[-1]
    assert (last.who, last.why, last.when) == ("bob", "less", NOON + 1)


def test_rows_say_what_is_active_and_what_came_to_nothing() -> None:
    history = history_of("a", "b").activate(1).accept("c", "ann", "", NOON, 1)
    assert [(row.active, row.undone) for row in history.rows()] == [(False, False), (False, True), (True, False)]


def test_rows_do_not_guess_where_the_base_is_gone() -> None:
    first, second = History((Revision(7, "a", "ann", "", 0, base=6), Revision(8, "b", "ann", "", 0, base=7)), 8).rows()
    assert (first.added, first.removed) == (None, None)
    assert (second.added, second.removed) == (1, 1)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("", "", (0, 0)),
        ("", "a\nb\n", (2, 0)),
        ("a\nb\n", "", (0, 2)),
        ("a\nb\n", "a\nb", (0, 0)),
        ("a\nb\nc\n", "a\nB\nc\n", (1, 1)),
        ("a\nb\nc\n", "c\na\nb\n", (1, 1)),
        ("a\na\n", "a\na\na\n", (1, 0)),
        ("a\na\na\n", "a\n", (0, 2)),
    ],
)
def test_lines_are_counted_as_a_diff_does(before: str, after: str, changed: tuple[int, int]) -> None:
    assert changed_lines(before, after) == changed


def test_a_change_in_a_long_file_full_of_equal_lines_counts_as_one() -> None:
    lines = ["endpoints:", "same"] * 10_000
    assert changed_lines("\n".join(lines), "\n".join([*lines[:9_000], "new", *lines[9_000:]])) == (1, 0)


def longest_common(old: list[str], new: list[str]) -> int:
    """The length of the longest common subsequence, slowly."""
    if not old or not new:
        return 0
    if old[0] == new[0]:
        return 1 + longest_common(old[1:], new[1:])
    return max(longest_common(old[1:], new), longest_common(old, new[1:]))


LINES = st.lists(st.sampled_from("abc"), max_size=7)


@given(LINES, LINES)
def test_what_is_said_to_have_changed_is_enough_to_get_from_one_to_the_other(old: list[str], new: list[str]) -> None:
    added, removed = changed_lines("\n".join(old), "\n".join(new))
    assert longest_common(old, new) >= len(new) - added == len(old) - removed >= 0
    assert ((added, removed) == (0, 0)) == (old == new)


@pytest.mark.parametrize(
    ("outcome", "over"),
    [
        (RolloutOutcome.RUNNING, False),
        (RolloutOutcome.ROLLING_BACK, False),
        (RolloutOutcome.DONE, True),
        (RolloutOutcome.ROLLED_BACK, True),
    ],
)
def test_a_rollout_that_reached_a_stage_is_as_far_as_it_was_otherwise(outcome: RolloutOutcome, over: bool) -> None:
    rollout = Rollout(7, 5, 100.0, outcome=outcome)
    assert (rollout.over, rollout.reach(2)) == (over, Rollout(7, 5, 100.0, 2, outcome))


@pytest.mark.parametrize(("target", "previous", "stage"), [(0, 1, 0), (2, 0, 0), (2, 1, -1)])
def test_what_is_no_apply_cannot_be_made(target: int, previous: int, stage: int) -> None:
    with pytest.raises(ValueError, match="no apply"):
        Rollout(target, previous, 0.0, stage)
