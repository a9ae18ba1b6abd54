"""Ids of requests in one line of visible characters."""

import pytest

from tierlb.dataplane.l7.request_id import MOST_CHARS, printable_id


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"0af7651916cd43dd", "0af7651916cd43dd"), (b"a b\xff\t", "a?b??"), (b"x" * 1000, "x" * MOST_CHARS), (b"", "")],
)
def test_an_id_is_visible_and_short(value: bytes, text: str) -> None:
    assert printable_id(value) == text
