"""`tierlb check`, and how every command reports a bad file."""

from tests.cli.conftest import GOOD, run


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
