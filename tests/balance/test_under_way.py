"""Which items a look finds to be parked, how late the rest is, and when a host is stuck; against a slow oracle."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.kind_places import OTHER_KINDS, KindPlace
from tierlb.balance.kinds import Kinds
from tierlb.balance.parking import OVERTAKEN_BY, PARKED_AFTER_S, is_overtaken, parks_after_s
from tierlb.balance.ticket import ItemCounts, Ticket
from tierlb.balance.under_way import LATE_FROM, MOST_LOOKED_AT, NOTHING, Look, look

NOW = 100_000.0
ITEM_S = 0.01
SHORT_S, LONG_S = 0.01, 5.0
FAR = 10 * OVERTAKEN_BY


Item = Ticket[ItemCounts]


def item_of(began: float, sent: float, kind: int = OTHER_KINDS, turn: int = 0) -> Item:
    item = Item()
    item.began, item.sent, item.kind, item.turn = began, sent, KindPlace(kind), turn
    return item


KINDS = Kinds()
SHORT, LONG, UNKNOWN, EARLY = (KINDS.number(name) for name in ("short", "long", "unknown", "early"))
KINDS.judge({SHORT: [SHORT_S] * 50, LONG: [LONG_S] * 50, EARLY: [SHORT_S]})
KINDS.note_parked(EARLY)


def seen(*items: Item, over: int = 0, parked: Iterable[float] = (), item_s: float = ITEM_S, turn: int = 0) -> Look:
    for item in items:
        item.turn = turn
    tickets = [item_of(began, 0.0) for began in parked]
    return look(dict.fromkeys(items), NOW, KINDS, over=over, parked=tickets, item_s=item_s)


def aged(age_s: float, kind: int = SHORT, *, waits: bool = True) -> Item:
    """One that began so long ago. `waits`: the host owes it an answer, since then."""
    return item_of(NOW - age_s, NOW - age_s if waits else 0.0, kind)


PARKED = [
    # age, kind, whether the host owes an answer, items over since it began -> parked
    ("a usual one", 0.005, SHORT, True, 0, False),
    ("young though overtaken", 0.4, SHORT, True, FAR, False),
    ("old and not overtaken: the host is at fault", 0.6, SHORT, True, 0, False),
    ("old and overtaken", 0.6, SHORT, True, FAR, True),
    ("hardly overtaken", 0.6, SHORT, True, OVERTAKEN_BY - 1, False),
    ("overtaken by enough", 0.6, SHORT, True, OVERTAKEN_BY, True),
    ("of a kind that takes long anyway", 0.6, LONG, True, 0, True),
    ("of a kind that takes long anyway, young", 0.4, LONG, True, 0, False),
    ("nothing is known of its kind", 0.6, UNKNOWN, True, 0, True),
    ("nothing is known of its kind, young", 0.4, UNKNOWN, True, 0, False),
    ("its answer has begun, or its request is not complete", 0.6, SHORT, False, 0, True),
    ("the same, young", 0.4, SHORT, False, 0, False),
    ("most of its kind are parked", 0.6, EARLY, True, 0, True),
]


@pytest.mark.parametrize(
    ("age_s", "kind", "waits", "over", "parked"), [row[1:] for row in PARKED], ids=[row[0] for row in PARKED]
)
def test_what_is_parked_as_a_table(age_s: float, kind: int, waits: bool, over: int, parked: bool) -> None:
    item = aged(age_s, kind, waits=waits)
    assert seen(item, over=over).parked == ((item,) if parked else ())


HELD_UP = [
    # what is there, oldest first, items over since -> parked
    ("what came later is late and none is over", (aged(1, LONG), aged(0.5)), 0, 0),
    ("one is over", (aged(1, LONG), aged(0.5)), 1, 1),
    ("what came later is in time", (aged(1, LONG), aged(0.01)), 0, 1),
    ("what is late came earlier", (aged(2), aged(1, LONG)), 0, 1),
    ("the answer goes on", (aged(1, waits=False), aged(0.5)), 0, 0),
]


@pytest.mark.parametrize(("items", "over", "parked"), [row[1:] for row in HELD_UP], ids=[row[0] for row in HELD_UP])
def test_a_long_item_that_keeps_the_only_worker_is_not_parked(items: tuple[Item, ...], over: int, parked: int) -> None:
    assert len(seen(*items, over=over).parked) == parked


def test_where_items_take_long_they_are_parked_later() -> None:
    """At a host where they take 0.3 s, be it by its queue."""
    for age_s, parked in ((1.1, 0), (1.3, 1)):
        assert len(seen(aged(age_s), over=FAR, item_s=0.3).parked) == parked
    assert parks_after_s(0.3) == pytest.approx(1.2)


def test_a_kind_that_takes_less_than_parking_needs_is_parked_only_when_overtaken() -> None:
    """At a host where items take 2 s, 5 s are not long enough to be taken for waiting."""
    assert seen(aged(100, LONG), item_s=2.0).parked == ()
    assert len(seen(aged(100, LONG), item_s=2.0, over=FAR).parked) == 1


def test_while_it_is_unknown_how_long_items_take_nothing_is_parked() -> None:
    assert seen(aged(3600, UNKNOWN), aged(3600, SHORT, waits=False), over=FAR, item_s=0.0) == NOTHING


def test_parked_ones_that_came_before_are_not_taken_for_over() -> None:
    """It was the sixth there; the five before it are parked, so that all that are over came later."""
    assert seen(aged(1), turn=6, over=OVERTAKEN_BY, parked=[NOW - 2] * 5).parked == ()
    assert len(seen(aged(1), turn=6, over=OVERTAKEN_BY + 1, parked=[NOW - 2] * 5).parked) == 1


def test_parked_ones_that_came_later_have_not_overtaken() -> None:
    """A host that has stopped would look well as soon as enough polls wait there."""
    assert seen(aged(1), turn=1, parked=[NOW - 0.5] * FAR).parked == ()
    assert seen(aged(1), turn=1, over=OVERTAKEN_BY, parked=[NOW - 1] * FAR).parked == (), "begun together"


LATE = [
    # age, kind, whether it waits -> overdue
    ("in time", 0.01, SHORT, True, 0),
    ("twice as long", LATE_FROM * SHORT_S, SHORT, True, 0),
    ("five times as long", 0.05, SHORT, True, 3),
    ("for a second", 1.0, SHORT, True, 98),
    ("of a long kind in time", 0.45, LONG, True, 0),
    ("of an unknown kind", 0.45, UNKNOWN, True, 0),
    ("nothing is owed to it", 0.45, SHORT, False, 0),
]


@pytest.mark.parametrize(("age_s", "kind", "waits", "overdue"), [row[1:] for row in LATE], ids=[row[0] for row in LATE])
def test_how_late_an_item_is_as_a_table(age_s: float, kind: int, waits: bool, overdue: float) -> None:
    assert seen(aged(age_s, kind, waits=waits)).overdue == pytest.approx(overdue, abs=1e-6)


def test_what_is_late_is_added_up_and_what_is_parked_is_not_late() -> None:
    assert seen(aged(0.05), aged(0.06)).overdue == pytest.approx(3 + 4)
    assert seen(aged(1.0, UNKNOWN), aged(1.0), over=FAR).overdue == 0


def test_an_item_that_took_long_to_be_sent_is_late_by_the_time_since() -> None:
    assert seen(item_of(NOW - 3, NOW - 0.05, SHORT)).overdue == pytest.approx(3)


STUCK = [
    # ages of what is there, oldest first -> stuck
    ((), 0),
    ((0.1,), 0),
    ((1.0,), 1),
    ((3.0, 2.0, 1.0), 3),
    ((3.0, 2.0, 0.1), 0),
]


@pytest.mark.parametrize(("ages_s", "stuck"), STUCK)
def test_a_host_is_stuck_when_all_that_is_there_is_old(ages_s: tuple[float, ...], stuck: int) -> None:
    assert seen(*(aged(age_s) for age_s in ages_s)).stuck == stuck


def test_what_is_parked_now_is_not_stuck() -> None:
    assert seen(aged(3), aged(2), aged(1, LONG)).stuck == 2
    assert seen(aged(3, LONG), aged(2, LONG)).stuck == 0


def test_of_many_items_the_oldest_are_looked_at() -> None:
    found = seen(*(aged(2, LONG) for _ in range(3 * MOST_LOOKED_AT)))
    assert len(found.parked) == MOST_LOOKED_AT
    assert found.stuck == 2 * MOST_LOOKED_AT
    assert seen(*(aged(0.05) for _ in range(3 * MOST_LOOKED_AT))).overdue == pytest.approx(3 * MOST_LOOKED_AT)


ITEMS = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.floats(0, 1),
        st.sampled_from([SHORT, LONG, UNKNOWN, EARLY]),
        st.booleans(),
        st.integers(0, 40),
    ),
    max_size=2 * MOST_LOOKED_AT,
)


AGES_S = st.lists(st.floats(0, 30), max_size=10)


@given(ITEMS, st.integers(0, 60), AGES_S, st.sampled_from([0.0, 0.01, 0.2, 3.0, 1e6]))
def test_a_look_is_that_of_the_definition(
    rows: list[tuple[float, float, int, bool, int]], over: int, ages_s: list[float], item_s: float
) -> None:
    rows = sorted(rows, key=lambda row: -row[0])
    items = [
        item_of(NOW - age_s, NOW - age_s * part if waits else 0.0, kind, turn)
        for age_s, part, kind, waits, turn in rows
    ]
    parked = [NOW - age_s for age_s in ages_s]
    tickets = [item_of(began, 0.0) for began in parked]
    found = look(dict.fromkeys(items), NOW, KINDS, over=over, parked=tickets, item_s=item_s)
    after_s = max(PARKED_AFTER_S, parks_after_s(item_s)) if item_s else math.inf
    expected, overdue, held_up = [], 0.0, False
    for item in reversed(items[:MOST_LOOKED_AT]):
        usual_s = {SHORT: SHORT_S, LONG: LONG_S, EARLY: SHORT_S}.get(item.kind.number, 0.0)
        answered_soon_elsewhere = item.sent > 0 and 0 < usual_s < after_s and item.kind.number != EARLY
        by = OVERTAKEN_BY if answered_soon_elsewhere else 1 if held_up else 0
        before = sum(began < item.began for began in parked)
        if item.began < NOW - after_s and (by == 0 or is_overtaken(over, item.turn, before, by)):
            expected.insert(0, item)
        elif item.sent and usual_s:
            late = max(0.0, (NOW - item.sent) / usual_s - LATE_FROM)
            overdue, held_up = overdue + late, held_up or late > 0
    assert list(found.parked) == expected
    assert found.overdue == pytest.approx(overdue, abs=1e-6)
    left = [item for item in items if item not in expected]
    newest = max((item.began for item in items), default=0.0)
    assert found.stuck == (len(left) if left and newest < NOW - after_s else 0)
