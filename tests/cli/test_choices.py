"""From lines of JSON, honest ones and others, to the way that a request took; and the table of it."""

import io
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.cli.conftest import words
from tierlb.cli.choices import ChoiceTrace, ConsideredHost, TracedChoice, as_plain, trace_of, trace_table

TIERS = {
    "edge": ("l4", ["web"], 2),
    "web": ("l7", ["inner", "both", "app"], 2),
    "inner": ("l4", ["deep"], 2),
    "deep": ("l7", ["app"], 2),
    "tcp": ("l4", ["app"], 1),
    "both": ("l4", ["deep", "app"], 1),
}
STATUS = {
    "tiers": {
        name: {"kind": kind, "to": to, "nodes": [{"name": f"{name}-{number + 1}"} for number in range(count)]}
        for name, (kind, to, count) in TIERS.items()
    }
}
ENDPOINT = "app/127.0.0.1:9001"
OTHER = "app/127.0.0.1:9002"


def line(node, chose, *others, **more):
    names = ([chose] if chose else []) + list(others)
    hosts = [{"member": name, "in_flight": 3, "score": 0.5, "capacity": 20.0} for name in names]
    return json.dumps({"node": node, "policy": "load-aware", "chose": chose, "members": hosts, **more})


def answered(node, status=404):
    return json.dumps({"node": node, "answered": status})


def nodes_of(way):
    return [choice.node for choice in way.choices]


EDGE, WEB = line("edge-1", "web-2", "web-1"), line("web-2", ENDPOINT, OTHER)


@pytest.mark.parametrize(
    ("entry", "lines", "nodes", "endpoint", "missing", "by"),
    [
        ("edge", [EDGE, WEB], ["edge-1", "web-2"], ENDPOINT, None, ENDPOINT),
        ("web", [WEB], ["web-2"], ENDPOINT, None, ENDPOINT),
        ("edge", [EDGE, line("web-2", OTHER), WEB], ["edge-1", "web-2", "web-2"], ENDPOINT, None, ENDPOINT),
        ("edge", [line("edge-2", "web-1"), EDGE], ["edge-2"], None, "web-1", ""),
        ("edge", [EDGE, answered("web-2")], ["edge-1", "web-2"], None, None, "web-2"),
        ("edge", [EDGE, WEB, answered("web-2", 502)], ["edge-1", "web-2", "web-2"], None, None, "web-2"),
        ("edge", [EDGE, line("web-2", None)], ["edge-1", "web-2"], None, None, "web-2"),
        ("edge", [], [], None, "tier edge", ""),
        ("edge", [WEB], [], None, "tier edge", ""),
        ("edge", [EDGE], ["edge-1"], None, "web-2", ""),
        ("edge", [EDGE, line("web-1", OTHER)], ["edge-1"], None, "web-2", ""),
        ("edge", [EDGE, WEB, line("edge-1", OTHER)], ["edge-1", "web-2"], ENDPOINT, None, ENDPOINT),
    ],
)
def test_the_way_is_followed_from_the_entry_down(entry, lines, nodes, endpoint, missing, by):
    way = trace_of(STATUS, entry, lines)
    assert (nodes_of(way), way.endpoint, way.missing, way.by) == (nodes, endpoint, missing, by)


def test_how_a_connection_gets_to_the_chosen_node_is_told():
    trace = trace_of(STATUS, "edge", [line("edge-1", "web-2", way="handoff"), WEB])
    assert [choice.way for choice in trace.choices] == ["handoff", ""]
    assert "edge-1 · edge l4 · load-aware · handoff" in shown(trace)
    assert trace_of(STATUS, "edge", [line("edge-1", "web-2", way=7)]).choices == ()


def test_an_l4_node_below_l7_may_have_chosen_before_somebody_asked():
    deep = line("deep-1", ENDPOINT)
    first = [EDGE, line("web-2", "inner-1")]
    assert nodes_of(trace_of(STATUS, "edge", [*first, line("inner-1", "deep-1"), deep])) == [
        *("edge-1", "web-2", "inner-1", "deep-1")
    ]
    way = trace_of(STATUS, "edge", [*first, deep])
    assert (nodes_of(way), way.endpoint, way.missing) == (["edge-1", "web-2", "deep-1"], ENDPOINT, None)
    assert trace_of(STATUS, "edge", first).missing == "inner-1", "the l7 node behind has to speak"
    way = trace_of(STATUS, "edge", [EDGE, line("web-2", "tcp-1")])
    assert (way.endpoint, way.missing, way.by) == (None, None, "tcp-1"), "nobody behind could"
    assert trace_of(STATUS, "tcp", []).missing == "tier tcp"
    way = trace_of(STATUS, "edge", [EDGE, line("web-2", "both-1")])
    assert (way.endpoint, way.missing, way.by) == (None, None, "both-1"), "who is behind is not believed"


