"""What a front counts: items are counted where they come from."""

from tierlb.dataplane.counters import Counters


def test_items_are_those_of_all_parents_and_of_nobodys() -> None:
    counters = Counters()
    counters.tallies.outside.arrivals = 1
    counters.tallies.of("edge-1").arrivals = 20
    counters.tallies.of("edge-2").arrivals = 300
    assert counters.items == 321


def test_two_nodes_count_apart() -> None:
    one, other = Counters(), Counters()
    one.tallies.of("edge-1").arrivals += 1
    assert (one.items, other.items) == (1, 0)
