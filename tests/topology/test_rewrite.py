"""Each change of a text, as exact text before and after: what belongs to others stays where it is."""

import pytest

from tierlb.topology.parts import Mapping, Series
from tierlb.topology.rewrite import LayoutError, Sheet, Splice, entry_text, word

BLOCK = """\
m:
  # about a
  a: 1  # one
    # more about a

  # stands alone

  # about b
  b: 2

  c: 3
# end
"""


def change(text: str, *splices: Splice) -> str:
    return Sheet(text).spliced(splices)


def series(sheet: Sheet, mapping: Mapping, key: str) -> Series:
    found = mapping.entries[key].value
    assert isinstance(found, Series)
    return found


@pytest.mark.parametrize(
    ("name", "written"),
    [("web", "web"), ("a-1", "a-1"), ("1e3", '"1e3"'), ("null", '"null"'), ("no", '"no"'), ("not", "not")],
)
def test_a_name_that_could_be_taken_for_something_else_is_quoted(name: str, written: str) -> None:
    assert word(name) == written


def test_an_entry_is_a_line_or_stands_in_braces() -> None:
    assert entry_text("a", " 1", 2) == "  a: 1\n"
    assert entry_text("a", " 1", None) == "a: 1"


def test_without_splices_a_text_stays_itself() -> None:
    assert change(BLOCK) == BLOCK


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("m: {k: web}\n", "m: {k: mid}\n"),
        ("m: {k: 'web'}\n", "m: {k: 'mid'}\n"),
        ('m: {k: "web" }\n', 'm: {k: "mid" }\n'),
        ("m:\n  k:   web  # c\n", "m:\n  k:   mid  # c\n"),
        ("m:\n  k: &x web\n", "m:\n  k: &x mid\n"),
        ("m:\n  k: >-\n    web\n\n# c\n", "m:\n  k: mid\n\n# c\n"),
        ("x: &x web\nm: {k: *x}\n", "x: &x web\nm: {k: mid}\n"),
    ],
)
def test_a_name_is_written_over_another_one(text: str, after: str) -> None:
    sheet = Sheet(text)
    assert sheet.spliced([sheet.renamed(sheet.mapping("m").entries["k"].value, "mid")]) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("m:\n  a: 1  # c\n  b: 2\n", "m:\n  a: 1  # c\n  k: 5\n  b: 2\n"),
        ("m:\n  b: 2\n  k: 1  # c\n", "m:\n  b: 2\n  k: 5  # c\n"),
        (
            "m:\n  a: 1\n    # about a\n  # about b\n  b: 2\n",
            "m:\n  a: 1\n    # about a\n  k: 5\n  # about b\n  b: 2\n",
        ),
        ("m:\n  a: 1", "m:\n  a: 1\n  k: 5"),
        ("m:\r\n  a: 1\r\n", "m:\r\n  a: 1\r\n  k: 5\r\n"),
        ("m:\n  a: |\n    x\n\n  b: 2\n", "m:\n  a: |\n    x\n  k: 5\n\n  b: 2\n"),
        ("m:\n  a: |+\n    x\n\n  b: 2\n", "m:\n  a: |+\n    x\n\n  k: 5\n  b: 2\n"),
        ("m: {a: 1, b: 2}\n", "m: {a: 1, k: 5, b: 2}\n"),
        ("m: {\n  a: 1,  # c\n  b: 2}\n", "m: {\n  a: 1, k: 5,  # c\n  b: 2}\n"),
        ('{"m":{"a":1}}', '{"m":{"a":1, k: 5}}'),
    ],
)
def test_a_key_is_set_where_it_stands_or_behind_the_ones_before_it(text: str, after: str) -> None:
    sheet = Sheet(text)
    assert sheet.spliced([sheet.with_key(sheet.mapping("m"), "k", "5", ["a", "zz"])]) == after


