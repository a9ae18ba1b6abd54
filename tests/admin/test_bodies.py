"""Bodies as they come from JSON."""

import pytest

from tierlb.admin.bodies import ApplyBody, EditBody, PlanBody, RestartBody, RollbackBody
from tierlb.admin.reading import read_typed_json
from tierlb.admin.refusals import RequestRefused
from tierlb.controller.changes import DEADLINE_S, Request
from tierlb.topology.load import MAX_CHARS


@pytest.mark.parametrize("kind", [ApplyBody, EditBody, PlanBody, RestartBody, RollbackBody])
def test_the_example_is_one(kind):
    assert isinstance(read_typed_json(kind, kind.EXAMPLE), kind)


def test_what_is_not_said_is_the_usual():
    assert read_typed_json(ApplyBody, {"text": ""}).request == Request("somebody", "", None, DEADLINE_S)
    said = {"text": "", "who": "ann", "why": "so", "expected": 3, "deadline_s": 5}
    assert read_typed_json(ApplyBody, said).request == Request("ann", "so", 3, 5.0)
    assert read_typed_json(RestartBody, {"tier": "web", "who": "ann"}).request == Request("ann")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"who": ""}, "who: write 1 to 64 characters"),
        ({"who": "a" * 65}, "who: write 1 to 64 characters"),
        ({"who": "ann\x1b[2J"}, "who: write one line"),
        ({"why": "a" * 501}, "why: write 0 to 500 characters"),
        ({"expected": 0}, "expected: .* write 1 to"),
        ({"deadline_s": 0.5}, "deadline_s: .* write 1 to 3600 seconds"),
        ({"deadline_s": 1e9}, "deadline_s: .* write 1 to 3600 seconds"),
        ({"text": "a" * (MAX_CHARS + 2)}, "text: write 0 to"),
    ],
)
def test_all_is_bounded(said, told):
    with pytest.raises(RequestRefused, match=told):
        read_typed_json(ApplyBody, {"text": "", **said})
