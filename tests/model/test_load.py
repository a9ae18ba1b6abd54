"""What of a load is queue."""

import pytest

from tierlb.model.load import Echo, SubtreeLoad


@pytest.mark.parametrize(("in_flight", "parked", "queued"), [(7, 0, 7), (7, 3, 4), (7, 7, 0), (3, 7, 0)])
def test_what_is_parked_is_no_queue(in_flight: int, parked: int, queued: int) -> None:
    """A child whose counts do not fit together has none."""
    assert SubtreeLoad(in_flight=in_flight, parked=parked).queued == queued
    assert Echo(in_flight=in_flight, parked=parked).queued == queued
