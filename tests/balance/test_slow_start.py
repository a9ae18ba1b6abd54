"""The ramp of a new child as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.slow_start import slow_start


@pytest.mark.parametrize(
    ("age_s", "part"), [(-5, 0.1), (0, 0.1), (1, 0.2), (2, 0.4), (3, 0.8), (3.5, 1), (4, 1), (1e9, 1)]
)
def test_the_part_doubles_every_second(age_s: float, part: float) -> None:
    assert slow_start(age_s) == pytest.approx(part)


@given(st.floats(0, 10), st.floats(0, 10))
def test_it_never_goes_back(one_s: float, other_s: float) -> None:
    early_s, late_s = sorted((one_s, other_s))
    assert 0.1 <= slow_start(early_s) <= slow_start(late_s) <= 1
