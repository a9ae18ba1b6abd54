"""Commands in process: what they print and how they exit."""

import json
import socket

import pytest

import tierlb
from tests.cli.conftest import GOOD, run


def test_version():
    result = run("--version")
    assert (result.exit_code, tierlb.__version__ in result.output) == (0, True)


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
        ("demo-backend", "--port", "0", "--fixed"),
        ("demo-backend", "--port", "0", "--seed", "1"),
        ("status", "--admin", "7900"),
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_demo_backend_says_why_it_cannot_listen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("demo-backend", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1:" in result.stderr
