import statistics

from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.medians import median, median_low

VALUES = st.lists(st.floats(-1e9, 1e9) | st.integers(-1000, 1000), min_size=1)


@given(VALUES)
def test_medians_are_those_of_the_standard_library(values: list[float]) -> None:
    assert median(iter(values)) == statistics.median(values)
    assert median_low(iter(values)) == statistics.median_low(values)
