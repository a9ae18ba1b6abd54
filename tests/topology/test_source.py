import pytest

from tierlb.topology.parts import MAX_CHARS, Place, UnreadableError
from tierlb.topology.source import read_source
from tierlb.topology.typed import Scalar


def test_every_key_and_value_has_its_place() -> None:
    source = read_source("a:\n  - x\n  - b: y\nc: {d: 1}\n")
    assert source.data == {"a": [Scalar("x"), {"b": Scalar("y")}], "c": {"d": Scalar("1")}}
    assert source.keys[("a",)] == Place(1, 1)
    assert source.values[("a", 0)] == Place(2, 5)
    assert source.keys[("a", 1, "b")] == Place(3, 5)
    assert source.values[("c", "d")] == Place(4, 8)


@pytest.mark.parametrize("text", ["", "~", "null", "Null"])
def test_plain_nulls_are_none_and_stand_at_their_key(text: str) -> None:
    source = read_source(f"a:\n  b: {text}\n")
    assert source.data == {"a": {"b": None}}
    assert source.place(("a", "b")) == Place(2, 3)


@pytest.mark.parametrize("text", ["no", "1.10", "0x10", "12:30", "2024-01-01", "1_000"])
def test_scalars_keep_their_text(text: str) -> None:
    assert read_source(f"a: {text}").data == {"a": Scalar(text)}


def test_quoted_scalars_are_text() -> None:
    assert read_source("a: '1'\nb: \"\"\n").data == {"a": Scalar("1", True), "b": Scalar("", True)}


def test_duplicate_keys_are_reported_and_the_first_stays() -> None:
    source = read_source("a: 1\nb: 2\na: 3\nb: 4\n")
    assert source.data == {"a": Scalar("1"), "b": Scalar("2")}
    assert [(place, fault.message) for place, fault in source.faults] == [
        (Place(3, 1), "duplicate key, first given in line 1"),
        (Place(4, 1), "duplicate key, first given in line 2"),
    ]


def test_the_place_of_a_path_that_is_not_there_is_its_nearest_parents() -> None:
    source = read_source("a:\n  b: 1\n")
    assert source.place(("a", "c", 3)) == Place(1, 1)
    assert source.place(("a", "b"), at_key=True) == Place(2, 3)
    assert source.place(("a", "b")) == Place(2, 6)


def test_aliases_stand_for_what_they_name() -> None:
    source = read_source("a: &x [1]\nb: *x\n")
    assert source.data == {"a": [Scalar("1")], "b": [Scalar("1")]}


def test_tags_and_keys_that_are_no_text_are_faults() -> None:
    source = read_source("a: !x 1\n? [k]\n: 2\n")
    assert [fault.message for _, fault in source.faults] == [
        "tags such as '!x' have no meaning here",
        "a key must be plain text",
    ]


BILLION = "a: &a [1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: [1", Place(1, 6), "not valid YAML"),
        ("a: 1\n b: 2\n", Place(2, 3), "not valid YAML"),
        ("a: 1\n\tb: 2\n", Place(2, 1), "not valid YAML"),
        ("a: 1\n---\nb: 2\n", Place(2, 1), "second YAML document"),
        ("a: 1\nb: \0\n", Place(2, 4), "NUL"),
        ("a: 1\nb: \x07\n", Place(2, 4), "U\\+0007"),
        ("a: *x\n", Place(1, 4), "alias"),
        ("a: &x [*x]\n", Place(1, 8), "alias"),
        ("[" * 100_000, Place(1, 22), "levels deep"),
        (BILLION, Place(1, 4), "aliases counted in full"),
        ("x" * (MAX_CHARS + 1), Place(1, 1), "too large"),
        ('a: "\\UFFFFFFFF"', Place(1, 1), "not valid YAML"),
    ],
)
def test_hostile_or_broken_text_is_refused_with_its_place(text: str, place: Place, said: str) -> None:
    with pytest.raises(UnreadableError, match=said) as caught:
        read_source(text)
    assert caught.value.place == place
