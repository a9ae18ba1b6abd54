"""Processes of one user find each other in a directory, however long its name is."""

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tierlb.net import meeting_place
from tierlb.net.meeting_place import MAX_PATH_BYTES, MeetingPlace, check_peer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_a_process_that_listens_is_found_by_its_name(directory: Path) -> None:
    place = MeetingPlace(directory)
    with place.listen("web-1:1") as listening, place.connect("web-1:1") as near:
        far, _ = listening.accept()
        with far:
            near.send(b"hello")
            assert far.recv(9) == b"hello"
            check_peer(far)
    place.close()


def test_a_long_path_is_no_obstacle(directory: Path) -> None:
    deep = directory / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True, mode=0o700)
    assert len(str(deep)) > MAX_PATH_BYTES
    place, other = MeetingPlace(deep), MeetingPlace(deep)
    with place.listen("web-1:1"):
        other.connect("web-1:1").close()
    place.remove("web-1:1", place.identity("web-1:1"))
    assert list(deep.iterdir()) == []
    place.close()
    other.close()


def test_who_is_not_there_is_not_found(directory: Path) -> None:
    place = MeetingPlace(directory)
    with pytest.raises(FileNotFoundError):
        place.connect("web-1:1")
    place.listen("web-1:1").close()
    with pytest.raises(ConnectionRefusedError):
        place.connect("web-1:1")
    place.close()


def test_what_a_dead_process_left_is_replaced_and_removed_by_its_owner_only(directory: Path) -> None:
    place = MeetingPlace(directory)
    place.listen("web-1:1").close()
    dead = place.identity("web-1:1")
    with place.listen("web-1:1"):
        place.connect("web-1:1").close()
        own = place.identity("web-1:1")
        if own != dead:  # the file system may use the number of the inode again
            place.remove("web-1:1", dead)
            place.connect("web-1:1").close()
        place.remove("web-1:1", own)
    assert place.identity("web-1:1") is None
    place.remove("web-1:1", own)
    place.close()


def test_only_the_user_may_connect(directory: Path) -> None:
    place = MeetingPlace(directory)
    with place.listen("web-1:1"):
        assert (directory / "web-1:1").stat().st_mode & 0o777 == 0o600
    place.close()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_may_write_to_is_refused_with_what_to_do(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(PermissionError, match="chmod 700"):
        MeetingPlace(directory)


def test_a_directory_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if directory.stat().st_uid == 0:
        os.chown(directory, 4712, -1)
    with pytest.raises(PermissionError, match="belongs to another user: give it to user 4711"):
        MeetingPlace(directory)


def test_a_process_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = MeetingPlace(directory)

    class Foreign(socket.socket):
        def getsockopt(self, *what: Any) -> Any:
            return struct.pack("3i", 1, 4711, 1)

    with place.listen("web-1:1"):
        monkeypatch.setattr(meeting_place.socket, "socket", Foreign)
        with pytest.raises(PermissionError) as refused:
            place.connect("web-1:1")
    assert refused.value.errno == errno.EPERM
    assert "user 4711" in str(refused.value)
    place.close()
