"""Bodies as they come from JSON, and the edits that they stand for."""

import pytest

from tierlb.admin.bodies import ApplyBody, EditBody, PlanBody, RestartBody, RollbackBody
from tierlb.admin.shapes import Misshapen, read
from tierlb.controller.admin_states import SetAdmin
from tierlb.controller.changes import DEADLINE_S, Request
from tierlb.model.address import Address
from tierlb.model.topology import Admin, Kind, Policy
from tierlb.topology import edit
from tierlb.topology.endpoints import SetEndpoint
from tierlb.topology.load import MAX_CHARS


@pytest.mark.parametrize("kind", [ApplyBody, EditBody, PlanBody, RestartBody, RollbackBody])
def test_the_example_is_one(kind):
    assert isinstance(read(kind, kind.EXAMPLE), kind)


@pytest.mark.parametrize(
    ("sent", "meant", "what"),
    [
        (
            {"verb": "tier-add", "name": "cache", "kind": "l7", "between": ["edge", "web"], "replicas": 2},
            edit.AddTier("cache", Kind.L7, between=("edge", "web"), replicas=2),
            "tier add cache",
        ),
        (
            {"verb": "tier-add", "name": "top", "kind": "l4", "above": "edge", "policy": "maglev"},
            edit.AddTier("top", Kind.L4, above="edge", balance=Policy.MAGLEV),
            "tier add top",
        ),
        ({"verb": "tier-remove", "name": "web"}, edit.RemoveTier("web"), "tier remove web"),
        ({"verb": "scale", "replicas": {"a": 1, "b": 2}}, edit.Scale({"a": 1, "b": 2}), "scale a=1 b=2"),
        (
            {"verb": "policy", "tier": "web", "policy": "random"},
            edit.SetPolicy("web", Policy.RANDOM),
            "policy web=random",
        ),
        (
            {"verb": "endpoint", "endpoint": "app/127.0.0.1:9001", "admin": "drain"},
            SetEndpoint("app", Address("127.0.0.1", 9001), admin=Admin.DRAIN),
            "drain app/127.0.0.1:9001",
        ),
        (
            {"verb": "endpoint", "endpoint": "app/127.0.0.1:9001", "weight": 0},
            SetEndpoint("app", Address("127.0.0.1", 9001), weight=0.0),
            "weight app/127.0.0.1:9001 0",
        ),
        (
            {"verb": "node", "node": "web-1", "admin": "maintenance"},
            SetAdmin("web-1", Admin.MAINTENANCE),
            "maintenance web-1",
        ),
    ],
)
def test_each_verb_is_an_edit(sent, meant, what):
    body = read(EditBody, {"edit": sent})
    assert (body.edit.edit(), body.edit.what) == (meant, what)


def test_what_is_not_said_is_the_usual():
    assert read(ApplyBody, {"text": ""}).request == Request("somebody", "", None, DEADLINE_S)
    said = {"text": "", "who": "ann", "why": "so", "expected": 3, "deadline_s": 5}
    assert read(ApplyBody, said).request == Request("ann", "so", 3, 5.0)
    assert read(RestartBody, {"tier": "web", "who": "ann"}).request == Request("ann")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"who": ""}, "who: write 1 to 64 characters"),
        ({"who": "a" * 65}, "who: write 1 to 64 characters"),
        ({"who": "ann\x1b[2J"}, "who: write one line"),
        ({"why": "a" * 501}, "why: write 0 to 500 characters"),
        ({"expected": 0}, "expected: write 1 to"),
        ({"deadline_s": 0.5}, "deadline_s: write 1 to 3600"),
        ({"deadline_s": 1e9}, "deadline_s: write 1 to 3600"),
        ({"text": "a" * (MAX_CHARS + 2)}, "text: write 0 to"),
    ],
)
def test_all_is_bounded(said, told):
    with pytest.raises(Misshapen, match=told):
        read(ApplyBody, {"text": "", **said})
