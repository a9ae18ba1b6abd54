import os

import click
import pytest

from tierlb.channel.join_credentials import JoinCredentials, posted
from tierlb.cli.join import join_credentials_or_exit, own_name
from tierlb.node.process import TOKEN_VARIABLE

URL = "ws://127.0.0.1:4000"


@pytest.fixture(params=["secret", ""], ids=["token", "no token"])
def token(request, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, request.param)
    return request.param


def test_a_directory_says_everything_and_no_child_inherits_a_token(tmp_path, token):
    there = JoinCredentials(URL, "of the file")
    with posted(tmp_path, there):
        assert join_credentials_or_exit("", tmp_path) == there
    assert TOKEN_VARIABLE not in os.environ


def test_a_url_goes_with_the_token_of_the_environment(token):
    if token:
        assert join_credentials_or_exit(URL, None) == JoinCredentials(URL, token)
    else:
        with pytest.raises(click.UsageError, match=f"give --token-file, or set {TOKEN_VARIABLE}"):
            join_credentials_or_exit(URL, None)
    assert TOKEN_VARIABLE not in os.environ


def test_what_does_not_go_together_is_wrong_usage(tmp_path, token):
    for given in ((URL, tmp_path), ("", tmp_path, tmp_path / "token")):
        with pytest.raises(click.UsageError, match="or --join-file"):
            join_credentials_or_exit(*given)
    with pytest.raises(click.UsageError, match="name the controller: --join-file DIR, or --join URL"):
        join_credentials_or_exit("", None)


def test_where_nobody_invites_the_operation_fails(tmp_path):
    with pytest.raises(click.ClickException, match=r"there is no .*control-url") as failure:
        join_credentials_or_exit("", tmp_path)
    assert failure.value.exit_code == 1


def test_a_file_with_the_token_goes_with_one_url_or_several(tmp_path, token):
    file = tmp_path / "token"
    file.write_text("of the secret\n")
    for url in (URL, f"{URL},wss://controller-2:7901"):
        assert join_credentials_or_exit(url, None, file) == JoinCredentials(url, "of the secret")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_token_says_so(tmp_path, token, content):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(click.ClickException, match="token") as failure:
        join_credentials_or_exit(URL, None, tmp_path / "token")
    assert failure.value.exit_code == 1


@pytest.mark.parametrize("url", ["controller:7901", "http://controller:7901", "ws://", f"{URL},", f"{URL}, x"])
def test_what_is_no_controllers_address_is_wrong_usage(tmp_path, token, url):
    with pytest.raises(click.UsageError, match="is no controller: write ws://HOST:PORT"):
        join_credentials_or_exit(url, None)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-1", "web-1"),
        ("web-7d9f-x2", "web-7d9f-x2"),
        ("3f2a9c", "web-3f2a9c"),
        ("webber", "web-webber"),
        ("Node.Example.COM", "web-node-example-com"),
    ],
)
def test_a_node_without_a_name_is_called_after_its_host(host, name):
    assert own_name("web", host) == name
