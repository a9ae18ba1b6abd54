import json

from tierlb.admin.answers import json_answer, refused_answer, text_answer
from tierlb.admin.refusals import RequestRefused
from tierlb.model.address import Address
from tierlb.topology.problems import Problem


def test_a_value_is_answered_as_json_that_caches_do_not_keep():
    answer = json_answer(Problem("a.yaml", 1, 2, "tiers", "is missing"), 422, {"X-More": "1"})
    assert (answer.status, answer.content_type) == (422, "application/json")
    assert json.loads(answer.content)["message"] == "is missing"
    assert (answer.fields["Cache-Control"], answer.fields["X-More"]) == ("no-store", "1")


def test_any_text_that_a_client_sent_can_be_sent_back():
    content = json_answer({"a": "\ud800 é", "b": Address("::1", 1)}).content
    assert content.isascii()
    assert json.loads(content) == {"a": "\ud800 é", "b": "[::1]:1"}


def test_a_refusal_is_answered_with_its_status_and_fields():
    answer = refused_answer(RequestRefused(401, "access", "no", {"WWW-Authenticate": "Bearer"}))
    assert (answer.status, answer.fields["WWW-Authenticate"]) == (401, "Bearer")
    assert json.loads(answer.content) == {"kind": "access", "error": "no", "problems": [], "change": None}


def test_text_is_plain():
    assert (text_answer("ok\n").content, text_answer("no", 503).status) == (b"ok\n", 503)
