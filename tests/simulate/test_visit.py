"""When an item of each kind takes a slot, answers and ends."""

import random

import attrs
import pytest

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.kinds import ItemKind, KindSource, Slot
from tierlb.simulate.leaf import Service, SimulatedLeaf
from tierlb.simulate.visit import LeafVisit

KIND = ItemKind("model", Service(1.0, 0), body=Service(4.0, 0), sending=Service(2.0, 0))


@attrs.define
class Bench:
    """A leaf of one slot, and what happened to whom when."""

    agenda: Agenda = attrs.field(factory=Agenda)
    leaf: SimulatedLeaf = attrs.field(init=False)
    seen: list[tuple[str, str, float]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.leaf = SimulatedLeaf("leaf", self.agenda, 1)

    def visit(self, kind: ItemKind, name: str = "long") -> None:
        source = KindSource(kind, random.Random(1))
        sent, headed, done = (self.noting(event) for event in ("sent", "headed", "done"))
        LeafVisit(self.agenda, self.leaf, source, name, sent, headed, done).begin()

    def short(self, at_s: float) -> None:
        self.agenda.at(at_s, lambda _: self.leaf.serve(self.noting("done"), "short", 0.5))

    def noting(self, event: str):  # type: ignore[no-untyped-def]
        return lambda name: self.seen.append((name, event, self.agenda.now))

    def until_the_end(self) -> list[tuple[str, str, float]]:
        self.agenda.run(100.0)
        assert self.leaf.in_flight == 0
        return self.seen


@pytest.mark.parametrize(
    ("slot", "short_ends"), [(Slot.NONE, 2.7), (Slot.HEAD, 3.5), (Slot.THROUGHOUT, 7.5)], ids=lambda value: str(value)
)
def test_a_short_item_waits_while_the_slot_is_held(slot: Slot, short_ends: float) -> None:
    bench = Bench()
    bench.visit(attrs.evolve(KIND, slot=slot))
    bench.short(2.2)
    seen = bench.until_the_end()
    assert [each for each in seen if each[0] == "long"] == [
        ("long", "sent", 2.0),
        ("long", "headed", 3.0),
        ("long", "done", 7.0),
    ]
    assert ("short", "done", pytest.approx(short_ends)) in seen
    assert bench.leaf.arrivals == 1, "of short items"


def test_while_it_is_sent_it_holds_no_slot_and_then_it_queues() -> None:
    bench = Bench()
    bench.visit(attrs.evolve(KIND, slot=Slot.THROUGHOUT))
    bench.short(1.8)
    assert bench.until_the_end() == [
        ("long", "sent", 2.0),
        ("short", "done", 2.3),
        ("long", "headed", 3.3),
        ("long", "done", 7.3),
    ]


@pytest.mark.parametrize(
    ("kind", "headed_s", "done_s"),
    [
        (KIND, 12.0, 52.0),
        (attrs.evolve(KIND, reading=True), 12.0, 16.0),
        (attrs.evolve(KIND, stretched=False), 3.0, 7.0),
    ],
)
def test_a_slow_leaf_stretches_what_is_its_own_time(kind: ItemKind, headed_s: float, done_s: float) -> None:
    bench = Bench()
    bench.leaf.slow = 10.0
    bench.visit(kind)
    assert bench.until_the_end() == [("long", "sent", 2.0), ("long", "headed", headed_s), ("long", "done", done_s)]


def test_without_a_body_and_a_sending_it_has_one_phase() -> None:
    bench = Bench()
    bench.visit(ItemKind("poll", Service(5.0, 0)))
    assert bench.until_the_end() == [("long", "sent", 0.0), ("long", "headed", 5.0), ("long", "done", 5.0)]
