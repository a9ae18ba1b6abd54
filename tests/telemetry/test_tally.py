"""Echoes tell each parent its own part, and the parts add up."""

from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.load import Echo
from tierlb.telemetry import tally
from tierlb.telemetry.tally import Tallies, Tally


def fields(each: Tally) -> tuple[int, int, int, int]:
    return each.in_flight, each.arrivals, each.done, each.connections


def test_parked_items_are_told_apart_and_add_up() -> None:
    tallies = Tallies()
    tallies.of("edge-1").parked = 2
    tallies.outside.parked = 3
    assert tallies.echo("edge-1") == Echo(parked=2)
    assert tallies.total().parked == 5


def begin(each: Tally) -> None:
    each.arrivals += 1
    each.in_flight += 1


def end(each: Tally) -> None:
    each.done += 1
    each.in_flight -= 1


def test_an_echo_is_the_part_of_one_parent() -> None:
    tallies = Tallies()
    for parent in (tallies.of("edge-1"), tallies.of("edge-1"), tallies.of("edge-2"), tallies.outside):
        begin(parent)
    end(tallies.of("edge-1"))
    tallies.of("edge-1").connections += 3
    assert tallies.echo("edge-1") == Echo(in_flight=1, arrivals=2, connections=3)
    assert tallies.echo("edge-2") == Echo(in_flight=1, arrivals=1)
    assert tallies.echo("nobody") == Echo()
    assert fields(tallies.total()) == (3, 4, 1, 3)


def test_asking_for_an_echo_makes_no_parent(monkeypatch) -> None:
    monkeypatch.setattr(tally, "MOST_PARENTS", 1)
    tallies = Tallies()
    tallies.echo("nobody")
    assert tallies.of("somebody") is not tallies.outside


def test_parents_beyond_the_cap_count_as_outside(monkeypatch) -> None:
    monkeypatch.setattr(tally, "MOST_PARENTS", 2)
    tallies = Tallies()
    known = [tallies.of("a"), tallies.of("b")]
    assert tallies.of("c") is tallies.outside
    assert [tallies.of("a"), tallies.of("b")] == known


@given(st.lists(st.tuples(st.sampled_from("abco"), st.booleans()), max_size=60))
def test_the_parts_add_up_to_all_that_came(events: list[tuple[str, bool]]) -> None:
    tallies, began, ended = Tallies(), 0, 0
    for parent, is_end in events:
        mine = tallies.outside if parent == "o" else tallies.of(parent)
        if not is_end:
            begin(mine)
            began += 1
        elif mine.in_flight:
            end(mine)
            ended += 1
        assert fields(tallies.total()) == (began - ended, began, ended, 0)
        echoes = [tallies.echo(name) for name in "abc"]
        assert tallies.outside.arrivals + sum(echo.arrivals for echo in echoes) == began
        assert tallies.outside.in_flight + sum(echo.in_flight for echo in echoes) == began - ended


def test_a_tally_takes_what_another_counted() -> None:
    one, other = Tally(), Tally()
    for tally_ in (one, other, other):
        begin(tally_)
    end(other)
    other.connections = 3
    one.take(other)
    assert fields(one) == (2, 3, 1, 3)
    assert fields(other) == (1, 2, 1, 3)


def test_a_total_is_a_copy() -> None:
    tallies = Tallies()
    begin(tallies.outside)
    end(tallies.total())
    assert fields(tallies.total()) == (1, 1, 0, 0)


def test_connections_that_are_known_as_sums_count_as_those_that_are_counted_one_by_one() -> None:
    one, other = Tally(), Tally()
    for _ in range(3):
        begin(one)
        one.open()
    end(one)
    one.close()
    other.count_connections(3, 2, 1)
    assert fields(one) == fields(other)


def test_what_parents_forward_in_the_kernel_is_shared_among_them() -> None:
    tallies = Tallies()
    tallies.forwarding = frozenset({"edge-1", "edge-2"})
    for _ in range(10):
        begin(tallies.forwarded)
        tallies.forwarded.open()
    begin(tallies.of("edge-1"))
    begin(tallies.of("inner-1"))
    assert [tallies.echo(name).arrivals for name in ("edge-1", "edge-2", "inner-1")] == [6, 5, 1]
    assert [tallies.echo(name).in_flight for name in ("edge-1", "edge-2", "inner-1")] == [6, 5, 1]
    assert tallies.echo("edge-2").connections == 5
    assert tallies.total().arrivals == 12
    tallies.share_out(100)
    assert [tallies.requests(name) for name in ("edge-1", "edge-2")] == [50, 50]
