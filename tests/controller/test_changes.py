"""Changes from the request to the end."""

import pytest
import trio

from tests.controller.played import ANN, DRAIN_9, DRAINED, MID, TEXT, Full, Slow, texts
from tierlb.channel.durable import StoreError
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.changes import SERVED_WITHIN_S, Request
from tierlb.controller.history import Conflict, UnknownRevision
from tierlb.controller.proposals import NothingToDo, NotPossible
from tierlb.model.topology import Admin
from tierlb.topology.edit import EditError, RemoveTier, Scale, SetPolicy
from tierlb.topology.problems import TopologyError
from tierlb.topology.verbs import SetNode


async def test_a_change_of_words_alone_is_a_revision_and_done_at_once(site, autojump_clock):
    progress = await site.changes.apply(TEXT + "# note\n", ANN)
    assert await site.over(progress) == "done"
    assert (progress.stages, progress.revision) == (0, 2)
    assert await site.is_as(TEXT + "# note\n")


CLUSTER_RENAMED = TEXT.replace("shop", "bank")
WEB_AT_L4 = TEXT.replace("kind: l7", "kind: l4")


async def restart_mid(changes):
    changes.restart("mid", ANN)


@pytest.mark.parametrize(
    ("request_it", "error", "said"),
    [
        (
            lambda c: c.apply(TEXT + "# b\n", Request("bob", expected=7)),
            Conflict,
            "made from revision 7, but",
        ),
        (lambda c: c.apply(CLUSTER_RENAMED, ANN), NotPossible, "cluster: taken up at the start only"),
        (lambda c: c.apply(WEB_AT_L4, ANN), NotPossible, "web"),
        (lambda c: c.apply(TEXT, ANN), NothingToDo, "nothing would change"),
        (lambda c: c.apply(TEXT.replace("to: app", "to: ap"), ANN), TopologyError, "did you mean 'app'"),
        (lambda c: c.edit(RemoveTier("mid"), ANN, "x"), EditError, "mid"),
        (lambda c: c.rollback(9, ANN), UnknownRevision, "there is no revision 9"),
        (restart_mid, NotPossible, "there is no tier mid: there are edge, web"),
        (lambda c: c.edit(DRAIN_9, ANN, "x"), NotPossible, "there is no node or agent web-9"),
    ],
)
async def test_what_is_refused_changes_nothing(site, request_it, error, said, autojump_clock):
    with pytest.raises(error, match=said):
        await request_it(site.changes)
    assert site.changes.runner.progress is None
    assert site.changes.history.active == 1
    assert await site.is_as(TEXT)


UNSTORED = [
    lambda changes: changes.edit(MID, ANN, "tier add mid"),
    lambda changes: changes.apply(TEXT + "#", ANN),
    lambda changes: changes.edit(SetNode("web-1", Admin.DRAIN), ANN, "drain web-1"),
]


@pytest.mark.parametrize("request_it", UNSTORED)
async def test_what_cannot_be_stored_is_not_begun(site, request_it, autojump_clock):
    store, site.changes.state.store = site.changes.state.store, Full()
    with pytest.raises(StoreError, match="No space left"):
        await request_it(site.changes)
    site.changes.state.store = store
    assert site.changes.runner.progress is None
    assert site.changes.controller.node_admin.states == {}
    assert site.machines.happened == []
    assert await site.is_as(TEXT)
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"


async def test_an_old_revision_is_applied_anew(site, autojump_clock):
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    progress = await site.changes.rollback(1, Request("bob"))
    assert await site.over(progress) == "done"
    assert (progress.what, progress.revision) == ("rollback 1", 3)
    assert site.changes.history.current.why == "back to revision 1"
    assert await site.is_as(TEXT)


