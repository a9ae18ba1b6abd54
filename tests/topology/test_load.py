"""Whole files: examples load, wrong ones list all problems with places, no text raises anything else."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tierlb.model.places import listed_addresses
from tierlb.topology.load import load_file, load_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.tree import draw

EXAMPLES = sorted((Path(__file__).parents[2] / "topology").glob("*.yaml"))
TEXTS = [path.read_text() for path in EXAMPLES]

WRONG = """\
cluster: Shop
admn: {listen: 127.0.0.1:7900}
tiers:
  edge:
    kind: l4
    listen: 127.0.0.1:8080
    listen: 127.0.0.1:8081
    timeouts: {stream: 2s, idle: 3}
    to: [web, ap]
  web:
    kind: l7
    replicas: 0
    to:
      app: 0
  loop: {kind: l7, listen: 127.0.0.1:8080, to: loop}
pools:
  app: {endpoints: [localhost:80, x:1], dns: foo}
  spare: {}
"""


def test_every_problem_is_reported_at_its_place_in_one_go() -> None:
    with pytest.raises(TopologyError) as caught:
        load_text(WRONG, "shop.yaml")
    assert [str(problem) for problem in caught.value.problems] == [
        "shop.yaml:1:10: cluster: 'Shop' is not a name: write at most 40 of a-z, 0-9 and - (not first)",
        "shop.yaml:2:1: admn: unknown key (did you mean 'admin'?)",
        "shop.yaml:7:5: tiers.edge.listen: duplicate key, first given in line 6",
        "shop.yaml:8:16: tiers.edge.timeouts.stream: is for l7 tiers; an l4 tier sees connections only",
        "shop.yaml:8:34: tiers.edge.timeouts.idle: '3' is not a duration: write one such as 250ms, 2s or 1m30s",
        "shop.yaml:9:15: tiers.edge.to[1]: no tier or pool named 'ap' (did you mean 'app'?)",
        "shop.yaml:12:15: tiers.web.replicas: '0' is out of range: write 1 to 1000, or auto for one per core",
        "shop.yaml:14:7: tiers.web.to: every share is 0: nothing could be sent anywhere",
        "shop.yaml:15:28: tiers.loop.listen: port 8080 is already used by tiers.edge.listen",
        "shop.yaml:15:48: tiers.loop.to: a cycle: loop → loop",
        "shop.yaml:17:35: pools.app.endpoints[1]: 'x' is a name, and endpoints are listed by address: write dns: 'x:1' "
        "in the place of endpoints, and nodes look its addresses up again and again",
        "shop.yaml:17:46: pools.app.dns: 'foo' needs a port: write NAME:PORT, or the name of SRV records, "
        "_http._tcp.NAME",
        "shop.yaml:18:3: pools.spare: no tier sends to this pool",
        "shop.yaml:18:10: pools.spare: needs one of the keys endpoints, run, agents, dns",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads_and_its_names_resolve(path: Path) -> None:
    topology = load_file(path)
    targets = {name for tier in topology.tiers.values() for name in tier.targets}
    assert targets <= {*topology.tiers, *topology.pools}
    assert any(tier.listen for tier in topology.tiers.values())


def test_the_quickstart_is_what_the_readme_promises() -> None:
    topology = load_file(EXAMPLES[0].parent / "quickstart.yaml")
    assert listed_addresses(topology.tiers["edge"]) == "127.0.0.1:8080"
    assert topology.tiers["web"].replicas == 3
    assert topology.pools["demo"].run is not None
    assert topology.pools["demo"].run.replicas == 4
    assert str(topology.admin) == "127.0.0.1:7900"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1:1: the file is empty"),
        (b"# nothing\n", "1:1: the file is empty"),
        (b"---\n", "the file is empty"),
        (b"- a\n", "1:1: a topology is a mapping"),
        (b"\n\n  shop\n", "3:3: a topology is a mapping"),
        (b"cluster: x\nname: caf\xe9\n", "2:10: not UTF-8 text: the byte 0xe9"),
        (b"\xff\xfec\0", "1:1: not UTF-8 text"),
        (b"cluster: x\ntiers: {\n", "not valid YAML"),
        (b"cluster: x\n", "1:1: the key 'tiers' is missing"),
        (b"cluster: x\ntiers:\n", "2:1: tiers: has no value"),
        (b"[" * 9_000_000, "too large"),
    ],
    ids=lambda part: part[:30] if isinstance(part, str) else "",
)
def test_what_is_no_topology_is_a_placed_problem(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    with pytest.raises(TopologyError) as caught:
        load_file(file)
    (problem,) = caught.value.problems
    assert said in str(problem)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + TEXTS[0].encode())
    assert load_file(file) == load_text(TEXTS[0], "f")


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load_file(f"{tmp_path}/{name}")


def test_duplicates_do_not_hide_other_problems() -> None:
    text = "cluster: x\ncluster: y\ntiers: {a: {kind: l7, listen: ':0', to: b}}\n"
    with pytest.raises(TopologyError) as caught:
        load_text(text, "f")
    assert [problem.path for problem in caught.value.problems] == ["cluster", "tiers.a.to"]


LINE_ENDS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def check_promise(text: str) -> None:
    """What the loader promises for any text at all."""
    try:
        topology = load_text(text, "f")
    except TopologyError as error:
        problems = error.problems
    else:
        assert draw(topology)
        return
    lines = LINE_ENDS.split(text)
    assert problems
    assert list(problems) == sorted(problems)
    for problem in problems:
        assert str(problem).isprintable()
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


@given(st.text() | st.text(alphabet="abl7:{}[]&*!|>-? \n\t'\"#%,0\\\x85\ufeff"))
@example("\ufeff")
@example("# \ud800")
@example("!x")
@example("%YAML 1.1\n---\na: 12:30")
@example("a: |\n\n")
@example("? a\n? b\n")
@example("...\n")
@example('"\\x')
@example("a: !<tag:yaml.org,2002:binary> x")
@example("a: &x 1\nb: &x 2\nc: *x")
def test_any_text_gives_a_topology_or_placed_problems(text: str) -> None:
    check_promise(text)


FRAGMENTS = st.sampled_from(
    [
        "",
        "\n",
        "  ",
        ":",
        "-",
        "{",
        "]",
        "~",
        "&a ",
        "*a",
        "!x ",
        "\x00",
        "\t",
        "é",
        "to: web",
        "kind: l4",
        "l7",
        "routes:",
        "match: ",
        "0",
        "-1",
        "1e9",
        "edge",
        "respond: {}",
        "x",
    ]
)


def test_a_file_whose_name_is_wrong_is_checked_all_the_same() -> None:
    with pytest.raises(TopologyError) as caught:
        load_text("cluster: A Shop\ntiers:\n  web: {kind: l7, listen: ':80', to: ap}\n", "f")
    assert [problem.path for problem in caught.value.problems] == ["cluster", "tiers.web.to"]


@given(st.sampled_from(TEXTS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), FRAGMENTS), max_size=4))
def test_damaged_examples_give_a_topology_or_placed_problems(text: str, damage: list[tuple[float, int, str]]) -> None:
    for where, length, fragment in damage:
        at = int(where * len(text))
        text = text[:at] + fragment + text[at + length :]
    check_promise(text)


@given(st.sampled_from(TEXTS), st.data())
def test_examples_with_a_line_moved_give_a_topology_or_placed_problems(text: str, data: st.DataObject) -> None:
    lines = text.splitlines(keepends=True)
    moved = lines.pop(data.draw(st.integers(0, len(lines) - 1)))
    lines.insert(data.draw(st.integers(0, len(lines))), moved)
    check_promise("".join(lines))
