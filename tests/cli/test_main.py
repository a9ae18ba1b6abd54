"""Commands in process: what they print and how they exit."""

import json
import socket

import pytest
from click.testing import CliRunner

import tierlb
from tierlb.cli.main import main

GOOD = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""


def run(*arguments, env=None):
    return CliRunner().invoke(main, arguments, env=env)


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "shop.yaml"
        file.write_text(text)
        return str(file)

    return write


def test_version():
    result = run("--version")
    assert (result.exit_code, tierlb.__version__ in result.output) == (0, True)


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


def test_up_starts_nothing_from_a_bad_file(write):
    result = run("up", write("cluster: shop\n"))
    assert result.exit_code == 2
    assert "nothing was started" in result.stderr


def test_up_names_a_taken_port_and_what_to_do(write):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("up", write(GOOD.replace("8080", str(port))))
    assert result.exit_code == 1
    assert f"tiers.edge.listen: cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "ss -ltnp" in result.stderr


def test_schema_is_json():
    result = run("schema")
    assert result.exit_code == 0
    assert "$schema" in json.loads(result.stdout)
    assert '"tiers"' in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("check",),
        ("check", "/nowhere.yaml"),
        ("demo-backend", "--port", "65536"),
        ("status", "--admin", "7900"),
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_a_node_without_a_token_says_how_to_give_it():
    arguments = ("node", "--name", "web-1", "--tier", "web", "--join", "ws://127.0.0.1:1")
    result = run(*arguments, env={"TIERLB_TOKEN": ""})
    assert result.exit_code == 2
    assert "set TIERLB_TOKEN" in result.stderr


def test_demo_backend_says_why_it_cannot_listen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("demo-backend", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1:" in result.stderr
