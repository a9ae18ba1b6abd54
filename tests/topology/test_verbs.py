"""The verbs as JSON, as words of the command line, and as they are typed."""

from typing import Any

import pytest

from tierlb.model.address import Address
from tierlb.model.topology import Admin, Kind, Policy
from tierlb.topology.reading import read_typed
from tierlb.topology.verbs import (
    AddTier,
    EditError,
    RemoveTier,
    Scale,
    SetEndpoint,
    SetNode,
    SetPolicy,
    Verb,
    command_of,
    parse_policy,
    parse_scale,
    verb_json,
)

VERBS: list[tuple[dict[str, Any], Verb, str]] = [
    (
        {"verb": "tier-add", "name": "cache", "kind": "l7", "between": ["edge", "web"], "replicas": 2},
        AddTier("cache", Kind.L7, between=("edge", "web"), replicas=2),
        "tier add cache",
    ),
    (
        {"verb": "tier-add", "name": "top", "kind": "l4", "above": "edge", "replicas": 1, "policy": "maglev"},
        AddTier("top", Kind.L4, above="edge", policy=Policy.MAGLEV),
        "tier add top",
    ),
    ({"verb": "tier-remove", "name": "web"}, RemoveTier("web"), "tier remove web"),
    ({"verb": "scale", "replicas": {"a": 1, "b": 2}}, Scale({"a": 1, "b": 2}), "scale a=1 b=2"),
    ({"verb": "scale", "replicas": {"a": "auto"}}, Scale({"a": "auto"}), "scale a=auto"),
    ({"verb": "policy", "tier": "web", "policy": "random"}, SetPolicy("web", Policy.RANDOM), "policy web=random"),
    (
        {"verb": "endpoint", "endpoint": "app/127.0.0.1:9001", "admin": "drain"},
        SetEndpoint("app/127.0.0.1:9001", admin=Admin.DRAIN),
        "drain app/127.0.0.1:9001",
    ),
    (
        {"verb": "endpoint", "endpoint": "app/127.0.0.1:9001", "weight": 0},
        SetEndpoint("app/127.0.0.1:9001", weight=0.0),
        "weight app/127.0.0.1:9001 0",
    ),
    (
        {"verb": "node", "node": "web-1", "admin": "maintenance"},
        SetNode("web-1", Admin.MAINTENANCE),
        "maintenance web-1",
    ),
]


@pytest.mark.parametrize(("sent", "verb", "command"), VERBS)
def test_a_verb_is_the_same_in_json_and_as_a_value(sent: dict[str, Any], verb: Verb, command: str) -> None:
    assert read_typed(Verb, sent).value == verb
    assert {key: list(item) if isinstance(item, tuple) else item for key, item in verb_json(verb).items()} == sent
    assert command_of(verb) == command


def test_an_endpoint_is_named_by_its_pool_and_address() -> None:
    assert SetEndpoint("app/[::1]:9001").place() == ("app", Address("::1", 9001))
    with pytest.raises(EditError, match="write POOL/HOST:PORT"):
        SetEndpoint("app/here").place()


def test_words_of_the_command_line_are_read() -> None:
    assert parse_scale("web=5") == Scale({"web": 5})
    assert parse_scale("web=5", "app = 2") == Scale({"web": 5, "app": 2})
    assert parse_policy("web=round-robin") == SetPolicy("web", Policy.ROUND_ROBIN)
    assert AddTier("mid", "l7", above="web") == AddTier("mid", Kind.L7, above="web")
    assert AddTier("mid", "l7", above="web", policy="random").policy is Policy.RANDOM
    assert AddTier("mid", "l7", above="web").policy is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["web"], "'web' is not complete: write NAME=VALUE, such as web=5"),
        (["=5"], "'=5' is not complete: write NAME=VALUE, such as web=5"),
        (["web="], "'web=' is not complete: write NAME=VALUE, such as web=5"),
        (["web=x"], "web: 'x' is not a whole number: write 1 to 1000, or auto for one per core"),
        (["web=0"], "web: '0' is out of range: write 1 to 1000, or auto for one per core"),
        (["web=1.5"], "web: '1.5' is not a whole number: write 1 to 1000, or auto for one per core"),
        (["web=2", "web=3"], "'web' is given twice: write it once"),
    ],
)
def test_a_scale_that_says_nothing_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(EditError) as caught:
        parse_scale(*words)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("web", "'web' is not complete: write NAME=VALUE, such as web=round-robin"),
        ("web=round", "web: 'round' is not known: write load-aware, .* or maglev .did you mean 'round-robin'.."),
    ],
)
def test_a_policy_that_says_nothing_is_refused(word: str, said: str) -> None:
    with pytest.raises(EditError, match=said):
        parse_policy(word)


def test_values_that_do_not_exist_are_refused() -> None:
    with pytest.raises(EditError, match="'l5' is not known: write l4 or l7"):
        AddTier("mid", "l5", above="web")
    with pytest.raises(EditError, match="'rnd' is not known"):
        SetPolicy("web", "rnd")
    with pytest.raises(EditError, match="'rnd' is not known"):
        AddTier("mid", "l7", above="web", policy="rnd")
