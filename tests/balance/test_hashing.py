"""The hash is part of what nodes agree on, so its values are fixed."""

import pytest

from tierlb.balance.hashing import stable_hash


@pytest.mark.parametrize(
    ("text", "expected"), [(b"", 0xE4A6A0577479B2B4), (b"10.0.0.1", 0x538EF646E14D03E6), (b"alice", 0x4DEAEC0CCE54DA89)]
)
def test_the_values_never_change(text: bytes, expected: int) -> None:
    assert stable_hash(text) == expected
