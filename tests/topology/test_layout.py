"""Columns, lines and comments of a text, and layouts that cannot be changed."""

import pytest

from tierlb.topology.layout import LayoutError
from tierlb.topology.rewrite import Sheet

TEXT = """\
m:
  # about a
  a: 1  # one
    # more about a

  # stands alone

  b: {x: 1}
"""


def test_comments_at_an_entry_are_its_own() -> None:
    sheet = Sheet(TEXT)
    a, b = sheet.mapping("m").entries.values()
    assert sheet.layout.lines_of(a) == (1, 3)
    assert sheet.layout.lines_of(b) == (7, 7)
    assert (sheet.layout.tail(a), sheet.layout.tail(b)) == ("  # one", "")


def test_blank_lines_that_keep_an_entry_apart_go_with_it() -> None:
    layout = Sheet(TEXT).layout
    assert layout.with_blank_lines(1, 3, is_last=False) == (1, 4)
    assert layout.with_blank_lines(7, 7, is_last=True) == (6, 7)


def test_a_mapping_with_blank_lines_between_its_entries_is_spaced() -> None:
    assert Sheet(TEXT).layout.is_spaced(Sheet(TEXT).mapping("m"))
    sheet = Sheet("m:\n  a: 1\n  b: 2\n")
    assert not sheet.layout.is_spaced(sheet.mapping("m"))


@pytest.mark.parametrize(
    ("text", "beside", "column"),
    [
        ("m:\n  a: {x: 1}\n", "a", 4),
        ("m:\n    a: {x: 1}\n", "a", 8),
        ("m:\n  a:\n     x: 1\n  b:\n    x: 1\n", "a", 5),
        ("m:\n  a:\n     x: 1\n  b: {x: 1}\n", "b", 5),
        ("m: {a: 1}\n", "a", None),
    ],
)
def test_a_new_mapping_is_indented_like_its_neighbours(text: str, beside: str, column: int | None) -> None:
    sheet = Sheet(text)
    assert sheet.layout.inner_column(sheet.mapping("m"), beside) == column


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("m:\n  ? k\n  : 1\n", "line 2: write the key 'k' plainly, as key: value, and try again"),
        ("m:\n  &x k: 1\n", "line 2: write the key 'k' plainly, as key: value, and try again"),
    ],
)
def test_a_key_in_an_odd_form_is_refused(text: str, said: str) -> None:
    sheet = Sheet(text)
    with pytest.raises(LayoutError) as caught:
        sheet.layout.column_of(sheet.mapping("m").entries["k"])
    assert str(caught.value) == said


def test_an_item_in_an_odd_form_is_refused() -> None:
    sheet = Sheet("m:\n  k:\n    -\n      a\n")
    with pytest.raises(LayoutError) as caught:
        sheet.layout.item_indent(sheet.mapping("m").entries["k"].value.items[0])
    assert str(caught.value) == "line 4: write each item of the list on a line with its dash, and try again"
