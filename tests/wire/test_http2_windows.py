"""Windows: what may come, and when credit is announced."""

from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.http2_windows import ReceiveWindow


def test_more_than_the_window_is_refused() -> None:
    window = ReceiveWindow(10)
    assert window.take(10)
    assert not window.take(1)


def test_credit_is_announced_in_portions_of_half_a_window() -> None:
    window = ReceiveWindow(10)
    window.take(8)
    assert window.give(4) == 0
    assert window.give(1) == 5
    assert window.left == 7


@given(st.lists(st.integers(1, 50), max_size=100))
def test_a_peer_that_keeps_to_the_window_never_waits_for_ever(pieces: list[int]) -> None:
    window, allowed = ReceiveWindow(50), 50
    for size in pieces:
        while size:
            part = min(size, allowed)
            assert part > 0, "all was passed on, so there is credit"
            assert window.take(part)
            allowed += window.give(part) - part
            assert allowed == window.left
            size -= part
