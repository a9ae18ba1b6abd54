"""Parts of a text as they are written in another place of it."""

import pytest

from tierlb.topology.excerpts import entry_text, value_text, word
from tierlb.topology.excerpts import moved as moved_text
from tierlb.topology.rewrite import Sheet


@pytest.mark.parametrize(
    ("name", "written"),
    [("web", "web"), ("a-1", "a-1"), ("1e3", '"1e3"'), ("null", '"null"'), ("no", '"no"'), ("not", "not")],
)
def test_a_name_that_could_be_taken_for_something_else_is_quoted(name: str, written: str) -> None:
    assert word(name) == written


def test_an_entry_is_a_line_or_stands_in_braces() -> None:
    assert entry_text("a", " 1", 2) == "  a: 1\n"
    assert entry_text("a", " 1", None) == "a: 1"


@pytest.mark.parametrize(
    ("text", "column", "moved"),
    [
        ("m:\n  # why\n  k: 1  # one\n    # more\n  l: 2\n", 2, "  # why\n  k: 1  # one\n    # more\n"),
        ("m:\n  # why\n  k: 1  # one\n    # more\n  l: 2\n", 0, "# why\nk: 1  # one\n  # more\n"),
        ("m:\n  # why\n  k: 1  # one\n    # more\n  l: 2\n", 4, "    # why\n    k: 1  # one\n      # more\n"),
        ("m:\n  # why\n  k: '[::1]:80'  # one\n", None, "k: '[::1]:80'"),
        ("m: {k: 1}\n", 4, "    k: 1\n"),
        ("m: {k: 1}\n", None, "k: 1"),
    ],
)
def test_an_entry_can_move_to_another_mapping(text: str, column: int | None, moved: str) -> None:
    sheet = Sheet(text)
    assert moved_text(sheet.layout, sheet.mapping("m"), "k", column) == moved


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("m:\n  k: app  # c\n", 4, " app  # c"),
        ("m:\n  k: app  # c\n", None, " app"),
        ("m:\n  k: >-\n    app\n", 4, " app"),
        ("m:\n  k: [a,  # c\n  b]  # d\n", 4, " [a,  # c\n    b]  # d"),
        ("m:\n  k: [a,  # c\n  b]  # d\n", None, " [a, b]"),
        ("m:\n  k:  # c\n    a: 1\n\n    b: 2  # d\n", 4, "  # c\n      a: 1\n\n      b: 2  # d"),
        ('m:\n  k:\n    a: 1\n    null : 2\n    "b": 2  # d\n', None, ' {a: 1, null: 2, "b": 2}'),
        ("m:\n    k:\n    - a\n    - b\n", 2, "\n  - a\n  - b"),
        ("x: &x [a, b]\nm:\n  k: *x  # c\n", 4, " [a, b]  # c"),
        ("x: &x a\nm:\n  k:\n    *x : 1\n", None, " {a: 1}"),
        ("m: {k: app}\n", 4, " app"),
        ("m: {k: [a,\nb], l: 1}\n", 4, " [a,\nb]"),
    ],
)
def test_a_value_can_be_copied_to_another_mapping(text: str, column: int | None, value: str) -> None:
    sheet = Sheet(text)
    assert value_text(sheet.layout, sheet.mapping("m"), "k", column) == value