@pytest.mark.parametrize(
    "bad",
    [
        *("", "x", "[]", "7", "null", '"edge-1"', "{}", "[" * 60_000),
        *('{"node": []}', '{"node": "nobody", "chose": "web-2"}', '{"node": "edge-1"}', '{"node": {}, "chose": 1}'),
        line("edge-1", "web-2", members=7),
        line("edge-1", "web-2", members=[7]),
        line("edge-1", "web-2", members=[{"member": "web-2"}]),
        line("edge-1", "web-2", members=[{"member": "web-2", "in_flight": "many"}]),
        line("edge-1", "web-2", members=[{"member": "web-2", "in_flight": float("inf")}]),
        line("edge-1", "web-2", members=[{"member": "web-2", "in_flight": 1, "score": []}]),
        line("edge-1", "web-2", more="?"),
        line("edge-1", []),
        '{"node": "edge-1", "answered": "no"}',
    ],
)
def test_what_no_node_says_is_passed_over(bad):
    way = trace_of(STATUS, "edge", [bad, EDGE, bad, WEB])
    assert (nodes_of(way), way.missing) == (["edge-1", "web-2"], None)


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.sampled_from(["edge-1", "web-2", ENDPOINT]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"node": st.sampled_from(["edge-1", "web-2"]) | anything},
            optional={
                "policy": anything,
                "chose": anything,
                "answered": anything,
                "more": anything,
                "members": st.lists(
                    st.dictionaries(
                        st.sampled_from(["member", "in_flight", "score", "capacity", "availability"]), anything
                    )
                )
                | anything,
            },
        ),
        max_size=4,
    )
)
def test_whatever_is_said_can_be_shown(told):
    way = trace_of(STATUS, "edge", [json.dumps(each) for each in told])
    text = shown(way)
    assert all(character.isprintable() or character == "\n" for character in text)
    json.dumps(as_plain(way))


def shown(way, width=120):
    console = Console(width=width, file=io.StringIO())
    console.print(trace_table(way))
    return console.file.getvalue()


OLD = ConsideredHost(ENDPOINT, 12345, capacity=2000.0, parked=40, capacity_age_s=300.0)
CHOICES = (
    TracedChoice(
        *("edge-1", "edge", "l4", "load-aware", "web-2"),
        (
            ConsideredHost("web-2", 3, 0.00123456, 1234.5, 0.25),
            ConsideredHost("web-1", 9, 0.5, 1234.5, 3.0, "ejected"),
        ),
        more=4,
    ),
    TracedChoice("web-2", "web", "l7", "round-robin", OTHER, (ConsideredHost(OTHER, 0), OLD)),
    TracedChoice("web-2", "web", "l7", "round-robin", ENDPOINT, (ConsideredHost(ENDPOINT, 1),)),
)


def test_the_table_marks_the_chosen_and_shows_what_the_choice_went_by():
    headings, _, *rows = words(shown(ChoiceTrace(CHOICES, ENDPOINT)))
    assert " ".join(headings) == "score in flight parked capacity report age availability"
    assert rows == [
        ["edge-1", "·", "edge", "l4", "·", "load-aware"],
        ["▸", "web-2", "0.00123", "3", "1,234/s", "0.25", "s", "available"],
        ["web-1", "0.5", "9", "1,234/s", "3.00", "s", "ejected"],
        ["…", "4", "more"],
        ["web-2", "·", "web", "l7", "·", "round-robin"],
        ["▸", OTHER, "0", "?", "available"],
        [ENDPOINT, "12,345", "40", "2,000/s", "(5", "min)", "available"],
        ["web-2", "·", "web", "l7", "·", "round-robin", "·", "once", "more"],
        ["▸", ENDPOINT, "1", "?", "available"],
    ]


def test_of_what_endpoints_of_connections_can_do_nothing_is_to_be_known():
    choice = TracedChoice(
        "edge-1",
        "edge",
        "l4",
        "load-aware",
        ENDPOINT,
        (ConsideredHost(ENDPOINT, 1), ConsideredHost("app-1", 1, None, None, 0.5)),
    )
    *_, endpoint, agent = words(shown(ChoiceTrace((choice,), ENDPOINT)))
    assert endpoint == ["▸", ENDPOINT, "1", "available"]
    assert agent == ["app-1", "1", "?", "0.50", "s", "available"]


def test_each_choice_stands_deeper_than_the_one_above():
    lines = shown(ChoiceTrace(CHOICES, ENDPOINT)).splitlines()
    indents = [len(text) - len(text.lstrip()) for text in lines if " · " in text]
    assert indents == [0, 2, 4]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (ChoiceTrace(CHOICES[:1], missing="web-2"), "web-2 did not explain its choice"),
        (
            ChoiceTrace((TracedChoice("web-1", "web", "l7", "", None, answered=404),)),
            "web-1 · web l7 · answered itself with 404",
        ),
        (ChoiceTrace((TracedChoice("web-1", "web", "l7", "random", None),)), "web-1 · web l7 · random · found no host"),
    ],
)
def test_ends_that_are_no_endpoint_are_told(way, said):
    assert said in shown(way)


def test_for_programs_it_is_all_there():
    plain = json.loads(json.dumps(as_plain(ChoiceTrace(CHOICES, ENDPOINT))))
    assert (plain["endpoint"], plain["missing"]) == (ENDPOINT, None)
    seen = plain["choices"][0]["members"][1]
    assert seen.pop("member") == CHOICES[0].hosts[1].host
    assert seen.items() <= attrs.asdict(CHOICES[0].hosts[1]).items()
