"""Readers of YAML 1.1 and 1.2 find in the text what was written."""

import io

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.cluster.manifests import EXAMPLES
from tierlb.cluster.kubernetes_yaml import documents

WORDS = st.sampled_from(["on", "No", "y", "null", "~", "12:30", "0o7", "010", "1e3", ".5", "=", "<<", "--x", "500m"])
LINES = st.lists(st.sampled_from(["", " ", "\t", "a: b", "# c", " d", "e ", "---", "ä", "\r"]), max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.booleans() | st.integers(0, 70_000) | WORDS | TEXTS | LINES.map("\n".join)
KEYS = WORDS | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def read_as_1_2(text):
    return list(YAML(typ="safe", pure=True).load_all(io.StringIO(text)))


@pytest.mark.parametrize("read", [yaml.safe_load_all, read_as_1_2])
@given(objects=st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_readers_of_both_versions_find_the_same_objects(read, objects):
    assert list(read(documents(objects))) == objects


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_topology_file_stands_there_line_by_line(example):
    text = example.read_text()
    written = documents([{"data": {"topology.yaml": text}}])
    assert "topology.yaml: |\n" in written
    assert [line.strip() for line in written.splitlines()[3:]] == [line.strip() for line in text.splitlines()]


def test_what_occurs_twice_is_written_twice():
    labels = {"a": "b"}
    assert documents([{"one": labels, "two": labels}]) == "---\none:\n  a: b\ntwo:\n  a: b\n"
