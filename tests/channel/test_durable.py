"""Old or new, never neither; what a full disk does to a whole store is in test_store.py."""

import os
import stat
from pathlib import Path

import pytest

from tierlb.channel.durable import StoreError, make_directory, write_atomically


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_directory_is_made_with_those_above_it_and_one_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")]
    assert modes == [0o755, 0o700, 0o700]


def test_what_a_killed_writer_left_beside_a_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_text("half of it, and long")
    write_atomically(tmp_path / "file", b"whole")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "whole"}


def test_a_file_is_for_its_owner_alone_and_is_replaced_whole(tmp_path: Path) -> None:
    for content in (b"long content", b"short"):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_atomically(tmp_path / "file", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StoreError, match="free some space there"):
            write_atomically(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_a_place_that_is_none_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        make_directory(tmp_path / "file" / "below")
