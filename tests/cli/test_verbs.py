"""What the arguments of each verb become, and which are wrong usage."""

import json

import pytest

from tests.cli.conftest import run
from tierlb.cli.verbs import COMMANDS, KINDS, POLICIES
from tierlb.model.topology import Kind, Policy

NOTHING = {"lines": [], "unsupported": []}


@pytest.mark.parametrize(
    ("arguments", "path", "edit"),
    [
        (
            "tier add cache --kind l7 --between edge web --replicas 2",
            "/v1/edit",
            {"verb": "tier-add", "name": "cache", "kind": "l7", "between": ["edge", "web"], "replicas": 2},
        ),
        (
            "tier add top --kind l4 --above edge --policy maglev",
            "/v1/edit",
            {"verb": "tier-add", "name": "top", "kind": "l4", "above": "edge", "replicas": 1, "policy": "maglev"},
        ),
        (
            "tier add low --kind l7 --below edge",
            "/v1/edit",
            {"verb": "tier-add", "name": "low", "kind": "l7", "below": "edge", "replicas": 1},
        ),
        ("tier remove cache", "/v1/edit", {"verb": "tier-remove", "name": "cache"}),
        ("scale web=5 api=2", "/v1/edit", {"verb": "scale", "replicas": {"web": 5, "api": 2}}),
        ("scale web=auto", "/v1/edit", {"verb": "scale", "replicas": {"web": "auto"}}),
        (
            "tier add low --kind l7 --below edge --replicas auto",
            "/v1/edit",
            {"verb": "tier-add", "name": "low", "kind": "l7", "below": "edge", "replicas": "auto"},
        ),
        ("policy web=round-robin", "/v1/edit", {"verb": "policy", "tier": "web", "policy": "round-robin"}),
        ("rollback 3", "/v1/rollback", None),
        ("restart web", "/v1/restart", None),
    ],
)
def test_each_verb_is_sent(serve, tmp_path, arguments, path, edit):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    url = serve((200, json.dumps(NOTHING).encode()))
    result = run(*arguments.split(), "--admin", url, "--token-file", str(token))
    assert result.exit_code == 0, result.output
    assert serve.asked == [("POST", path)]
    sent = json.loads(serve.sent[0][1])
    assert sent.get("edit") == edit
    assert {"rollback 3": 3}.get(arguments) == sent.get("number")
    assert {"restart web": "web"}.get(arguments) == sent.get("tier")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("tier add cache --kind l7", "choose where it goes"),
        ("tier add cache --kind l7 --above web --below edge", "choose where it goes"),
        ("tier add cache --kind l9 --above web", "'l9' is not one of"),
        ("tier add cache --kind l7 --above web --replicas 0", "'0' is out of range"),
        ("scale", "Missing argument"),
        ("scale web", "write NAME=VALUE"),
        ("scale web=many", "web: "),
        ("scale web=1 web=2", "given twice"),
        ("policy web", "write NAME=VALUE"),
        ("policy web=best", "web: "),
        ("scale web=1 --deadline 60", "--deadline: '60' is not a duration"),
        ("scale web=1 --expected 0", "0 is not in the range"),
        ("rollback x", "not a valid integer"),
        ("history 0", "0 is not in the range"),
        ("drain", "Missing argument"),
        ("weight web-1 5", "nodes share by what they report"),
        ("weight app/127.0.0.1:9001 much", "is not a valid float"),
        ("weight app/127.0.0.1:9001 nan", "nan is not a weight"),
        ("weight app/127.0.0.1:9001 1e999", "inf is not a weight"),
        ("scale web=1 --admin 7900", "write it as http://HOST:PORT"),
    ],
)
def test_wrong_usage_exits_with_2_and_asks_nobody(arguments, told):
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert told in result.stderr


def test_every_verb_says_what_it_is_for():
    for command in COMMANDS:
        assert run(command.name, "--help").exit_code == 0
        assert command.help.endswith((".", "=5 api=2.", "=round-robin."))


def test_what_can_be_chosen_is_what_there_is():
    assert set(POLICIES) == {policy.value for policy in Policy}
    assert set(KINDS) == {kind.value for kind in Kind}


@pytest.mark.parametrize("command", ["status", "top --once", "explain", "history", "progress", "scale web=2"])
def test_each_command_asks_with_the_files_that_were_named(tmp_path, command):
    certificates, token = tmp_path / "ca.pem", tmp_path / "token"
    where = ("--admin", "https://127.0.0.1:1", "--ca", str(certificates), "--token-file", str(token))
    no_token = run(*command.split(), *where)
    assert (no_token.exit_code, f"{token}" in no_token.stderr) == (1, True)
    token.write_text("s3cret\n")
    certificates.write_text("none\n")
    no_certificate = run(*command.split(), *where)
    assert no_certificate.exit_code == 2
    assert f"--ca {certificates}: it holds no certificates" in no_certificate.stderr