async def test_a_drain_is_a_revision_that_later_changes_keep(site, autojump_clock):
    progress = await site.changes.edit(SetNode("web-1", Admin.DRAIN), Request("bob", "old disk"), "drain web-1")
    assert await site.over(progress) == "done"
    assert texts(progress) == [
        "web-1: ready → drain: it gets nothing new; what is under way has up to 30s, then what is left is cut"
    ]
    web1 = site.changes.controller.registry.records["web-1"]
    assert (web1.assignment.wanted.admin, web1.assignment.served) == (Admin.DRAIN, web1.assignment.wanted.revision)
    stored = (await site.changes.state.store.load()).stored
    assert (stored.history.admin_states, stored.rollout) == (DRAINED, None)
    row = stored.history.rows()[-1]
    assert (row.number, row.who, row.why, row.added, row.removed, row.active) == (2, "bob", "old disk", 0, 0, True)
    assert await site.over(await site.changes.edit(Scale({"edge": 2}), ANN, "scale edge=2")) == "done"
    assert site.changes.history.admin_states == DRAINED
    assert await site.over(await site.changes.apply(TEXT + "# reviewed\n", ANN)) == "done"
    assert site.changes.history.admin_states == DRAINED, "a file says nothing of it"
    assert web1.assignment.wanted.admin is Admin.DRAIN
    await site.want("web-1", Admin.READY)
    assert web1.assignment.wanted.admin is Admin.READY
    assert (await site.changes.state.store.load()).stored.history.admin_states == ()


async def test_going_back_undoes_a_drain_and_brings_it_again(site, autojump_clock):
    await site.want("web-1", Admin.DRAIN)
    assert await site.over(await site.changes.rollback(1, ANN)) == "done"
    assert (site.changes.controller.node_admin.states, site.changes.history.active) == ({}, 3)
    assert await site.over(await site.changes.rollback(2, ANN)) == "done"
    assert site.changes.controller.node_admin.states == {"web-1": Admin.DRAIN}


async def test_a_node_that_comes_later_under_the_name_of_a_drained_one_is_ready(site, autojump_clock):
    await site.want("web-2", Admin.DRAIN)
    text = TEXT.replace("replicas: 2, ", "").replace("to: web}", "to: mid}\n  mid: {kind: l7, to: web}")
    progress = await site.changes.apply(text, ANN)
    while site.changes.controller.registry.records.get("web-2") is not None:
        wanted = site.changes.controller.registry.records["web-2"].assignment.wanted
        assert wanted.admin is Admin.DRAIN, "as long as it is there"
        await trio.sleep(0.05)
    assert await site.over(progress) == "done"
    assert (site.changes.history.admin_states, site.changes.controller.node_admin.states) == ((), {})
    assert await site.over(await site.changes.edit(Scale({"web": 2}), ANN, "scale web=2")) == "done"
    assert site.changes.controller.registry.records["web-2"].assignment.wanted.admin is Admin.READY


async def test_a_node_that_does_not_answer_can_be_drained_and_holds_up_no_change(site, autojump_clock):
    site.machines.habits["web-2"] = "mute"
    progress = await site.changes.edit(SetNode("web-2", Admin.DRAIN), ANN, "drain web-2")
    began = trio.current_time()
    assert await site.over(progress) == "done"
    assert trio.current_time() - began == pytest.approx(SERVED_WITHIN_S, abs=1)
    assert texts(progress)[-1].startswith("not every node serves it yet: web-2 does not serve")
    assert await site.over(await site.changes.edit(SetPolicy("web", "random"), ANN, "policy web=random")) == "done"
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"


async def test_while_a_change_is_being_stored_no_restart_begins(site, autojump_clock):
    slow = site.changes.state.store = Slow(site.changes.state.store)
    async with trio.open_nursery() as accepting:
        accepting.start_soon(site.changes.edit, MID, ANN, "tier add mid")
        await slow.saving.wait()
        with pytest.raises(ChangeUnderWay, match="being accepted"):
            site.changes.restart("web", ANN)
        assert site.changes.runner.progress is None
        slow.stored.set()
    assert site.changes.runner.progress.what == "tier add mid"
    assert await site.over(site.changes.runner.progress) == "done"


async def test_while_a_change_is_under_way_nothing_is_drained(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    with pytest.raises(ChangeUnderWay, match="tier add mid"):
        await site.changes.edit(SetNode("web-1", Admin.DRAIN), ANN, "drain web-1")
    assert await site.over(progress) == "done"
