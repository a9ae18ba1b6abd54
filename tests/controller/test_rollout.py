import attrs
import pytest
import trio

from tests.controller.played import ANN, DRAINED, MID, START_S, TEXT, Played, crash, texts, told
from tierlb.controller.changes import Request
from tierlb.controller.history import Rollout
from tierlb.controller.rollout import BACK_S, INTERNAL_REASON, stand_still
from tierlb.controller.stages import CRASHES
from tierlb.model.topology import Admin, Policy
from tierlb.topology.edit import RemoveTier, Scale, SetPolicy
from tierlb.topology.load import load_text


async def test_a_change_is_made_stage_by_stage(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    assert (progress.outcome, progress.stages, progress.revision, progress.over) == ("running", 3, 2, False)
    assert (await site.changes.state.store.load()).stored.rollout == Rollout(2, 1, 1e9 + ANN.deadline_s)
    assert await site.over(progress) == "done"
    assert await site.is_as(site.changes.proposals.edited(Scale({"web": 2})).text)
    assert (progress.stage, progress.reason) == (3, "")
    assert site.machines.happened[:2] == [("start", "mid-1"), ("start", "mid-2")]
    assert [text for text in texts(progress) if text.startswith("stage")] == [
        f"stage {number} of 3: every node serves it" for number in (1, 2, 3)
    ]
    assert "tier mid (l7) is added: starts mid-1 and mid-2, sends to web" in texts(progress)


async def test_what_nothing_sends_to_any_more_is_stopped_before_the_others_hear_of_it(site, autojump_clock):
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    site.machines.happened.clear()
    progress = await site.changes.edit(RemoveTier("mid"), ANN, "tier remove mid")
    assert await site.over(progress) == "done"
    assert await site.is_as(TEXT)
    stops = [event for event in site.machines.happened if event[0] != "shrink"]
    assert stops == [("stop", "mid-1"), ("stop", "mid-2")]
    said = texts(progress)
    assert said.index("stopping mid-1, mid-2") < said.index("stage 3 of 3: every node serves it")


async def test_nodes_too_many_are_stopped_when_all_others_know(site, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")) == "done"
    assert [event for event in site.machines.happened if event[0] == "stop"] == [("stop", "web-2")]
    assert await site.is_as(site.changes.text)


def mute(site):
    site.machines.habits["mid-2"] = "mute"


def empty(site):
    site.machines.habits |= {"mid-1": "empty", "mid-2": "empty"}


FAILURES = [
    (mute, 20.0, "not done in 20 s: mid-2 does not serve its latest configuration yet", (20, 27)),
    (crash, 60.0, "mid-1 ended with status 3", (START_S * CRASHES, 12)),
    (empty, 15.0, "not done in 15 s", (15, 20)),
]


@pytest.mark.parametrize(("spoil", "deadline_s", "reason", "takes_s"), FAILURES)
async def test_what_does_not_come_off_is_taken_back(site, log, spoil, deadline_s, reason, takes_s, autojump_clock):
    spoil(site)
    began = trio.current_time()
    progress = await site.changes.edit(MID, Request("ann", deadline_s=deadline_s), "tier add mid")
    assert site.file.read_text() != TEXT
    assert await site.over(progress) == "rolled back"
    assert takes_s[0] <= trio.current_time() - began <= takes_s[1]
    assert progress.reason.startswith(reason)
    assert f"taken back: {progress.reason}" in texts(progress)
    assert await site.is_as(TEXT)
    assert (site.changes.history.active, len(site.changes.history.revisions)) == (1, 2)
    assert "rollback_started" in told(log)
    assert sorted(name for what, name in site.machines.happened if what == "stop") == ["mid-1", "mid-2"]
    site.machines.habits.clear()
    site.machines.crashed.clear()
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"
    assert site.changes.history.active == 3


async def test_what_a_node_refuses_is_taken_back_at_once(site, autojump_clock):
    """By a node that goes on: what it refused is over as soon as something else is wanted of it."""
    site.machines.habits["web-1"] = "refuse"
    began = trio.current_time()
    progress = await site.changes.edit(SetPolicy("web", "random"), ANN, "policy web=random")
    assert await site.over(progress) == "rolled back"
    assert progress.reason == "web-1 refused its configuration: no such policy"
    assert trio.current_time() - began < 2
    assert await site.is_as(TEXT)
    assert site.changes.controller.readiness.missing() == ()


async def test_an_address_that_is_taken_is_told_and_everything_as_before(site, autojump_clock):
    site.machines.taken = "127.0.0.1:8081"
    moved = TEXT.replace("8080", "8081")
    progress = await site.changes.apply(moved, ANN)
    assert await site.over(progress) == "rolled back"
    assert progress.reason == "127.0.0.1:8081 is taken"
    assert await site.is_as(TEXT)


async def test_a_way_back_that_does_not_come_off_either_is_told(site, autojump_clock):
    site.machines.habits |= {"mid-1": "mute", "mid-2": "mute"}
    progress = await site.changes.edit(MID, Request("ann", deadline_s=5), "tier add mid")
    await trio.sleep(1)
    site.machines.habits["web-1"] = "mute"
    began = trio.current_time()
    assert await site.over(progress) == "failed"
    assert trio.current_time() - began <= 5 + 2 * BACK_S
    assert "and the way back is not over yet: web-1 does not serve its latest configuration yet" in texts(progress)
    assert site.changes.controller.topology == load_text(TEXT, "f")
    assert (site.changes.text, (await site.changes.state.store.load()).stored.rollout) == (TEXT, None)
    site.machines.habits.clear()
    assert await site.over(await site.changes.edit(Scale({"web": 3}), ANN, "scale web=3")) == "done"
    assert await site.is_as(site.changes.text), "what was left over is stopped by the next change"


async def test_what_is_broken_can_be_taken_out(site, autojump_clock):
    """Nobody waits for nodes that are to go; nor, on the way back, for the new ones for which it is taken back."""
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    site.machines.habits |= {"mid-1": "mute", "mid-2": "empty"}
    await trio.sleep(1)
    assert await site.over(await site.changes.edit(RemoveTier("mid"), ANN, "tier remove mid")) == "done"
    assert await site.is_as(TEXT)
    site.machines.habits = {"mid-1": "refuse", "mid-2": "mute"}
    progress = await site.changes.edit(attrs.evolve(MID, policy=Policy.RANDOM), ANN, "tier add mid")
    assert await site.over(progress) == "rolled back"
    assert progress.reason == "mid-1 refused its configuration: no such policy"
    assert await site.is_as(TEXT)


@pytest.mark.parametrize("what", ["drain_s", "shrink_s"])
async def test_draining_takes_as_long_as_it_may_at_no_expense_of_the_deadline(site, what, autojump_clock):
    """Of nodes, and of endpoints that are to end."""
    setattr(site.machines, what, 100.0)
    request = attrs.evolve(ANN, deadline_s=10.0)
    assert await site.over(await site.changes.edit(Scale({"web": 1}), request, "scale web=1")) == "done"


async def test_the_time_of_a_change_stands_still_only_while_something_drains(autojump_clock):
    with trio.move_on_after(5) as time:
        await trio.sleep(2)
        await stand_still(time, trio.sleep(100))  # noqa: ASYNC105
        assert time.deadline == pytest.approx(trio.current_time() + 3)


async def test_a_change_that_is_taken_back_leaves_drained_what_was(site, autojump_clock):
    for policy in ("random", "load-aware"):
        assert await site.over(await site.changes.edit(SetPolicy("web", policy), ANN, "policy")) == "done"
    await site.want("web-1", Admin.DRAIN)
    site.machines.habits["web-2"] = "refuse"
    assert await site.over(await site.changes.rollback(2, ANN)) == "rolled back"
    assert site.changes.history.admin_states == DRAINED
    assert site.changes.controller.node_admin.states == {"web-1": Admin.DRAIN}
    await trio.sleep(1)
    assert site.changes.controller.registry.records["web-1"].assignment.wanted.admin is Admin.DRAIN


async def test_a_change_on_which_the_program_fails_is_taken_back_and_others_can_begin(
    site, autojump_clock, monkeypatch
):
    works = Played.grow

    def fail(self, topology):
        monkeypatch.setattr(Played, "grow", works)
        raise ZeroDivisionError

    monkeypatch.setattr(Played, "grow", fail)
    progress = await site.changes.edit(Scale({"web": 3}), ANN, "scale")
    await site.over(progress)
    assert (progress.outcome, progress.reason) == ("rolled back", INTERNAL_REASON)
    assert site.changes.text == TEXT
    progress = await site.changes.edit(Scale({"web": 3}), ANN, "scale")
    await site.over(progress)
    assert progress.outcome == "done"
    assert site.changes.controller.errors.counts == {"change": 1}
