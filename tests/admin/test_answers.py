import json

import attrs

from tierlb.admin.answers import Answer, plain
from tierlb.model.address import Address
from tierlb.model.topology import Admin
from tierlb.topology.problems import Problem


def test_a_value_is_answered_as_json_that_nobody_keeps():
    answer = Answer(Problem("a.yaml", 1, 2, "tiers", "is missing"), 422, {"x-more": "1"})
    assert answer.status_code == 422
    assert json.loads(answer.body)["message"] == "is missing"
    assert (answer.headers["cache-control"], answer.headers["x-more"]) == ("no-store", "1")


def test_whatever_somebody_wrote_can_be_sent_back():
    assert json.loads(Answer({"a": "\ud800 é", "b": Address("::1", 1)}).body) == {"a": "\ud800 é", "b": "[::1]:1"}


@attrs.frozen
class House:
    rooms: tuple[str, ...]
    state: Admin = Admin.READY
    _secret: int = 3


def test_values_become_plain_without_what_is_private():
    assert plain({"at": (Address("127.0.0.1", 80),)}) == {"at": ["127.0.0.1:80"]}
    assert plain(House(("attic",))) == {"rooms": ["attic"], "state": "ready"}
