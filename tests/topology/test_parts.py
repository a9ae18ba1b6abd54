"""Every part's offsets lead to the very characters that it is written with."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.topology.parts import Alias, ListPart, MappingPart, Part, Word, meant, parse_parts

TEXTS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "topology").glob("*.yaml"))]


def raw(text: str, part: Part) -> str:
    return text[part.start : part.end]


def value(text: str, key: str = "k") -> Part:
    root = parse_parts(text).root
    assert isinstance(root, MappingPart)
    return root.entries[key].value


@pytest.mark.parametrize(
    ("text", "written", "meaning"),
    [
        ("k: web", "web", "web"),
        ("k:   web  # c\n", "web", "web"),
        ("k: 'it''s'\n", "'it''s'", "it's"),
        ('k: "a\\n"\n', '"a\\n"', "a\n"),
        ("k: &x web\n", "web", "web"),
        ("k: &x\n  web\n", "web", "web"),
        ("k: a\n  b\nl: c\n", "a\n  b", "a b"),
        ("k: |\n  a\n  b\n\n# c\nl: c\n", "|\n  a\n  b", "a\nb\n"),
        ("k: >-\n  a\n\nl: c\n", ">-\n  a", "a"),
        ("k: |+\n  a\n\nl: c\n", "|+\n  a\n", "a\n\n"),
        ("k:\nl: c\n", "", ""),
        ("k: &x\nl: c\n", "", ""),
        ("{l: c, k: web}", "web", "web"),
        ('{"k":web}', "web", "web"),
        ("\ufeffk: web\r\n", "web", "web"),
        ("# é\u2028k: wéb\r\n", "wéb", "wéb"),
    ],
)
def test_a_scalar_is_found_as_written(text: str, written: str, meaning: str) -> None:
    found = value(text)
    assert isinstance(found, Word)
    assert raw(text, found) == written
    assert found.text == meaning


@pytest.mark.parametrize(
    ("text", "written", "flow", "items"),
    [
        ("k: [a, b]  # c\n", "[a, b]", True, ["a", "b"]),
        ("k: &x [a]\n", "[a]", True, ["a"]),
        ("k: [\n  a,  # c\n]\nl: d\n", "[\n  a,  # c\n]", True, ["a"]),
        ("k: []\n", "[]", True, []),
        ("k:\n  - a\n  - b  # c\n# d\nl: e\n", "a\n  - b", False, ["a", "b"]),
        ("k: &x\n- a\nl: e\n", "a", False, ["a"]),
    ],
)
def test_a_list_is_found_as_written(text: str, written: str, flow: bool, items: list[str]) -> None:
    found = value(text)
    assert isinstance(found, ListPart)
    assert raw(text, found) == written
    assert found.flow is flow
    assert [raw(text, item) for item in found.items] == items


@pytest.mark.parametrize(
    ("text", "written", "flow"),
    [
        ("k: {a: 1, b: 2}\n", "{a: 1, b: 2}", True),
        ("k: &x {a: 1}\n", "{a: 1}", True),
        ("k:\n  a: 1\n  b: 2  # c\n\nl: e\n", "a: 1\n  b: 2", False),
        ("k: &x\n  a: 1\n", "a: 1", False),
    ],
)
def test_a_mapping_is_found_as_written(text: str, written: str, flow: bool) -> None:
    found = value(text)
    assert isinstance(found, MappingPart)
    assert raw(text, found) == written
    assert found.flow is flow
    for key, entry in found.entries.items():
        assert raw(text, entry.key) == entry.key.text == key


def test_an_alias_has_its_own_place_and_the_meaning_of_its_anchor() -> None:
    text = "a: &x [b]\nk: *x\nd: c\n"
    found = value(text)
    assert isinstance(found, Alias)
    assert raw(text, found) == "*x"
    assert meant(found) == value(text, "a")
    assert [text[start:end] for start, end in parse_parts(text).shared] == ["&x [b]"]


def test_an_alias_as_a_key_is_found_under_what_it_means() -> None:
    text = "a: &x web\nk: {*x : 1}\n"
    found = value(text)
    assert isinstance(found, MappingPart)
    assert raw(text, found.entries["web"].key) == "*x"


def test_an_anchor_without_alias_is_not_shared() -> None:
    assert parse_parts("a: &x b\n").shared == ()


def test_spans_leave_comments_and_layout_out() -> None:
    text = "# c\na: 'b'  # d\n\ne:\n  - {f: g}\n"
    assert {text[start:end] for start, end in parse_parts(text).spans} == {"a", "'b'", "e", "{f: g}", "f", "g"}


@given(st.sampled_from(TEXTS))
def test_the_parts_of_the_examples_lie_within_each_other_and_in_order(text: str) -> None:
    def check(part: Part, start: int, end: int) -> None:
        assert start <= part.start <= part.end <= end
        match part:
            case ListPart(items=items):
                for before, after in itertools.pairwise(items):
                    assert before.end <= after.start
                for item in items:
                    check(item, part.start, part.end)
            case MappingPart(entries=entries):
                for entry in entries.values():
                    assert part.start <= entry.key.start <= entry.key.end <= entry.value.start
                    check(entry.value, entry.key.end, part.end)

    check(parse_parts(text).root, 0, len(text))
