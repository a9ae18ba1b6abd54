"""How much a connection is used, and how its end is counted."""

import math

import pytest

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.lifetime import SETTLING_S, Lifetime, count_end


@pytest.mark.parametrize(
    ("requests", "waited_s", "waits_s", "per_s"),
    [(0, 0.0, 0.0, 0.0), (10, 0.0, 0.0, 1.0), (10, 5.0, 0.0, 2.0), (10, 5.0, 3.0, 5.0)],
)
def test_activity_is_of_the_time_without_waits(requests: int, waited_s: float, waits_s: float, per_s: float) -> None:
    lifetime = Lifetime(100.0, draining=False)
    lifetime.requests = requests
    lifetime.waited_s = waited_s
    assert lifetime.activity(110.0 - SETTLING_S, waits_s) == pytest.approx(per_s)


def test_a_connection_lasts_as_long_as_its_client_likes_unless_the_node_drains() -> None:
    assert Lifetime(100.0, draining=False).expires == math.inf
    assert Lifetime(100.0, draining=True).expires == 100.0


def test_an_end_is_counted_for_the_node_and_for_the_parent() -> None:
    counters = Counters()
    tally = counters.tallies.of("edge-1")
    tally.open()
    counters.connections = 1
    count_end(counters, ClientIdentity("192.0.2.7", tally, b"id", trusted=False), 2.5)
    assert (counters.connections, counters.ended, counters.lived_s, tally.connections) == (0, 1, 2.5, 0)
