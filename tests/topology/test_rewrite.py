"""Each change of a text, as exact text before and after: what belongs to others stays where it is."""

import pytest

from tierlb.topology.excerpts import entry_text
from tierlb.topology.layout import LayoutError
from tierlb.topology.parts import ListPart, MappingPart
from tierlb.topology.rewrite import Sheet, Splice

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


def series(sheet: Sheet, mapping: MappingPart, key: str) -> ListPart:
    found = mapping.entries[key].value
    assert isinstance(found, ListPart)
    return found


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
    block = entry_text("k", " 5", sheet.layout.column(mapping))
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
