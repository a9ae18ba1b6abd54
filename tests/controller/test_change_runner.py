import pytest

from tests.controller.played import ANN, MID, TEXT, Played, PromptStore, make
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.changes import Request
from tierlb.controller.rollout import INTERNAL_REASON
from tierlb.controller.startup import start_anew
from tierlb.topology.edit import Scale


async def test_one_change_at_a_time(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    with pytest.raises(ChangeUnderWay, match=r"revision 2 \(tier add mid, by ann\) is being carried out: wait"):
        await site.changes.edit(Scale({"web": 3}), Request("bob"), "scale web=3")
    with pytest.raises(ChangeUnderWay):
        site.changes.restart("web", ANN)
    await site.over(progress)
    restart = site.changes.restart("web", ANN)
    with pytest.raises(ChangeUnderWay, match=r"^\(restart web, by ann\) is being carried out"):
        await site.changes.apply(TEXT, ANN)
    await site.over(restart)
    assert [each.number for each in site.changes.runner.recent] == [1, 2]


async def test_before_the_cluster_serves_nothing_is_changed(tmp_path, log):
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    with pytest.raises(ChangeUnderWay, match="still starting"):
        await changes.edit(MID, ANN, "tier add mid")
    assert changes.history.active == 1
    await changes.state.store.close()


async def test_a_restart_on_which_the_program_fails_is_over(site, autojump_clock, monkeypatch):
    async def fail(self, topology, name):
        raise ZeroDivisionError

    monkeypatch.setattr(Played, "replace", fail)
    progress = site.changes.restart("web", ANN)
    await site.over(progress)
    assert (progress.outcome, progress.reason) == ("failed", INTERNAL_REASON)
    site.changes.runner.demand_idle()


async def test_a_change_whose_end_fails_too_is_over_and_others_can_begin(site, autojump_clock, monkeypatch):
    """Neither the way there nor the way back nor the last note in the store works."""
    kept = []

    async def save(self, stored, expected_version):
        kept.append(stored)
        if len(kept) > 1:
            raise ZeroDivisionError
        return await works(self, stored, expected_version)

    works = PromptStore.save
    with monkeypatch.context() as failing:
        failing.setattr(PromptStore, "save", save)
        failing.setattr(Played, "grow", lambda self, topology: 1 // 0)
        progress = await site.changes.edit(Scale({"web": 3}), ANN, "scale")
        await site.over(progress)
    assert (progress.outcome, progress.reason) == ("failed", INTERNAL_REASON)
    assert site.changes.controller.errors.counts["change"] >= 3
    progress = await site.changes.edit(Scale({"web": 4}), ANN, "scale")
    assert await site.over(progress) == "done"
