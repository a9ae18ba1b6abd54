"""What another user may have prepared is refused. Only root can make files of somebody else, so some tests need it."""

import os
import stat
from pathlib import Path

import pytest

from tierlb.channel.private import (
    STATES,
    NotPrivate,
    check_directory,
    make_private_directory,
    open_private,
    read_private,
    remove_tree,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
SOMEBODY = 12345
WRITING = os.O_RDWR | os.O_CREAT


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("precious\n")
    return file


@pytest.mark.parametrize("flags", [os.O_RDONLY, WRITING, os.O_WRONLY | os.O_CREAT | os.O_APPEND])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, victim: Path, flags: int) -> None:
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(NotPrivate, match="symbolic link"):
        open_private(tmp_path / "lock", flags)
    assert victim.read_text() == "precious\n"


def test_a_file_with_two_names_is_read_and_never_written(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "lock").hardlink_to(victim)
    assert read_private(tmp_path / "lock") == b"precious\n"
    with pytest.raises(NotPrivate, match="hard link"):
        open_private(tmp_path / "lock", WRITING)


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(NotPrivate, match="no regular file"):
        open_private(tmp_path / "lock", os.O_RDONLY)


@needs_root
def test_a_file_of_another_user_is_refused(tmp_path: Path, victim: Path) -> None:
    os.chown(victim, SOMEBODY, SOMEBODY)
    with pytest.raises(NotPrivate, match="belongs to uid 12345"):
        read_private(victim)


def test_a_file_that_is_made_is_for_this_user_alone(tmp_path: Path) -> None:
    os.close(open_private(tmp_path / "lock", WRITING))
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_directories_are_made_for_this_user_alone_and_those_that_exist_are_left_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert make_private_directory(tmp_path / "a" / "b") == [tmp_path / "a", tmp_path / "a" / "b"]
    assert make_private_directory(tmp_path) == []
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")]
    assert modes == [0o755, 0o700, 0o700]


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "refused"),
    [
        (0, 0o700, False),
        (0, 0o777, False),  # this user's own: its files are checked one by one
        (SOMEBODY, 0o700, True),
        (SOMEBODY, 0o777, True),
    ],
)
def test_a_directory_of_another_user_is_refused(tmp_path: Path, owner: int, mode: int, refused: bool) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    os.chown(directory, owner, owner)
    if refused:
        with pytest.raises(NotPrivate, match=f"belongs to uid {owner}"):
            make_private_directory(directory)
    else:
        make_private_directory(directory)


@needs_root
def test_what_root_has_opened_to_every_user_is_no_place_for_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    with pytest.raises(NotPrivate, match="every user may write to it"):
        check_directory(tmp_path)
    tmp_path.chmod(0o2775)  # a volume in Kubernetes, for the group of the pod
    check_directory(tmp_path)


@needs_root
def test_a_link_that_another_user_made_is_no_directory_and_ones_own_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "there")
    check_directory(tmp_path / "state")
    os.chown(tmp_path / "state", SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(NotPrivate, match="symbolic link that belongs to uid 12345"):
        check_directory(tmp_path / "state")


@needs_root
def test_the_directory_of_all_clusters_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / STATES / "shop").mkdir(parents=True)
    check_directory(tmp_path / STATES / "shop")
    os.chown(tmp_path / STATES, SOMEBODY, SOMEBODY)
    with pytest.raises(NotPrivate, match=STATES):
        check_directory(tmp_path / STATES / "shop")


def test_a_tree_is_removed_and_a_link_in_its_place_is_not_followed(tmp_path: Path, victim: Path) -> None:
    tree, link = tmp_path / "tree", tmp_path / "link"
    (tree / "web-1").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    victim.rename(tmp_path / "other" / "victim")
    link.symlink_to(tmp_path / "other")
    for each in (tree, link, tmp_path / "missing"):
        remove_tree(each)
        assert not each.is_symlink()
        assert not each.exists()
    assert (tmp_path / "other" / "victim").exists()
