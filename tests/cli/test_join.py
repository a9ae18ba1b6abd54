import os

import click
import pytest

from tierlb.cli.join import invitation_or_exit
from tierlb.controlplane.invitation import Invitation, posted
from tierlb.controlplane.node import TOKEN_VARIABLE

URL = "ws://127.0.0.1:4000"


@pytest.fixture(params=["secret", ""], ids=["token", "no token"])
def token(request, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, request.param)
    return request.param


def test_a_directory_says_everything_and_no_child_inherits_a_token(tmp_path, token):
    there = Invitation(URL, "of the file")
    with posted(tmp_path, there):
        assert invitation_or_exit("", tmp_path) == there
    assert TOKEN_VARIABLE not in os.environ


def test_a_url_goes_with_the_token_of_the_environment(token):
    if token:
        assert invitation_or_exit(URL, None) == Invitation(URL, token)
    else:
        with pytest.raises(click.UsageError, match=f"set {TOKEN_VARIABLE} to the join token"):
            invitation_or_exit(URL, None)
    assert TOKEN_VARIABLE not in os.environ


def test_what_does_not_go_together_is_wrong_usage(tmp_path, token):
    with pytest.raises(click.UsageError, match="give --join or --join-file, not both"):
        invitation_or_exit(URL, tmp_path)
    with pytest.raises(click.UsageError, match="say where to join: --join-file DIR, or --join URL"):
        invitation_or_exit("", None)


def test_where_nobody_invites_the_operation_fails(tmp_path):
    with pytest.raises(click.ClickException, match=r"there is no .*control-url") as failure:
        invitation_or_exit("", tmp_path)
    assert failure.value.exit_code == 1
