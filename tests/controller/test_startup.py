import attrs
import pytest
import trio

from tests.controller.played import ANN, DRAINED, MID, TEXT, Played, make, texts
from tierlb.controller.startup import start_anew, take_over
from tierlb.controller.store import Stored
from tierlb.model.topology import Admin
from tierlb.topology.edit import Scale
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError


async def test_where_a_file_at_the_start_left_only_drained_nodes_each_can_be_made_ready(site, again, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"edge": 2}), ANN, "scale edge=2")) == "done"
    await site.want("edge-1", Admin.DRAIN)
    await site.want("web-1", Admin.DRAIN)
    await site.changes.state.store.close()
    changes, _ = await again(TEXT.replace("replicas: 2", "replicas: 1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes.controller.run)
        changes.machines = Played(changes.controller, nursery)
        changes.machines.grow(changes.controller.topology)
        await nursery.start(changes.run)
        await trio.sleep(2)
        other = attrs.evolve(site, changes=changes, machines=changes.machines)
        status = changes.controller.observer.status()
        assert (status.serving, len(status.missing)) == (False, 2)
        await other.want("web-1", Admin.READY)
        assert changes.controller.observer.status().missing == (
            "edge: no node that serves takes anything: `tierlb ready edge-1`",
        )
        await other.want("edge-1", Admin.READY)
        assert changes.controller.observer.status().serving
        nursery.cancel_scope.cancel()


async def test_a_text_that_cannot_be_served_is_not_stored_as_the_first_one(tmp_path, log, autojump_clock):
    changes = make(tmp_path, log)
    with pytest.raises(TopologyError):
        await take_over(changes, "cluster: []\n", "ann")
    assert (await changes.state.store.load()).stored == Stored()
    await changes.state.store.close()


async def cut_short(tmp_path, log, text_after):
    """A controller is killed right after it has begun a change."""
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    async with trio.open_nursery() as own:
        changes.machines = Played(changes.controller, own, {"mid-1": "mute"})
        await own.start(changes.run)
        await changes.edit(MID, ANN, "tier add mid")
        own.cancel_scope.cancel()
    if text_after is not None:
        changes.state.kept_file.file.write_text(text_after)
    await changes.state.store.close()
    return changes.text


async def test_a_change_that_was_cut_short_is_taken_back_in_the_file_too(tmp_path, log, again, autojump_clock):
    target = await cut_short(tmp_path, log, None)
    assert (tmp_path / "shop.yaml").read_text() == target
    changes, text = await again()
    assert text == changes.text == (tmp_path / "shop.yaml").read_text() == TEXT
    assert changes.controller.topology == load_text(TEXT, "f")
    assert (changes.history.active, len(changes.history.revisions)) == (1, 2)
    assert (await changes.state.store.load()).stored.rollout is None
    assert ("change_interrupted", {"revision": 2, "back_to": 1}) in log.events
    await changes.state.store.close()
    changes, text = await again()
    assert (text, changes.history.active, len(changes.history.revisions)) == (TEXT, 1, 2)


@pytest.mark.parametrize("stage", [1, 2, 3])
async def test_another_controller_goes_on_in_the_stage_that_was_begun(stage, tmp_path, log, autojump_clock):
    first = make(tmp_path, log)
    await start_anew(first, TEXT, "ann")
    async with trio.open_nursery() as own:
        own.start_soon(first.controller.run)
        first.machines = Played(first.controller, own)
        first.machines.grow(first.controller.topology)
        await own.start(first.run)
        progress = await first.edit(MID, ANN, "tier add mid")
        while progress.stage < stage:  # noqa: ASYNC110 (virtual time)
            await trio.sleep(0.05)
        own.cancel_scope.cancel()
    await first.state.store.close()
    second = make(tmp_path, log)
    assert await take_over(second, TEXT, "bob") == load_text(TEXT, "f")
    async with trio.open_nursery() as own:
        own.start_soon(second.controller.run)
        second.machines = Played(second.controller, own)
        second.machines.grow(load_text(second.text, "f"))
        await own.start(second.run)
        with trio.fail_after(300):
            while not second.runner.progress.over:  # noqa: ASYNC110 (virtual time)
                await trio.sleep(0.05)
        own.cancel_scope.cancel()
    assert second.runner.progress.outcome == "done"
    assert second.controller.topology == load_text(second.text, "f")
    reached = [text for text in texts(second.runner.progress) if text.startswith("stage")]
    assert reached == [f"stage {number} of 3: every node serves it" for number in (1, 2, 3) if number >= stage]
    assert (await second.state.store.load()).stored.rollout is None
    await second.state.store.close()


async def test_what_somebody_wrote_after_the_cut_counts(tmp_path, log, again, autojump_clock):
    mine = TEXT.replace("replicas: 2", "replicas: 3")
    await cut_short(tmp_path, log, mine)
    changes, text = await again()
    assert text == changes.text == mine
    assert (changes.history.active, changes.history.current.base) == (3, 1)


async def test_the_first_start_makes_the_first_revision_and_the_next_one_none(again, tmp_path):
    (tmp_path / "shop.yaml").write_text(TEXT)
    for _ in range(2):
        changes, text = await again()
        assert (text, changes.history.active) == (TEXT, 1)
        await changes.state.store.close()
    changes, _ = await again(TEXT + "# edited\n")
    assert [(each.number, each.why) for each in changes.history.revisions] == [
        (1, "the file at the start"),
        (2, "the file at the start"),
    ]


@pytest.mark.parametrize("text", [None, TEXT.replace("replicas: 2", "replicas: 3")])
async def test_what_was_drained_is_so_after_the_next_start_whatever_the_file_says(site, text, again, autojump_clock):
    await site.want("web-1", Admin.DRAIN)
    await site.changes.state.store.close()
    changes, _ = await again(text)
    assert changes.controller.node_admin.states == {"web-1": Admin.DRAIN}
    assert changes.history.admin_states == DRAINED


async def test_of_a_file_without_a_drained_node_nothing_is_wanted(site, again, autojump_clock):
    await site.want("web-2", Admin.DRAIN)
    await site.changes.state.store.close()
    changes, _ = await again(TEXT.replace("replicas: 2, ", ""))
    assert (changes.controller.node_admin.states, changes.history.admin_states) == ({}, ())


async def test_who_takes_over_wants_what_was_wanted(site, tmp_path, log, autojump_clock):
    await site.want("web-1", Admin.DRAIN)
    await site.changes.state.store.close()
    second = make(tmp_path, log)
    await take_over(second, "cluster: another text\n", "bob")
    assert second.controller.node_admin.states == {"web-1": Admin.DRAIN}
    await second.state.store.close()


async def test_stopping_in_the_middle_leaves_the_rest_to_the_next_start(tmp_path, log, autojump_clock):
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    async with trio.open_nursery() as nursery:
        changes.machines = Played(changes.controller, nursery, {"mid-1": "mute"})
        await nursery.start(changes.run)
        await changes.edit(MID, ANN, "tier add mid")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert (await changes.state.store.load()).stored.rollout is not None
    await changes.state.store.close()
