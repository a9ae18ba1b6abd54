"""Tokens given to commands: what follows from them, and what is said of where they came from."""

import os
import stat

import click
import pytest

from tests.cli.conftest import GOOD, run
from tests.control_plane import KeptLog
from tierlb.cli import tokens
from tierlb.cli.join import join_credentials_or_exit
from tierlb.cli.tokens import (
    credential_or_exit,
    exposure,
    tell_if_exposed,
    token_from_descriptor,
    warn_if_exposed,
    warn_of_root,
)
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.wire.credentials import Principal, Role, issued, root_key

SECRET = "the secret of the cluster"
URL = "ws://127.0.0.1:4000"


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    return file


def derived(role, *path):
    return issued(root_key(SECRET), Principal(role, *path)).text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--role", "node"), (Role.NODE,)),
        (("--role", "node", "--tier", "web"), (Role.NODE, "web")),
        (("--role", "node", "--tier", "web", "--name", "web-1"), (Role.NODE, "web", "web-1")),
        (("--role", "agent"), (Role.AGENT,)),
        (("--role", "agent", "--pool", "app"), (Role.AGENT, "app")),
        (("--role", "agent", "--pool", "app", "--name", "app-1"), (Role.AGENT, "app", "app-1")),
    ],
)
def test_a_token_is_derived_for_a_role_and_bound_to_what_is_asked_for(secret, options, expected):
    result = run("token", *options, "--token-file", secret)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{derived(*expected)}\n", "")


def test_a_token_is_narrowed_without_the_secret_and_never_widened(tmp_path):
    file = tmp_path / "agents"
    file.write_text(derived(Role.AGENT, "app"))
    file.chmod(0o600)
    narrow = run("token", "--role", "agent", "--pool", "app", "--name", "app-1", "--token-file", file)
    assert narrow.stdout.strip() == derived(Role.AGENT, "app", "app-1")
    for wider in (("--role", "agent"), ("--role", "agent", "--pool", "api"), ("--role", "node"), ("--role", "node")):
        result = run("token", *wider, "--token-file", file)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "this token is for agents of pool app, not for" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--role", "node", "--pool", "app"), "--pool does not go with --role node"),
        (("--role", "agent", "--tier", "web"), "--tier does not go with --role agent"),
        (("--role", "node", "--name", "web-1"), "--name needs --tier"),
        (("--role", "agent", "--name", "app-1"), "--name needs --pool"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(secret, options, said):
    result = run("token", *options, "--token-file", secret)
    assert (result.exit_code, said in result.stderr) == (2, True)


def test_a_file_is_written_for_its_owner_alone_and_nothing_is_overwritten(secret, tmp_path):
    output = tmp_path / "for-nodes"
    options = ("token", "--role", "node", "--token-file", secret, "--output", output)
    assert run(*options).stdout == ""
    assert output.read_text() == f"{derived(Role.NODE)}\n"
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    result = run(*options)
    assert (result.exit_code, "is there already" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("mode", "exposed"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True), (0o604, True)]
)
def test_a_file_that_others_can_read_is_warned_of_with_what_to_do(secret, mode, exposed):
    secret.chmod(mode)
    log = KeptLog()
    warn_if_exposed(log, None, secret)
    result = run("token", "--role", "node", "--token-file", secret)
    assert bool(log.events) is exposed
    assert (f"chmod 600 {secret}" in result.stderr) is exposed
    if exposed:
        assert log.events == [("token_exposed", {"reason": exposure(secret)})]
        assert SECRET not in exposure(secret)


def test_secrets_of_containers_are_as_the_engine_mounts_them(secret, monkeypatch):
    secret.chmod(0o444)
    monkeypatch.setattr(tokens, "CONTAINER_SECRETS", secret.parent)
    assert exposure(secret) == ""


def test_an_environment_is_warned_of_and_a_descriptor_is_not(secret, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    assert TOKEN_VARIABLE in join_credentials_or_exit(URL, None).exposed
    given = join_credentials_or_exit(URL, None, None, os.open(secret, os.O_RDONLY))
    assert (given.token, given.exposed) == (SECRET, "")
    secret.chmod(0o644)
    assert join_credentials_or_exit(URL, None, secret).exposed == exposure(secret) != ""
    with pytest.raises(click.UsageError, match="--token-file or --token-fd, not both"):
        join_credentials_or_exit(URL, None, secret, 0)


def test_a_descriptor_without_a_token_ends_the_command():
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(click.ClickException, match=f"--token-fd {reading}: "):
        token_from_descriptor(reading)
    with pytest.raises(click.ClickException, match=r"--token-fd 999: "):
        token_from_descriptor(999)


def test_the_secret_itself_is_narrowed_and_what_to_give_instead_is_logged():
    principal = Principal(Role.AGENT, "app", "app-1")
    credential, is_root = credential_or_exit(SECRET, principal)
    assert (credential.text, is_root) == (derived(Role.AGENT, "app", "app-1"), True)
    assert credential_or_exit(derived(Role.AGENT), principal)[1] is False
    log = KeptLog()
    warn_of_root(log, principal)
    ((event, fields),) = log.events
    assert event == "root_token_given"
    assert "tierlb token --token-file FILE --role agent --pool app" in fields["fix"]


@pytest.mark.parametrize("command", ["node", "agent"])
def test_a_token_for_something_else_is_wrong_usage(tmp_path, command):
    file = tmp_path / "token"
    file.write_text(derived(Role.AGENT, "api") if command == "node" else derived(Role.NODE))
    file.chmod(0o600)
    group = {
        "node": ("--tier", "web"),
        "agent": ("--pool", "app", "--address", "127.0.0.1:9001"),
    }[command]
    result = run(command, *group, "--join", URL, "--token-file", file)
    assert result.exit_code == 2
    assert "this token is for" in result.stderr
    assert "tierlb1/" not in result.stderr, "no key is shown"


def test_a_name_of_all_nodes_needs_a_token_for_all_of_them(tmp_path):
    file = tmp_path / "token"
    file.write_text(derived(Role.NODE, "web", "web-1"))
    file.chmod(0o600)
    options = ("--tier", "web", "--name", "web-1", "--join", URL, "--token-file", file)
    result = run("node", *options, "--control-name", "web:7946")
    assert (result.exit_code, "the token has to be for the tier" in result.stderr) == (2, True)


def test_a_controller_needs_the_secret_and_not_what_follows_from_it(tmp_path, write):
    file = tmp_path / "token"
    file.write_text(derived(Role.NODE))
    file.chmod(0o600)
    result = run("controller", write(GOOD), "--token-file", file, "--state", tmp_path / "state")
    assert (result.exit_code, "a controller needs the secret it was made from" in result.stderr) == (2, True)


def test_a_command_of_the_admin_api_warns_of_its_token_file(tmp_path):
    token = tmp_path / "admin-token"
    token.write_text("t" * 20 + "\n")
    token.chmod(0o644)
    result = run("history", "--token-file", token, "--admin", "http://127.0.0.1:1")
    assert (result.exit_code, f"chmod 600 {token}" in result.stderr) == (1, True)


def test_a_command_warns_of_a_file_once_however_often_it_asks(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).touch(0o644)
        for _ in range(3):
            tell_if_exposed(tmp_path / name)
    assert capsys.readouterr().err.splitlines() == [f"warning: {exposure(tmp_path / name)}" for name in ("one", "two")]
