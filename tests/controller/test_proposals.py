import pytest

from tests.controller.played import ANN, MID, TEXT
from tierlb.controller.admin_states import AdminState
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.proposals import NothingToDo, NotPossible, tiers_out
from tierlb.model.topology import Admin
from tierlb.topology.edit import Scale
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.verbs import SetNode
from tierlb.wire.frames import Leaving

TLS = "security: {tls: {certificate: tls/cert.pem, key: tls/key.pem, ca: tls/ca.pem}}\n"


async def test_who_applies_a_file_from_elsewhere_hears_where_the_files_that_it_names_have_to_be(
    site, tmp_path, autojump_clock
):
    with pytest.raises(TopologyError) as caught:
        await site.changes.apply(TEXT + TLS, ANN)
    places = [str(problem).partition(" (looked for at ")[2] for problem in caught.value.problems]
    assert places == [f"'{tmp_path}/tls/{name}.pem')" for name in ("cert", "key", "ca")]


async def test_a_plan_changes_nothing(site, autojump_clock):
    plan = site.changes.proposals.plan(site.changes.proposals.edited(MID))
    assert plan.stages == 3
    assert await site.is_as(TEXT)
    assert site.changes.runner.progress is None


@pytest.mark.parametrize("tier", ["edge", "web"])
async def test_a_tier_does_not_shrink_to_nodes_that_are_drained(site, tier, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"edge": 2}), ANN, "scale edge=2")) == "done"
    await site.want(f"{tier}-1", Admin.DRAIN)
    scale, reason = Scale({tier: 1}), f"of {tier} only nodes that are drained would be left: `tierlb ready {tier}-1`"
    with pytest.raises(NotPossible, match=f"{reason} first"):
        await site.changes.edit(scale, ANN, "scale")
    await site.want(f"{tier}-1", Admin.READY)
    assert await site.over(await site.changes.edit(scale, ANN, "scale")) == "done"


async def test_of_nodes_that_go_a_plan_does_not_say_that_they_are_ready(site, autojump_clock):
    await site.want("web-2", Admin.DRAIN)
    plan = site.changes.proposals.plan(site.changes.proposals.edited(Scale({"web": 1})))
    assert [line for line in plan.lines if "web-2" in line] == [plan.lines[1]]
    assert plan.lines[1].startswith("web-2 stops")


async def test_states_of_nodes_are_bounded(site, monkeypatch, autojump_clock):
    monkeypatch.setattr("tierlb.controller.proposals.MOST_STATES", 0)
    with pytest.raises(NotPossible, match=r"0 nodes and agents are drained .*: make some ready first"):
        await site.want("web-1", Admin.DRAIN)
    monkeypatch.setattr("tierlb.controller.proposals.MOST_STATES", 1)
    await site.want("web-1", Admin.DRAIN)
    await site.want("web-1", Admin.READY)
    assert site.changes.history.admin_states == ()


@pytest.mark.parametrize("state", [Admin.DRAIN, Admin.MAINTENANCE])
async def test_the_last_one_that_serves_stays(site, state, autojump_clock):
    await site.want("web-1", state)
    for name in ("web-2", "edge-1"):
        with pytest.raises(NotPossible, match=f"{name} is the last one of .* that serves: scale"):
            await site.changes.edit(SetNode(name, state), ANN, "x")
    with pytest.raises(NothingToDo):
        await site.changes.edit(SetNode("web-1", state), ANN, "x")
    await site.want("web-1", Admin.READY)
    await site.want("web-2", state)
    assert site.changes.controller.node_admin.states == {"web-2": state}


async def test_one_that_drains_by_itself_is_no_peer(site, autojump_clock):
    record = site.changes.controller.registry.records["web-1"]
    site.changes.controller.receive(record, Leaving())
    with pytest.raises(NotPossible, match="web-2 is the last one"):
        await site.changes.edit(SetNode("web-2", Admin.DRAIN), ANN, "x")


@pytest.mark.parametrize(
    ("names", "out"),
    [
        ((), {}),
        (("web-1",), {}),
        (("web-1", "web-2"), {"web": "web-1"}),
        (("web-1", "web-2", "edge-1"), {"edge": "edge-1", "web": "web-1"}),
    ],
)
def test_a_tier_is_out_if_each_of_its_nodes_is(names, out):
    states = tuple(AdminState(name[:-2], name, Admin.MAINTENANCE) for name in names)
    assert tiers_out(load_text(TEXT, "f"), states) == out


@pytest.mark.parametrize(("engine", "nodes"), [(None, 6), (ProcessEngine(), 1)])
async def test_one_node_per_core_counts_those_of_the_machine_that_starts_them(site, engine, nodes, monkeypatch):
    """Where others start them, a change waits for one, and more may come."""
    monkeypatch.setattr("tierlb.topology.uses.available_cores", lambda: 6)
    site.changes.controller.registry.engine = engine
    web = site.changes.proposals.load(TEXT.replace("replicas: 2", "replicas: auto")).tiers["web"]
    assert (web.replicas, web.per_core) == (nodes, True)


async def test_cpus_that_this_machine_does_not_have_are_refused_before_anything_happens(site, autojump_clock):
    text = TEXT.replace("replicas: 2", "replicas: 2, cpus: [4095]")
    with pytest.raises(NotPossible, match=r"^tiers\.web\.cpus: CPU 4095 cannot be used here: write some of those"):
        await site.changes.apply(text, ANN)
    assert await site.is_as(TEXT)
