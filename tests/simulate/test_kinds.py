"""What kinds of items take, and how many short ones fit beside them."""

import random
import statistics

import attrs
import pytest

from tierlb.simulate.kinds import ItemKind, Slot, Span, Standing, short_rate
from tierlb.simulate.leaf import Service

POLL = ItemKind("poll", Service(5.0))
BLOCKING = attrs.evolve(POLL, slot=Slot.THROUGHOUT)


def test_a_span_is_uniform() -> None:
    draw = Span(0.05, 0.5).drawn_by(random.Random(1))
    times = [draw() for _ in range(10_000)]
    assert min(times) >= 0.05
    assert max(times) <= 0.5
    assert statistics.mean(times) == pytest.approx(Span(0.05, 0.5).mean_s, rel=0.02)


@pytest.mark.parametrize(
    ("slot", "held_s"),
    [(Slot.NONE, 0.0), (Slot.HEAD, 0.5), (Slot.THROUGHOUT, 2.5)],
)
def test_a_slot_is_held_for_a_part_of_the_whole(slot: Slot, held_s: float) -> None:
    kind = ItemKind("model", Service(0.5), body=Service(2.0), sending=Service(1.0), slot=slot)
    assert kind.held_s == held_s
    assert kind.whole_s == 3.5


def test_without_a_body_the_head_is_the_end() -> None:
    assert BLOCKING.held_s == BLOCKING.whole_s == 5.0


@pytest.mark.parametrize(
    ("kinds", "rate"),
    [
        ([], 1600.0),
        ([attrs.evolve(POLL, standing=Standing(200))], 1600.0),
        ([attrs.evolve(BLOCKING, standing=Standing(8))], 1200.0),
        ([attrs.evolve(BLOCKING, per_short=0.006)], 400.0),
        ([ItemKind("upload", Service(0.5), sending=Service(1.5), slot=Slot.HEAD, standing=Standing(16))], 1400.0),
    ],
)
def test_the_load_is_of_what_the_short_ones_can_have(kinds: list[ItemKind], rate: float) -> None:
    assert short_rate(0.5, 32, 0.01, kinds) == pytest.approx(rate)


def test_standing_clients_that_hold_every_slot_leave_nothing() -> None:
    with pytest.raises(ValueError, match="hold 32 of 32 slots"):
        short_rate(0.5, 32, 0.01, [attrs.evolve(BLOCKING, standing=Standing(32))])
