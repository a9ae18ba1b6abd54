"""Echoes tell each parent its own part, and the parts add up."""

from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.load import Echo
from tierlb.telemetry import tally
from tierlb.telemetry.tally import Tallies, Tally


def fields(each: Tally) -> tuple[int, int, int, int]:
    return each.in_flight, each.arrivals, each.done, each.connections


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


def test_asking_for_an_echo_makes_no_parent() -> None:
    tallies = Tallies()
    tallies.echo("nobody")
    assert tallies._parents == {}


def test_parents_beyond_the_cap_count_as_outside(monkeypatch) -> None:
    monkeypatch.setattr(tally, "MOST_PARENTS", 2)
    tallies = Tallies()
    known = [tallies.of("a"), tallies.of("b")]
    assert tallies.of("c") is tallies.outside
    assert [tallies.of("a"), tallies.of("b")] == known


@given(
    st.lists(st.tuples(st.sampled_from("abco"), st.sampled_from(["begin", "end", "keep"])), max_size=60),
    st.sets(st.sampled_from("abc")),
)
def test_totals_never_lose_anything_when_parents_leave(events: list[tuple[str, str]], kept: set[str]) -> None:
    tallies, began, ended = Tallies(), 0, 0
    for parent, event in events:
        mine = tallies.outside if parent == "o" else tallies.of(parent)
        if event == "begin":
            begin(mine)
            began += 1
        elif event == "end" and mine.in_flight:
            end(mine)
            ended += 1
        elif event == "keep":
            busy = {name for name in "abc" if tallies.echo(name).in_flight}
            tallies.keep(kept)
            assert set(tallies._parents) <= kept | busy
            assert busy <= set(tallies._parents)
        assert fields(tallies.total()) == (began - ended, began, ended, 0)
