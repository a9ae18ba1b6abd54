"""The token that is found, the words for what cannot be, and the exit codes of refusals."""

import json
import os

import click
import pytest

from tierlb.cli.client import BadInput, Client, Declined, admin_place, exchange, parsed

TOPOLOGY = {"cluster": "shop", "revision": 1, "text": "", "file": None}
PROBLEM = {"file": "shop.yaml", "line": 3, "column": 5, "path": "tiers.web.to", "message": "no\x1b[2J name"}


def body(value):
    return json.dumps(value).encode()


def refusal(kind, **more):
    return body({"kind": kind, "error": "it cannot be", "problems": [], "change": None, **more})


@pytest.fixture
def token(tmp_path, monkeypatch):
    """As `tierlb up` left it in this directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".tierlb" / "shop" / "admin-token"
    file.parent.mkdir(parents=True)
    file.write_text("s3cret\n")
    return file


def test_the_token_is_found_by_the_name_that_the_cluster_gives_itself(serve, token):
    client = Client(serve((200, body(TOPOLOGY)), (202, b'{"number": 1}')))
    assert client.post("/v1/edit", {"why": "é"}) == (202, {"number": 1})
    head, sent = serve.sent[0]
    assert head["authorization"] == "Bearer s3cret"
    assert head["content-type"] == "application/json"
    assert json.loads(sent) == {"why": "é"}
    assert serve.asked == [("GET", "/v1/topology"), ("POST", "/v1/edit")]


def test_a_named_file_holds_it(serve, tmp_path):
    file = tmp_path / "token"
    file.write_text("other\n")
    Client(serve((200, b"{}")), file).post("/v1/plan", {})
    assert serve.sent[0][0]["authorization"] == "Bearer other"
    assert len(serve.asked) == 1


@pytest.mark.parametrize("cluster", ["../../etc", ".ssh", "", "a/b", None])
def test_no_other_file_is_read_because_of_what_somebody_answers(serve, token, cluster):
    client = Client(serve((200, body({**TOPOLOGY, "cluster": cluster}))))
    with pytest.raises(click.ClickException, match="not as a cluster does"):
        client.post("/v1/plan", {})
    assert serve.sent == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_token_of_somebody_else_cannot_be_read(serve, token):
    token.chmod(0)
    with pytest.raises(click.ClickException, match="cannot be read"):
        Client("http://127.0.0.1:1", token).post("/v1/plan", {})


def test_where_there_is_no_token_the_way_to_one_is_told(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.ClickException) as told:
        Client(serve((200, body(TOPOLOGY)))).post("/v1/plan", {})
    assert "there is no .tierlb/shop/admin-token" in told.value.message
    assert "--token-file DIR/admin-token" in told.value.message


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("topology", 2),
        ("edit", 2),
        ("request", 2),
        ("busy", 1),
        ("conflict", 1),
        ("not-possible", 1),
        ("unknown", 1),
        ("storage", 1),
        ("access", 1),
        ("something new", 1),
    ],
)
def test_refusals_are_told_by_their_exit_codes(serve, kind, code):
    with pytest.raises(Declined, match="it cannot be") as told:
        Client(serve((422, refusal(kind)))).get("/v1/progress")
    assert told.value.exit_code == code


def test_problems_are_shown_with_their_places_and_move_no_cursor(capsys):
    answer = json.loads(refusal("topology", problems=[PROBLEM, {**PROBLEM, "path": ""}]))
    BadInput(answer).show()
    assert capsys.readouterr().err.splitlines() == [
        "shop.yaml:3:5: tiers.web.to: no�[2J name",
        "shop.yaml:3:5: no�[2J name",
        "Error: it cannot be",
    ]


def test_programs_get_the_refusal_as_it_is(capsys):
    answer = json.loads(refusal("busy"))
    Declined(answer, as_json=True).show()
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, b"[]"), (500, b"oops"), (404, b'{"detail": "none"}'), (200, b"[" * 100_000)]
)
def test_who_answers_something_else_is_no_cluster(serve, answer):
    with pytest.raises(click.ClickException, match="not as a cluster does"):
        Client(serve(answer)).get("/v1/progress")


def test_no_cluster_there_says_what_to_do():
    with pytest.raises(click.ClickException, match="start one with `tierlb up FILE`"):
        exchange("http://127.0.0.1:1", "GET", "/v1/status")


def test_the_place_is_a_host_and_a_port():
    assert admin_place("http://localhost:7900") == ("localhost", 7900)
    assert admin_place("http://[::1]") == ("::1", 80)
    with pytest.raises(click.UsageError):
        admin_place("ftp://localhost")


def test_only_objects_are_answers():
    assert parsed(b'{"a": 1}') == {"a": 1}
    assert parsed(b"1") is None
