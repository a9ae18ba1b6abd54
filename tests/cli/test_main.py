"""Commands in process: what they print and how they exit."""

import click
import pytest

import tierlb
from tests.cli.conftest import run
from tierlb.cli.commands import ALL_COMMANDS
from tierlb.cli.main import main
from tierlb.model.build import BUILD


def test_version():
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"tierlb, version {tierlb.__version__} ({BUILD})\n")


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


def test_all_commands_are_listed_and_found():
    context = click.Context(main)
    names = {command.name for command in ALL_COMMANDS} | {"agent", "controller", "node"}
    assert set(main.list_commands(context)) == names
    assert {name for name in names if main.get_command(context, name) is None} == set()