@pytest.mark.parametrize(
    ("text", "place", "after"),
    [
        ("m:\n  a: 1\n", {"after": "a"}, "m:\n  a: 1\n  k: 5\n"),
        ("m:\n  a: 1\n\nn: 2\n", {"after": "a"}, "m:\n  a: 1\n\n  k: 5\n\nn: 2\n"),
        ("m:\n  a: 1\n  b: 2\n\nn: 2\n", {"after": "a"}, "m:\n  a: 1\n  k: 5\n  b: 2\n\nn: 2\n"),
        ("m:\n  a: 1\n\n  b: 2\n", {"after": "b"}, "m:\n  a: 1\n\n  b: 2\n\n  k: 5\n"),
        ("m:\n  a: 1\n\n  b: 2", {"after": "b"}, "m:\n  a: 1\n\n  b: 2\n\n  k: 5"),
        ("m:\n  # c\n  a: 1\n", {"before": "a"}, "m:\n  k: 5\n  # c\n  a: 1\n"),
        (
            "m:\n  # alone\n\n  # c\n  a: 1\n\n  b: 2\n",
            {"before": "a"},
            "m:\n  # alone\n\n  k: 5\n\n  # c\n  a: 1\n\n  b: 2\n",
        ),
        ("m: {a: 1, b: 2}\n", {"after": "b"}, "m: {a: 1, b: 2, k: 5}\n"),
        ("m: {a: 1, b: 2}\n", {"before": "a"}, "m: {k: 5, a: 1, b: 2}\n"),
        ("m: {a: 1, b: 2}\n", {"before": "b"}, "m: {a: 1, k: 5, b: 2}\n"),
    ],
)
def test_a_block_is_put_beside_another_one_as_the_others_are(text: str, place: dict[str, str], after: str) -> None:
    sheet = Sheet(text)
    mapping = sheet.mapping("m")
    block = entry_text("k", " 5", sheet.column(mapping))
    assert sheet.spliced([sheet.with_block(mapping, block, **place)]) == after


@pytest.mark.parametrize(
    ("text", "key", "after"),
    [
        (BLOCK, "a", "m:\n  # stands alone\n\n  # about b\n  b: 2\n\n  c: 3\n# end\n"),
        (BLOCK, "b", BLOCK.replace("  # about b\n  b: 2\n\n", "")),
        (BLOCK, "c", BLOCK.replace("\n  c: 3\n", "")),
        ("m:\n  a: 1\n\nn: 2\n", "a", "m:\n\nn: 2\n"),
        ("m:\n  a: |\n    # no comment\n  # about b\n  b: 2\n", "b", "m:\n  a: |\n    # no comment\n"),
        ("m:\n  a: 'x\n  # no comment'\n  b: 2\n", "b", "m:\n  a: 'x\n  # no comment'\n"),
        ("m:\n  a: 1\n  b: 2", "b", "m:\n  a: 1\n"),
        ("m: {a: 1, b: 2, c: 3}\n", "a", "m: {b: 2, c: 3}\n"),
        ("m: {a: 1, b: 2, c: 3}\n", "b", "m: {a: 1, c: 3}\n"),
        ("m: {a: 1, b: 2, c: 3}\n", "c", "m: {a: 1, b: 2}\n"),
        ("m: {a: 1}\n", "a", "m: {}\n"),
        ("m: {\n  a: 1,  # one\n  b: 2,  # two\n}\n", "a", "m: {\n  b: 2,  # two\n}\n"),
        ("m: {\n  a: 1,  # one\n  b: 2  # two\n}\n", "b", "m: {\n  a: 1,  # one\n    # two\n}\n"),
    ],
)
def test_an_entry_goes_with_its_comments_and_no_others(text: str, key: str, after: str) -> None:
    sheet = Sheet(text)
    assert sheet.spliced([sheet.without(sheet.mapping("m"), key)]) == after
    Sheet(after)


