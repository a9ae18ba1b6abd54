"""When a slow host that rests is probed; how probes go on is in test_slowness.py."""

import pytest

from tierlb.balance.capacity import ALIKE
from tierlb.balance.slowness_probe import (
    BETTER,
    FIRST_REST_S,
    LONGEST_REST_OF_SLOW_HOST_S,
    LONGEST_REST_S,
    NEAR,
    PROBE_ITEMS,
    PROBED_FROM,
    SOON_S,
    SOONER,
    Siblings,
    SlownessProbe,
)

EQUAL = Siblings(1.0, 1.0)

RESTS = [
    # slowness, siblings, few answers -> rest before the probe; None: none within a minute
    (4.0, EQUAL, False, FIRST_REST_S),
    (4.0, EQUAL, True, FIRST_REST_S),
    (NEAR - 0.1, EQUAL, False, FIRST_REST_S),
    (NEAR - 0.1, EQUAL, True, SOONER * FIRST_REST_S),
    (5.0, Siblings(1.0, 1.0, 2 * ALIKE), False, SOONER * FIRST_REST_S),
    (PROBED_FROM, EQUAL, False, None),
    (4.0, Siblings(4.0, 4.0), False, None),
    (4.0, Siblings(4.0, 1.0), False, FIRST_REST_S),
]


def rest_of(probe: SlownessProbe, slowness: float, siblings: Siblings, *, few_answers: bool = False) -> float | None:
    """How long the host rests before it is probed."""
    for tick in range(1, 1300):
        if probe.rest(0.05, slowness, siblings, few_answers=few_answers):
            return tick * 0.05
    return None


@pytest.mark.parametrize(("slowness", "siblings", "few", "expected"), RESTS)
def test_a_slow_host_is_probed_after_a_rest(
    slowness: float, siblings: Siblings, few: bool, expected: float | None
) -> None:
    probe = SlownessProbe()
    rested = rest_of(probe, slowness, siblings, few_answers=few)
    assert rested == (None if expected is None else pytest.approx(expected, abs=0.06))
    assert probe.active is (expected is not None)


def test_items_end_the_rest() -> None:
    probe = SlownessProbe()
    assert not probe.rest(FIRST_REST_S - 0.1, 4.0, EQUAL, few_answers=False)
    probe.end_rest(1.0)
    assert not probe.rest(FIRST_REST_S - 0.1, 4.0, EQUAL, few_answers=False)
    assert probe.rest(0.2, 4.0, EQUAL, few_answers=False)


def test_a_host_that_was_slow_together_with_one_that_recovered_is_probed_soon() -> None:
    probe = SlownessProbe()
    probe.end_rest(4.0)
    assert rest_of(probe, 4.0, EQUAL) == pytest.approx(SOON_S, abs=0.06)


@pytest.mark.parametrize(("best", "longest"), [(1.0, LONGEST_REST_S), (4.0, LONGEST_REST_OF_SLOW_HOST_S)])
def test_probes_that_change_nothing_become_rarer(best: float, longest: float) -> None:
    probe, rests = SlownessProbe(), []
    probe.note_best(best)
    for _ in range(8):
        rests.append(rest_of(probe, 4.0, EQUAL))
        assert probe.observe(1, 4.0, 4.0)
        probe.end_rest(1.0)
    assert rests[:2] == [pytest.approx(FIRST_REST_S, abs=0.06), pytest.approx(2 * FIRST_REST_S, abs=0.06)]
    assert rests[-1] == pytest.approx(longest, abs=0.06)


def test_a_probe_goes_on_while_it_shows_the_host_to_be_better() -> None:
    probe = SlownessProbe(active=True)
    for _ in range(PROBE_ITEMS - 1):
        assert not probe.observe(1, 4.0 / BETTER - 0.1, 4.0)
        assert probe.active
    assert probe.observe(1, 4.0 / BETTER - 0.1, 4.0)
    assert not probe.active
