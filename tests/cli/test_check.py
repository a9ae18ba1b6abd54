"""`tierlb check`, and how every command reports a bad file."""

import json

from tests.cli.conftest import GOOD, run
from tierlb.cli import check
from tierlb.topology.load import Checked, load_text
from tierlb.topology.problems import Problem


def test_check_draws_the_tree(write):
    result = run("check", write(GOOD))
    assert result.exit_code == 0
    assert "edge" in result.stdout
    assert "app" in result.stdout


def test_check_tells_every_problem_on_stderr_and_exits_with_2(write):
    result = run("check", write(GOOD.replace("to: app", "to: ap").replace("kind: l4", "kind: l5")))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "tiers.web.to" in result.stderr
    assert "tiers.edge.kind" in result.stderr
    assert "2 problems" in result.stderr


def test_problems_are_json_with_their_places_and_the_exit_code_stays(write):
    file = write(GOOD.replace("to: web", "to: wep"))
    result = run("check", file, "--json")
    assert result.exit_code == 2
    (problem,) = [each for each in json.loads(result.stdout) if each["path"] == "tiers.edge.to"]
    assert problem == {
        "severity": "error",
        "file": file,
        "line": 3,
        "column": 50,
        "path": "tiers.edge.to",
        "message": "no tier or pool named 'wep' (did you mean 'web'?)",
    }


def test_a_good_file_has_no_problems_in_json(write):
    result = run("check", write(GOOD), "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_a_file_that_is_not_there_is_a_usage_error_in_json_too():
    assert run("check", "nowhere.yaml", "--json").exit_code == 2


def test_warnings_are_told_and_keep_nothing_from_running(write, monkeypatch):
    warning = Problem("shop.yaml", 3, 5, "tiers.web", "is odd", warning=True)
    monkeypatch.setattr(check, "check_file", lambda file, use=None: Checked(load_text(GOOD, str(file)), (warning,)))
    result = run("check", write(GOOD))
    assert (result.exit_code, result.stderr) == (0, "shop.yaml:3:5: warning: tiers.web: is odd\n")
    assert result.stdout.startswith("shop")
    result = run("check", write(GOOD), "--json")
    assert (result.exit_code, [each["severity"] for each in json.loads(result.stdout)]) == (0, ["warning"])
