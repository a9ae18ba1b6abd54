import stat

import pytest

from tierlb.channel.join_credentials import (
    ADMIN_TOKEN_FILE,
    TOKEN_FILE,
    URL_FILE,
    JoinCredentials,
    NoJoinCredentials,
    admin_token_posted,
    posted,
    read,
    read_admin_token,
    usual_directory,
)

CREDENTIALS = JoinCredentials("ws://127.0.0.1:4000", "secret")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / ".tierlb" / "shop"


def test_it_is_read_as_it_was_posted_and_gone_afterwards(directory):
    with posted(directory, CREDENTIALS):
        assert read(directory) == CREDENTIALS
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        assert modes == {URL_FILE: 0o600, TOKEN_FILE: 0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.iterdir()) == []


def test_what_a_killed_cluster_left_is_replaced_whatever_its_mode(directory):
    directory.mkdir(parents=True)
    for name in (URL_FILE, TOKEN_FILE):
        (directory / name).write_text("old")
        (directory / name).chmod(0o644)
    with posted(directory, CREDENTIALS):
        assert read(directory) == CREDENTIALS
        assert stat.S_IMODE((directory / TOKEN_FILE).stat().st_mode) == 0o600


def test_that_of_a_cluster_that_was_started_later_is_left_alone(directory):
    later = JoinCredentials("ws://127.0.0.1:4001", "another")
    with posted(directory, CREDENTIALS):
        second = posted(directory, later)
        second.__enter__()
    assert read(directory) == later
    second.__exit__(None, None, None)
    assert list(directory.iterdir()) == []


def test_it_may_be_gone_before_its_time(directory):
    with posted(directory, CREDENTIALS):
        (directory / TOKEN_FILE).unlink()
    assert [path.name for path in directory.iterdir()] == [URL_FILE]


def test_without_a_cluster_the_missing_file_is_named(directory):
    with pytest.raises(NoJoinCredentials, match=f"there is no .*/shop/{URL_FILE}: `tierlb up` writes it"):
        read(directory)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"a\x00b", b"two\nlines"])
def test_what_is_no_invitation_is_not_used(directory, content):
    with posted(directory, CREDENTIALS):
        (directory / TOKEN_FILE).write_bytes(content)
        with pytest.raises(NoJoinCredentials, match=f"{TOKEN_FILE} holds nothing that can be used"):
            read(directory)


def test_what_cannot_be_read_is_told_with_the_reason(directory):
    (directory / URL_FILE).mkdir(parents=True)
    with pytest.raises(NoJoinCredentials, match=f"{URL_FILE} cannot be read: Is a directory"):
        read(directory)


def test_where_it_cannot_be_written_the_cause_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), posted(tmp_path / "file" / "shop", CREDENTIALS):
        pytest.fail("it was posted")


def test_the_admin_token_is_there_for_its_owner_alone_and_as_long_as_the_cluster(directory):
    file = directory / ADMIN_TOKEN_FILE
    for token in ("s3cret", "another"):
        with admin_token_posted(directory, token):
            assert read_admin_token(file) == token
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with pytest.raises(NoJoinCredentials, match=f"there is no .*/shop/{ADMIN_TOKEN_FILE}: `tierlb up` writes it"):
            read_admin_token(file)


def test_the_admin_token_of_a_cluster_that_was_started_later_is_left_alone(directory):
    with admin_token_posted(directory, "s3cret"):
        (directory / ADMIN_TOKEN_FILE).write_text("later\n")
    assert read_admin_token(directory / ADMIN_TOKEN_FILE) == "later"


def test_what_is_no_admin_token_is_not_used(directory):
    file = directory / ADMIN_TOKEN_FILE
    file.mkdir(parents=True)
    with pytest.raises(NoJoinCredentials, match="cannot be read: Is a directory"):
        read_admin_token(file)
    file.rmdir()
    file.write_text("\n")
    with pytest.raises(NoJoinCredentials, match="holds nothing that can be used"):
        read_admin_token(file)


def test_the_token_is_in_no_text():
    assert "secret" not in repr(CREDENTIALS)
    assert str(usual_directory("shop")) == ".tierlb/shop"


def test_a_link_in_the_place_of_a_token_is_not_followed(directory, tmp_path):
    """Another user may have put it there, for a command to send its token to their cluster, or theirs to ours."""
    (tmp_path / "elsewhere").write_text("a token of theirs\n")
    directory.mkdir(parents=True)
    (directory / ADMIN_TOKEN_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoJoinCredentials, match="it is a symbolic link"):
        read_admin_token(directory / ADMIN_TOKEN_FILE)
