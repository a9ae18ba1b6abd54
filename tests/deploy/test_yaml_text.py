"""What is written is what every reader of YAML finds, and short things stay on one line, or nothing does."""

import io

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.deploy.manifests import EXAMPLES
from tierlb.deploy.yaml_text import YAML_WIDTH, documents, dump

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
        "12:30",
        "010",
        "--x",
        "500m",
    ]
)
LINES = st.lists(st.sampled_from(["", " ", "\t", "a: b", "# c", " d", "e ", "---", "ä", "\r"]), max_size=6)
CHARACTERS = st.characters(exclude_categories=["Cs"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | WORDS | st.text(CHARACTERS, max_size=30)
SCALARS |= LINES.map("\n".join)
KEYS = WORDS | st.text(CHARACTERS, min_size=1, max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def read(text: str, version: str) -> list[object]:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    return list(reader.load_all(io.StringIO(text)))


def read_as_python_does(text: str, _: str) -> list[object]:
    return list(yaml.safe_load_all(text))


MAPPINGS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=5)


@pytest.mark.parametrize(("how", "version"), [(read, "1.1"), (read, "1.2"), (read_as_python_does, "1.1")])
@given(data=MAPPINGS)
def test_readers_of_both_versions_of_yaml_find_the_same_data(how, version: str, data: dict[str, object]) -> None:
    assert how(dump(data), version) == [data]


@pytest.mark.parametrize(("how", "version"), [(read, "1.2"), (read_as_python_does, "1.1")])
@given(objects=st.lists(MAPPINGS, min_size=1, max_size=3))
def test_they_find_the_same_in_several_documents(how, version: str, objects: list[dict[str, object]]) -> None:
    assert how(documents(objects), version) == objects


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_topology_file_stands_there_line_by_line(example) -> None:
    text = example.read_text()
    for written in (documents([{"data": {"topology.yaml": text}}]), "---\n" + dump({"data": {"topology.yaml": text}})):
        assert "topology.yaml: |\n" in written
        assert [line.strip() for line in written.splitlines()[3:]] == [line.strip() for line in text.splitlines()]


def test_in_documents_each_thing_has_its_line_and_what_occurs_twice_is_written_twice() -> None:
    labels = {"a": "b"}
    assert documents([{"one": labels, "two": labels}]) == "---\none:\n  a: b\ntwo:\n  a: b\n"
    assert documents([{"l": [labels | {"c": []}, 1], "e": {}}]) == "---\nl:\n  - a: b\n    c: []\n  - 1\ne: {}\n"


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
    assert max(map(len, lines)) <= YAML_WIDTH + 2
    assert lines[-1].endswith("--word]")
