"""What is written is what every reader of YAML finds, and short things stay on one line."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tierlb.cluster.yaml_text import WIDTH, dump

WORDS = st.sampled_from(
    [
        "on",
        "No",
        "y",
        "--tier",
        "-I",
        "---",
        "-",
        "3s",
        "0s",
        "null",
        "~",
        "12:30:45",
        "0o7",
        "1e3",
        ".5",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
    ]
)
CHARACTERS = st.characters(exclude_categories=["Cs"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | WORDS | st.text(CHARACTERS, max_size=30)
KEYS = WORDS | st.text(CHARACTERS, min_size=1, max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def read(text: str, version: str) -> object:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    return reader.load(io.StringIO(text))


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@given(data=st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_readers_of_both_versions_of_yaml_find_the_same_data(version: str, data: dict[str, object]) -> None:
    assert read(dump(data), version) == data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": 1, "b": 0.5, "c": True, "d": None}, "a: 1\nb: 0.5\nc: true\nd: null\n"),
        (
            {"image": "tierlb:1", "path": "./a/b-c.pem", "on": "off"},
            'image: "tierlb:1"\npath: ./a/b-c.pem\n"on": "off"\n',
        ),
        ({"a": [], "b": {}, "c": ["x", 2]}, "a: []\nb: {}\nc: [x, 2]\n"),
        ({"a": {"b": {"c": "d"}}, "e": [{"f": ["g"]}]}, "a:\n  b: {c: d}\n\ne:\n  - f: [g]\n"),
    ],
)
def test_what_is_short_stands_on_one_line(data: dict[str, object], text: str) -> None:
    assert dump(data) == text


def test_a_list_that_is_too_long_for_a_line_fills_several() -> None:
    first, *lines, last = dump({"all": ["--word"] * 30, "then": 1}).splitlines()
    assert (first, last) == ("all:", "then: 1")
    assert [line.split("--")[0] for line in lines] == ["  [", "   ", "   "]
    assert max(map(len, lines)) <= WIDTH + 2
    assert lines[-1].endswith("--word]")
