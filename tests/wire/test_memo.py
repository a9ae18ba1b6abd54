"""A memo keeps what repeats, only that, and within its budget."""

import pytest

from tierlb.wire.memo import ENTRY_BYTES, LONGEST_KEY_BYTES, SEEN_ONCE, Memo


def memo_for(entries: int, key_bytes: int = 1) -> Memo[int]:
    """One with room for so many values that take nothing."""
    return Memo(entries * (ENTRY_BYTES + key_bytes))


def twice(memo: Memo[int], key: bytes, value: int, value_bytes: int = 0) -> None:
    for _ in range(2):
        memo.offer(key, value, value_bytes)


def test_a_value_is_kept_from_its_second_offer_on() -> None:
    memo = memo_for(8)
    memo.offer(b"a", 1, 0)
    assert memo.kept == {}
    memo.offer(b"a", 2, 0)
    assert memo.kept == {b"a": 2}


def test_keys_that_never_repeat_are_not_kept_and_push_nothing_out() -> None:
    memo = memo_for(8)
    twice(memo, b"often", 0)
    for number in range(3 * SEEN_ONCE):
        memo.offer(b"%d" % number, number, 0)
    assert b"often" in memo.kept
    assert len(memo.kept) < 4  # two keys of 12 000 may look alike


def test_no_more_than_the_budget_is_kept_and_the_latest_is() -> None:
    memo = memo_for(8, key_bytes=2)
    for number in range(10, 100):
        twice(memo, b"%d" % number, number)
        assert 1 <= len(memo.kept) <= 8
    assert memo.kept[b"99"] == 99


@pytest.mark.parametrize(("value_bytes", "kept"), [(0, 10), (ENTRY_BYTES, 5), (4 * ENTRY_BYTES, 2)])
def test_the_values_count_in_the_budget(value_bytes: int, kept: int) -> None:
    memo: Memo[int] = Memo(10 * ENTRY_BYTES + 10)
    for number in range(kept):
        twice(memo, b"%d" % number, number, value_bytes)
    assert len(memo.kept) == kept
    twice(memo, b"x", 0, value_bytes)
    assert list(memo.kept) == [b"x"]


def test_a_value_larger_than_the_budget_is_not_kept() -> None:
    memo = memo_for(8)
    twice(memo, b"a", 1, 100 * ENTRY_BYTES)
    assert memo.kept == {}
    twice(memo, b"b", 1)
    assert list(memo.kept) == [b"b"]


def test_long_keys_are_never_kept() -> None:
    memo = memo_for(100)
    twice(memo, b"x" * (LONGEST_KEY_BYTES + 1), 1)
    assert memo.kept == {}


def test_a_dict_of_the_callers_own_is_used() -> None:
    own: dict[bytes, int] = {}
    memo = Memo(10 * ENTRY_BYTES, own)
    twice(memo, b"a", 1)
    assert own == {b"a": 1}


def test_what_is_forgotten_leaves_all_of_the_budget() -> None:
    memo = memo_for(8)
    for number in range(5):
        twice(memo, b"%d" % number, number)
    memo.forget()
    assert memo.kept == {}
    for number in range(8):
        twice(memo, bytes([number]), number)
    assert len(memo.kept) == 8
