import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.topology.units import (
    LARGEST_BYTES,
    LONGEST_DURATION_S,
    SHORTEST_DURATION_S,
    duration_text,
    parse_duration_s,
    parse_size_bytes,
    shown,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("250ms", 0.25),
        ("2s", 2),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        ("24h", 86_400),
        ("1h1m1s1ms", 3661.001),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2", "write one such as 250ms"),
        ("", "write one such as 250ms"),
        ("-1s", "write one such as 250ms"),
        ("1 s", "write one such as 250ms"),
        ("infs", "write one such as 250ms"),
        ("1e9s", "write one such as 250ms"),
        ("١s", "write one such as 250ms"),
        ("2d", "write one such as 250ms"),
        ("30s1m", "the largest unit first"),
        ("1s1s", "each once"),
        ("0s", "at least 100ms"),
        ("99ms", "at least 100ms"),
        ("25h", "at most 24h"),
        ("9" * 15 + "h", "at most 24h"),
    ],
)
def test_what_is_no_duration_is_refused_with_advice(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1),
        ("512", 512),
        ("1B", 1),
        ("64KiB", 65_536),
        ("64 kib", 65_536),
        ("10MB", 10_000_000),
        ("1.5GiB", 1_610_612_736),
        ("1TB", 10**12),
    ],
)
def test_sizes_are_read(value: str | int, size: int) -> None:
    assert parse_size_bytes(value) == size


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("64k", "write one such as 64KiB"),
        ("lots", "write one such as 64KiB"),
        ("", "write one such as 64KiB"),
        ("1.5", "whole number"),
        ("0.0001KiB", "whole number"),
        (0, "out of range"),
        (-1, "write one such as 64KiB"),
        ("2000TiB", "out of range"),
    ],
)
def test_what_is_no_size_is_refused_with_advice(value: str | int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_size_bytes(value)


@given(st.text(max_size=40) | st.from_regex(r"[0-9.]{1,20}(ms|s|m|h|KiB|MB)", fullmatch=True))
def test_any_text_gives_a_bounded_quantity_or_a_value_error(text: str) -> None:
    for read, low, high in (
        (parse_duration_s, SHORTEST_DURATION_S, LONGEST_DURATION_S),
        (parse_size_bytes, 1, LARGEST_BYTES),
    ):
        try:
            quantity = read(text)
        except ValueError:
            continue
        assert math.isfinite(quantity)
        assert low <= quantity <= high


def test_long_text_is_cut_in_messages() -> None:
    assert len(shown("x" * 1000)) < 70


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("250ms", 0.25), ("1s", 1.0), ("2.5s", 2.5), ("1m", 60.0), ("1m30s", 90.0), ("1h0.1s", 3600.1)],
)
def test_durations_read_back_as_they_were(text: str, seconds: float) -> None:
    assert duration_text(seconds) == text
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["1", "1000001", "1KB", "32KiB", "10MB", "16MiB", "1GB", "3GiB", "1024TiB"])
def test_sizes_read_back_as_they_were(text: str) -> None:
    assert size_text(parse_size_bytes(text)) == text
