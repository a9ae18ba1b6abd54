import os

import pytest
import trio

from tests.controller.leading import RUNS, parts_of
from tierlb.controller.active import ActiveController
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.store import FileStore


async def lead(active, parts, store, until):
    """One turn that is over as soon as `until` says so."""
    lost = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as turn:
            turn.start_soon(active.lead, store, lost)
            while parts.reception.controller is None or not until():  # noqa: ASYNC110 (real files)
                await trio.sleep(0.005)
            lost.set()


async def test_what_fails_beside_a_turn_does_not_end_it(tmp_path, monkeypatch):
    async def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("tierlb.controller.active.log_slow_start", fail)
    monkeypatch.setattr(ActiveController, "apply_edit", fail)
    file, expected = tmp_path / "shop.yaml", {"slow start": 1}
    for edit in ("", "# edited while no controller ran\n"):
        file.write_text(RUNS + edit)
        parts, store = parts_of(file), FileStore(tmp_path / "state")
        await lead(ActiveController(parts), parts, store, lambda: parts.errors.counts == expected)  # noqa: B023
        await store.close()
        expected = {"slow start": 1, "topology file": 1}


@pytest.mark.parametrize("trouble", ["gone", "garbled", "stalled"])
async def test_a_file_that_cannot_be_read_is_no_reason_not_to_be_active(tmp_path, monkeypatch, trouble):
    """A named pipe that has no writer is as a disk that stalls."""
    file = tmp_path / "shop.yaml"
    if trouble == "stalled":
        os.mkfifo(file)
    elif trouble == "garbled":
        file.write_bytes(b"\xff")
    monkeypatch.setattr("tierlb.controller.file_text.READ_S", 0.1)
    parts, store = parts_of(file), FileStore(tmp_path / "state")
    await lead(ActiveController(parts), parts, store, lambda: True)
    await store.close()
    if trouble == "stalled":
        os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))  # the thread ends
    events = [event for event, _ in parts.log.events]
    assert events[0] == "topology_file_read_failed"
    assert {"controller_activated", "controller_deactivated"} <= set(events)
    assert parts.errors.counts == {}


async def test_an_edited_file_is_applied_after_what_is_under_way(autojump_clock):
    class BusyChanges:
        asked = 0

        async def apply(self, text, request, what):
            await trio.lowlevel.checkpoint()
            self.asked += 1
            if self.asked < 4:
                raise ChangeUnderWay("what another controller began")

    changes = BusyChanges()
    with trio.fail_after(60):
        await ActiveController(parts_of("f")).apply_edit(changes, "text")
    assert changes.asked == 4


async def test_a_hangup_is_for_the_active_controller():
    parts = parts_of("f")
    ActiveController(parts).read_file_again()
    assert [event for event, _ in parts.log.events] == ["hangup_ignored"]
