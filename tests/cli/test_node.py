"""`tierlb node` before it runs; running nodes are in tests/controlplane and tests/cluster."""

from tests.cli.conftest import run


def test_a_node_without_a_token_says_how_to_give_it():
    arguments = ("node", "--name", "web-1", "--tier", "web", "--join", "ws://127.0.0.1:1")
    result = run(*arguments, env={"TIERLB_TOKEN": ""})
    assert result.exit_code == 2
    assert "set TIERLB_TOKEN" in result.stderr
