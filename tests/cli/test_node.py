"""`tierlb node` before it runs; running nodes are in tests/controlplane and tests/cluster."""

import pytest

from tests.cli.conftest import run


def test_a_node_without_a_token_says_how_to_give_it():
    arguments = ("node", "--name", "web-1", "--tier", "web", "--join", "ws://127.0.0.1:1")
    result = run(*arguments, env={"TIERLB_TOKEN": ""})
    assert result.exit_code == 2
    assert "set TIERLB_TOKEN" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "nowhere"), "--host: "),
        (("--advertise", "web.example"), "--advertise: "),
        (("--control-listen", "7946"), "--control-listen: "),
        (("--control-name", "web"), "--control-name: 'web' is no name and port"),
        (("--control-name", "10.0.0.1:7946"), "--control-name"),
        (("--data-port", "70000"), "--data-port"),
    ],
)
def test_what_is_no_place_is_wrong_usage(options, said):
    result = run("node", "--tier", "web", "--join", "ws://127.0.0.1:1", *options, env={"TIERLB_TOKEN": "secret"})
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
