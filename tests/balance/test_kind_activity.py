"""Which kinds are long, and whether their heads show how fast the host is."""

import pytest

from tierlb.balance.kind_activity import KindActivity

NUMBER = 2


def after(answered: int, streams: int, parked: int, waited: int = 0) -> KindActivity:
    activity = KindActivity()
    activity.answered[NUMBER], activity.answered[NUMBER + 1] = answered, streams
    for _ in range(parked):
        activity.note_parked(NUMBER)
    for _ in range(waited):
        activity.note_waited(NUMBER)
    return activity


@pytest.mark.parametrize(
    ("answered", "streams", "parked", "long"), [(4, 0, 2, False), (4, 0, 3, True), (2, 2, 3, True), (0, 0, 1, True)]
)
def test_a_kind_is_long_if_more_than_half_of_its_items_are_parked(
    answered: int, streams: int, parked: int, long: bool
) -> None:
    activity = after(answered, streams, parked)
    assert activity.long[NUMBER] is long
    assert activity.total(NUMBER) == answered + streams + parked


@pytest.mark.parametrize(
    ("answered", "streams", "waited", "shows"), [(8, 0, 2, True), (8, 0, 3, False), (4, 4, 2, True), (0, 0, 0, False)]
)
def test_heads_show_the_host_if_few_of_them_waited(answered: int, streams: int, waited: int, shows: bool) -> None:
    assert after(answered, streams, 0, waited).heads_show_host(NUMBER) is shows


def test_the_past_counts_for_half_after_a_sweep() -> None:
    activity = after(8, 0, 5)
    long = activity.long
    assert activity.long[NUMBER]
    activity.halve()
    assert (activity.total(NUMBER), activity.long[NUMBER]) == (4 + 2, False)
    assert activity.long is long, "others hold this list"
    activity.forget(NUMBER)
    assert activity.total(NUMBER) == 0
