"""Waits end at the next signal, and signals that come together are one."""

import pytest
import trio

from tierlb.controller.signals import Signals


@pytest.mark.parametrize(("signal", "changed"), [("changed", True), ("moved", False)])
async def test_a_change_is_progress_and_progress_need_not_be_a_change(signal, changed, nursery, autojump_clock):
    signals, woken = Signals(), []

    async def wait(name, waiting):
        await waiting()
        woken.append(name)

    nursery.start_soon(wait, "changed", signals.wait_changed)
    nursery.start_soon(wait, "progress", signals.wait_progress)
    await trio.testing.wait_all_tasks_blocked()
    getattr(signals, signal)()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(woken) == (["changed", "progress"] if changed else ["progress"])
    nursery.cancel_scope.cancel()


async def test_changes_wait_until_they_are_taken(autojump_clock):
    signals = Signals()
    signals.changed()
    await signals.wait_changed()
    await signals.wait_changed()
    signals.take_changes()
    with trio.move_on_after(1) as waited:
        await signals.wait_changed()
    assert waited.cancelled_caught
