"""A memo keeps what repeats, and only that."""

from tierlb.wire.memo import LONGEST_KEY_BYTES, SEEN_ONCE, Memo


def test_a_value_is_kept_from_its_second_offer_on() -> None:
    memo: Memo[int] = Memo(8)
    memo.offer(b"a", 1)
    assert memo.kept == {}
    memo.offer(b"a", 2)
    assert memo.kept == {b"a": 2}


def test_keys_that_never_repeat_are_not_kept_and_push_nothing_out() -> None:
    memo: Memo[int] = Memo(8)
    for _ in range(2):
        memo.offer(b"often", 0)
    for number in range(3 * SEEN_ONCE):
        memo.offer(b"%d" % number, number)
    assert memo.kept == {b"often": 0}


def test_no_more_than_its_size_is_kept() -> None:
    memo: Memo[int] = Memo(8)
    for number in range(100):
        for _ in range(2):
            memo.offer(b"%d" % number, number)
        assert 1 <= len(memo.kept) <= 8
    assert memo.kept[b"99"] == 99


def test_long_keys_are_never_kept() -> None:
    memo: Memo[int] = Memo(8)
    for _ in range(3):
        memo.offer(b"x" * (LONGEST_KEY_BYTES + 1), 1)
    assert memo.kept == {}
