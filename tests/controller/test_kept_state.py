import os

import trio

from tests.controller.played import ANN, MID, TEXT, Full, crash, told
from tierlb.controller.changes import Changes
from tierlb.controller.controller import Controller
from tierlb.controller.kept_file import KeptFile
from tierlb.controller.store import FileStore
from tierlb.topology.edit import Scale
from tierlb.topology.load import load_text


async def test_what_can_be_stored_no_more_at_the_end_is_told_and_still_true(site, log, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    store, site.changes.state.store = site.changes.state.store, Full()
    assert await site.over(progress) == "done"
    assert "state_write_failed" in told(log)
    site.changes.state.store = store
    assert await site.over(await site.changes.edit(Scale({"web": 3}), ANN, "scale web=3")) == "done"
    assert await site.is_as(site.changes.text)


async def test_a_file_that_was_edited_meanwhile_is_left_alone(site, log, autojump_clock):
    site.file.write_text("# my draft\n")
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"
    assert site.file.read_text() == "# my draft\n"
    assert ("topology_file_left_alone", {"file": str(site.file)}) in log.events


async def test_a_file_that_holds_the_new_text_already_is_kept_and_restored_when_it_fails(site, autojump_clock):
    crash(site)
    text = site.changes.proposals.edited(MID).text
    site.file.write_text(text)
    progress = await site.changes.apply(text, ANN)
    assert site.file.read_text() == text
    assert await site.over(progress) == "rolled back"
    assert await site.is_as(TEXT)


async def test_a_linked_file_stays_a_link_with_its_mode(site, autojump_clock):
    real = site.file.with_name("real.yaml")
    site.file.rename(real)
    real.write_text("\ufeff" + TEXT)
    real.chmod(0o640)
    site.file.symlink_to(real)
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    assert site.file.is_symlink()
    assert real.read_text() == site.changes.text
    assert real.stat().st_mode & 0o777 == 0o640


async def test_a_file_that_cannot_be_written_stops_nothing(site, log, autojump_clock):
    site.file.unlink()
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"
    assert "topology_file_write_failed" in told(log)


async def test_a_file_on_a_disk_that_stalls_holds_up_no_change(site, log, autojump_clock):
    site.changes.state.kept_file = KeptFile(site.file, log)
    site.file.unlink()
    os.mkfifo(site.file)
    with trio.move_on_after(1):  # the request's connection closes meanwhile
        await site.changes.edit(MID, ANN, "tier add mid")
    assert site.changes.runner.progress is not None
    assert await site.over(site.changes.runner.progress) == "done"
    assert "topology_file_late" in told(log)
    os.close(os.open(site.file, os.O_RDWR | os.O_NONBLOCK))  # the thread goes on


async def test_a_damaged_state_is_told(again, tmp_path, log):
    (tmp_path / "shop.yaml").write_text(TEXT)
    for text in (TEXT, TEXT + "#1\n", TEXT + "#2\n"):
        changes, _ = await again(text)
        await changes.state.store.close()
    (tmp_path / "state" / "state.json").write_bytes(b"{")
    changes, _ = await again(TEXT + "#2\n")
    assert "older_state_loaded" in told(log)
    assert changes.text == TEXT + "#2\n"


def test_without_a_revision_there_is_no_text(tmp_path, log):
    assert Changes(Controller(load_text(TEXT, "f"), log), FileStore(tmp_path), log).text == ""
