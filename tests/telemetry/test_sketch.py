"""Sketches against sorted lists, and against bytes that nobody encoded."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.telemetry.sketch import (
    ACCURACY,
    BOUNDS_S,
    LEAST_S,
    MIDDLES_S,
    MOST_ENCODED_BYTES,
    MOST_S,
    SKETCH_BUCKETS,
    RecentSketch,
    Sketch,
    decode_sketch,
)

DURATIONS = st.lists(st.floats(LEAST_S, MOST_S), min_size=1, max_size=200)
COUNTS = st.dictionaries(st.integers(0, SKETCH_BUCKETS - 1), st.integers(1, 2**60), max_size=40)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


def with_counts(counts: dict[int, int]) -> Sketch:
    sketch = Sketch()
    for index, count in counts.items():
        sketch.counts[index] = count
    return sketch


def test_the_buckets_cover_a_microsecond_to_a_thousand_seconds() -> None:
    assert BOUNDS_S[0] == LEAST_S
    assert BOUNDS_S[-1] < MOST_S <= BOUNDS_S[-1] * (1 + ACCURACY) / (1 - ACCURACY)
    assert len(MIDDLES_S) == SKETCH_BUCKETS == len(BOUNDS_S) + 1


@given(DURATIONS, st.floats(0, 1))
def test_a_quantile_is_within_the_accuracy_of_the_sorted_list(values: list[float], q: float) -> None:
    truth = sorted(values)[int(q * (len(values) - 1))]
    assert sketch_of(values).quantile_s(q) == pytest.approx(truth, rel=ACCURACY * (1 + 1e-9))


@given(DURATIONS)
def test_mean_and_sum_are_within_the_accuracy(values: list[float]) -> None:
    sketch = sketch_of(values)
    assert sketch.sum_s == pytest.approx(math.fsum(values), rel=ACCURACY * (1 + 1e-9))
    assert sketch.mean_s == pytest.approx(math.fsum(values) / len(values), rel=ACCURACY * (1 + 1e-9))


@given(DURATIONS, DURATIONS)
def test_a_merged_sketch_equals_the_sketch_of_everything(mine: list[float], theirs: list[float]) -> None:
    merged = sketch_of(mine)
    merged.merge(sketch_of(theirs))
    assert merged == sketch_of(mine + theirs)


def test_merging_keeps_the_list_that_the_hot_path_has_bound() -> None:
    sketch = Sketch()
    counts = sketch.counts
    sketch.merge(sketch_of([1.0]))
    assert sketch.counts is counts


@pytest.mark.parametrize(
    ("value_s", "taken_for_s"),
    [(0.0, LEAST_S), (-1.0, LEAST_S), (1e-9, LEAST_S), (1e4, MOST_S), (math.inf, MOST_S)],
)
def test_what_lies_outside_is_clamped(value_s: float, taken_for_s: float) -> None:
    assert sketch_of([value_s]).quantile_s(0.5) == taken_for_s


def test_an_empty_sketch_says_zero() -> None:
    sketch = Sketch()
    assert (sketch.count, sketch.mean_s, sketch.sum_s, sketch.quantile_s(0.99)) == (0, 0, 0, 0)


@given(COUNTS)
def test_what_was_encoded_is_decoded(counts: dict[int, int]) -> None:
    sketch = with_counts(counts)
    assert decode_sketch(sketch.encode()) == sketch


def test_an_encoded_sketch_is_small() -> None:
    assert len(Sketch().encode()) == 1
    assert len(sketch_of([0.001 * number for number in range(1, 100)]).encode()) < 300
    assert len(with_counts(dict.fromkeys(range(SKETCH_BUCKETS), 2**62)).encode()) <= MOST_ENCODED_BYTES


GARBAGE = [
    (b"", "begins with the byte 1"),
    (b"\x02", "begins with the byte 1"),
    (b"\x01\x00", "breaks off"),
    (b"\x01\x00\x80", "breaks off"),
    (b"\x01\x00" + b"\xff" * 9 + b"\x01", "too long"),
    (b"\x01\x00\x00", "empty buckets"),
    (b"\x01\x88\x04\x01", "names number 520"),
    (b"\x01" + b"\xff" * 8 + b"\x7f\x01", "buckets"),
    (b"\x01" * (MOST_ENCODED_BYTES + 1), "at most"),
]


@pytest.mark.parametrize(("data", "reason"), GARBAGE)
def test_garbage_is_refused_with_a_sentence(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_sketch(data)


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(lambda tail: b"\x01" + tail)))
def test_any_bytes_are_a_sketch_or_refused_with_a_sentence(data: bytes) -> None:
    reason = ""
    try:
        sketch = decode_sketch(data)
    except ValueError as error:
        reason = str(error)
    assert reason.startswith("a sketch") or decode_sketch(sketch.encode()) == sketch


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(LEAST_S, MOST_S)), min_size=1, max_size=60))
def test_the_recent_part_holds_the_last_five_seconds_and_nothing_older_than_ten(
    steps: list[tuple[float, float]],
) -> None:
    """Turned at each step, at most 3 s apart, so a half is at most 8 s long here."""
    total = Sketch()
    recent, now = RecentSketch(total, 0.0), 0.0
    seen: list[tuple[float, float]] = []
    for pause_s, value_s in steps:
        now += pause_s
        recent.turn(now)
        total.add(value_s)
        seen.append((now, value_s))
    held = recent.value().counts
    surely = sketch_of([value for at, value in seen if at > now - 5]).counts
    perhaps = sketch_of([value for at, value in seen if at > now - 10 - 2 * 3]).counts
    assert all(low <= have <= high for low, have, high in zip(surely, held, perhaps, strict=True))


def test_a_pause_leaves_nothing_recent() -> None:
    total = Sketch()
    recent = RecentSketch(total, 0.0)
    total.add(1.0)
    recent.turn(4.9)
    assert recent.value().count == 1
    recent.turn(5.0)
    assert recent.value().count == 1
    recent.turn(15.0)
    assert (recent.value().count, total.count) == (0, 1)
