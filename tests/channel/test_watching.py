import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.channel import watching as watching_module
from tierlb.channel.watching import Rows, Watching
from tierlb.model.load import NodeLoad, NodeRow, SubtreeLoad
from tierlb.wire.frames import Watch

LOAD = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5)


def row(node, age_s=0.0, **more):
    return NodeRow(node, "web", age_s, attrs.evolve(LOAD, **more), SubtreeLoad())


def test_nobody_watches_until_somebody_does_and_not_after_its_time():
    watching = Watching()
    assert not watching.active(0.0)
    assert watching.current(0.0) == ()
    assert watching.take(Watch(5.0), 10.0)
    assert (watching.active(14.9), watching.active(15.0)) == (True, False)
    assert watching.current(12.0) == (Watch(3.0),)


@pytest.mark.parametrize(
    ("watch", "now", "news"),
    [
        (Watch(5.0), 0.01, False),  # the same, by another parent
        (Watch(4.99), 0.0, False),
        (Watch(5.0), 2.0, True),  # prolonged
        (Watch(60.0), 0.0, True),
        (Watch(1.0, "nonce"), 0.0, True),
        (Watch(1.0), 9.0, True),  # a new one
    ],
)
def test_only_what_is_news_is_passed_on(watch, now, news):
    watching = Watching()
    watching.take(Watch(5.0), 0.0)
    assert watching.take(watch, now) is news


def test_a_nonce_that_comes_by_two_parents_is_news_once_and_outlives_a_plain_watch():
    watching = Watching()
    assert watching.take(Watch(5.0, "n"), 0.0)
    assert not watching.take(Watch(5.0, "n"), 0.1)
    assert watching.take(Watch(9.0), 0.1)
    assert watching.current(1.0) == (Watch(8.1), Watch(4.0, "n"))
    assert watching.take(Watch(5.0, "other"), 1.0)
    assert watching.current(1.0)[1:] == (Watch(5.0, "other"),)


def test_a_nonce_is_in_force_until_its_time_is_over():
    watching = Watching()
    assert watching.nonce(0.0) == ""
    watching.take(Watch(5.0, "n"), 0.0)
    watching.take(Watch(9.0), 1.0)
    assert (watching.nonce(4.9), watching.nonce(5.0)) == ("n", "")


def test_nobody_watches_for_longer_than_a_minute():
    watching = Watching()
    watching.take(Watch(1e9), 0.0)
    assert not watching.active(60.0)


def test_of_each_node_the_row_that_was_taken_last_counts():
    rows = Rows()
    assert rows.note([row("web-1", 0.5, items=1), row("web-2", 0.0, items=2)], 10.0)
    assert not rows.note([row("web-1", 0.7, items=3), row("web-2", 0.1, items=4)], 10.15)
    fresh, _ = rows.since(0, 11.0)
    assert {r.node: (r.own.items, round(r.age_s, 6)) for r in fresh} == {"web-1": (1, 1.5), "web-2": (4, 0.95)}


def test_a_row_is_passed_on_once_and_the_earliest_first():
    rows = Rows()
    rows.note([row("a"), row("b"), row("c")], 1.0)
    first, mark = rows.since(0, 1.0, most=2)
    rows.note([row("a")], 1.5)
    second, mark = rows.since(mark, 2.0, most=2)
    third, mark = rows.since(mark, 2.0)
    assert [[r.node for r in part] for part in (first, second, third)] == [["a", "b"], ["c", "a"], []]


def test_marks_stay_good_when_all_is_forgotten():
    rows = Rows()
    rows.note([row("a"), row("b")], 1.0)
    _, mark = rows.since(0, 1.0)
    rows.clear()
    assert rows.note([row("a")], 2.0)
    assert [r.node for r in rows.since(mark, 2.0)[0]] == ["a"]


def test_made_up_names_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(watching_module, "MAX_NODES", 3)
    rows = Rows()
    rows.note([row(f"x{n}") for n in range(10)], 1.0)
    rows.note([row("x1", items=9)], 2.0)
    fresh, _ = rows.since(0, 2.0)
    assert [(r.node, r.own.items) for r in fresh] == [("x0", 3), ("x2", 3), ("x1", 9)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2), st.floats(0, 1)), max_size=30))
def test_rows_agree_with_keeping_everything(heard):
    """The oracle remembers all rows and sorts."""
    rows, everything, now = Rows(), {}, 0.0
    for index, (node, age_s, pause_s) in enumerate(heard):
        now += pause_s
        rows.note([row(node, age_s, items=index)], now)
        everything.setdefault(node, []).append((now - age_s, -index))
    kept = {r.node: r.own.items for r in rows.since(0, now)[0]}
    assert kept == {node: -max(taken)[1] for node, taken in everything.items()}