@pytest.mark.parametrize(
    ("text", "names", "after"),
    [
        ("m: {k: [x, web, y]}\n", ["a"], "m: {k: [x, a, y]}\n"),
        ("m: {k: [x, 'web', y]}\n", ["a", "b"], "m: {k: [x, a, b, y]}\n"),
        ("m: {k: [x, web, y]}\n", [], "m: {k: [x, y]}\n"),
        (
            "m:\n  k:\n    - x\n    - web  # c\n    - y\n",
            ["a", "b"],
            "m:\n  k:\n    - x\n    - a\n    - b  # c\n    - y\n",
        ),
        ("m:\n  k:\n  -   x\n  -   &q web\n", ["a", "b"], "m:\n  k:\n  -   x\n  -   &q a\n  -   b\n"),
        ("m:\n  k:\n    - x\n    - web\n\n  l: y\n", [], "m:\n  k:\n    - x\n\n  l: y\n"),
    ],
)
def test_names_are_written_over_an_item(text: str, names: list[str], after: str) -> None:
    sheet = Sheet(text)
    found = series(sheet, sheet.mapping("m"), "k")
    splice = sheet.with_items(found, 1, names) if names else sheet.without_item(found, 1)
    assert sheet.spliced([splice]) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("m: {x: 1, web: 2}\n", "m: {x: 1, a: 3, b: 4}\n"),
        ("m:\n  x: 1\n  web:  2  # c\n  y: 3\n", "m:\n  x: 1\n  a: 3\n  b: 4  # c\n  y: 3\n"),
    ],
)
def test_pairs_are_written_over_an_entry(text: str, after: str) -> None:
    sheet = Sheet(text)
    assert sheet.spliced([sheet.with_pairs(sheet.mapping("m"), "web", {"a": "3", "b": "4"})]) == after


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
    assert sheet.moved(sheet.mapping("m"), "k", column) == moved


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
    assert sheet.value_text(sheet.mapping("m"), "k", column) == value


@pytest.mark.parametrize(
    ("text", "comment", "after"),
    [
        ("m:\n  k: app  # c\n", False, "m:\n  k: z  # c\n"),
        ("m:\n  k: app  # c\n", True, "m:\n  k: z\n"),
        ("m:\n  k:  # c\n    - a\n    - b  # d\n  l: 1\n", True, "m:\n  k: z\n  l: 1\n"),
        ("m: {k: [a, b], l: 1}  # c\n", True, "m: {k: z, l: 1}  # c\n"),
    ],
)
def test_a_value_is_written_over(text: str, comment: bool, after: str) -> None:
    sheet = Sheet(text)
    assert sheet.spliced([sheet.with_value(sheet.mapping("m").entries["k"], " z", comment=comment)]) == after


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
    assert sheet.inner_column(sheet.mapping("m"), beside) == column


SHARED = "a: &x\n  k: 1\n  l: {n: 2}\nb: *x\nc: *x\n"


@pytest.mark.parametrize("path", [("a",), ("b",), ("a", "l"), ("c", "l")])
def test_what_an_alias_shares_is_not_changed_in_one_place(path: tuple[str, ...]) -> None:
    sheet = Sheet(SHARED)
    mapping = sheet.mapping(*path)
    first, last = next(iter(mapping.entries)), list(mapping.entries)[-1]
    for splice in (sheet.with_key(mapping, first, "5", [first]), sheet.with_key(mapping, "z", "5", [last])):
        with pytest.raises(LayoutError) as caught:
            sheet.spliced([splice])
        assert str(caught.value) == (
            "line 1: the edit changes what &x shares with another place: "
            "write it out in both places, without &x, and try again"
        )


def test_what_an_alias_shares_is_not_taken_away() -> None:
    sheet = Sheet(SHARED)
    with pytest.raises(LayoutError, match="line 1: the edit changes what &x shares"):
        sheet.spliced([sheet.without(sheet.mapping(), "a")])


def test_an_alias_itself_can_go_and_others_beside_it_can_change() -> None:
    sheet = Sheet(SHARED)
    root = sheet.mapping()
    splices = [sheet.without(root, "b"), sheet.with_entry(root, "d: 1\n", ["a"])]
    assert sheet.spliced(splices) == SHARED.replace("b: *x\n", "d: 1\n")


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
        sheet.without(sheet.mapping("m"), "k")
    assert str(caught.value) == said


def test_an_item_in_an_odd_form_is_refused() -> None:
    sheet = Sheet("m:\n  k:\n    -\n      a\n")
    with pytest.raises(LayoutError) as caught:
        sheet.with_items(series(sheet, sheet.mapping("m"), "k"), 0, ["b", "c"])
    assert str(caught.value) == "line 4: write each item of the list on a line with its dash, and try again"
