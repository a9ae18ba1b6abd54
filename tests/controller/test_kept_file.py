"""The topology file after changes, on disks that work, and on one that stalls: a pipe without a writer."""

import os

import pytest
import trio

from tierlb.controller import kept_file
from tierlb.controller.kept_file import KeptFile

DEADLINE_S = 30.0
EDITED = "topology_file_left_alone"


@pytest.fixture
def kept(tmp_path, log):
    (tmp_path / "shop.yaml").write_text("a")
    return KeptFile(tmp_path / "shop.yaml", log)


def told(log):
    return [event for event, _ in log.events]


async def test_texts_follow_each_other(kept, log):
    with trio.fail_after(DEADLINE_S):
        for before, after in ("ab", "bc", "cc", "ca"):
            await kept.keep(before, after)
            assert kept.file.read_text() == after
    assert log.events == []


async def test_an_edit_is_left_alone(kept, log):
    kept.file.write_text("mine")
    with trio.fail_after(DEADLINE_S):
        await kept.keep("a", "b")
        assert (kept.file.read_text(), told(log)) == ("mine", [EDITED])
        kept.file.write_text("c")
        await kept.keep("b", "c")
    assert told(log) == [EDITED], "somebody wrote what was wanted"


async def test_what_is_no_text_is_an_edit_too(kept, log):
    kept.file.write_bytes(b"\xff")
    with trio.fail_after(DEADLINE_S):
        await kept.keep("a", "b")
    assert (kept.file.read_bytes(), told(log)) == (b"\xff", [EDITED])


async def test_what_could_not_be_written_is_made_up_for_by_the_next_text(kept, log):
    elsewhere = kept.file.with_name("elsewhere")
    kept.file.rename(elsewhere)
    with trio.fail_after(DEADLINE_S):
        await kept.keep("a", "b")
        assert told(log) == ["topology_file_write_failed"]
        elsewhere.rename(kept.file)
        await kept.keep("b", "c")
    assert (kept.file.read_text(), len(log.events)) == ("c", 1)


async def test_a_disk_that_stalls_is_not_waited_for_and_gets_the_last_text(kept, log, monkeypatch):
    monkeypatch.setattr(kept_file, "WITHIN_S", 0.05)
    kept.file.unlink()
    os.mkfifo(kept.file)
    with trio.fail_after(DEADLINE_S):
        for before, after in ("ab", "bc", "cd"):
            await kept.keep(before, after)
        assert told(log) == ["topology_file_late"] * 3
        writer = await trio.to_thread.run_sync(os.open, kept.file, os.O_WRONLY)
        os.write(writer, b"a")
        os.close(writer)
        while kept.file.is_fifo() or kept.file.read_text() != "d":
            await trio.lowlevel.checkpoint()
        monkeypatch.setattr(kept_file, "WITHIN_S", DEADLINE_S)
        await kept.keep("d", "e")
    assert kept.file.read_text() == "e"


async def test_the_end_of_the_process_waits_no_longer_than_that(kept, monkeypatch):
    monkeypatch.setattr(kept_file, "WITHIN_S", 0.05)
    kept.file.unlink()
    os.mkfifo(kept.file)
    with trio.fail_after(DEADLINE_S):
        with trio.CancelScope() as scope:
            scope.cancel()
            await kept.keep("a", "b")
    os.close(os.open(kept.file, os.O_RDWR | os.O_NONBLOCK))
