import attrs
import pytest
import trio

from tests.control_plane import tier
from tests.controller.played import ANN, MID
from tierlb.controller.stages import moves_traffic
from tierlb.model.topology import Admin, Kind, Topology
from tierlb.topology.edit import Scale


async def test_half_of_a_new_tier_is_enough_to_go_on(site, autojump_clock):
    site.machines.habits |= {"mid-1": "empty", "mid-2": "empty"}
    progress = await site.changes.edit(attrs.evolve(MID, replicas=3), ANN, "tier add mid")
    await trio.sleep(5)
    assert (progress.stage, progress.over) == (1, False)
    del site.machines.habits["mid-2"]
    await trio.sleep(1)
    assert progress.stage == 2
    assert await site.over(progress) == "done"


async def test_most_nodes_of_a_tier_may_be_out_and_not_work_while_it_changes(site, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"web": 4}), ANN, "scale web=4")) == "done"
    for name in ("web-2", "web-3", "web-4"):
        await site.want(name, Admin.DRAIN)
        site.machines.habits[name] = "empty"
    await trio.sleep(1)
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"


def sending(**targets):
    """A topology whose tiers send to these."""
    tiers = {name: tier(name, Kind.L7, target) for name, target in targets.items()}
    return Topology("shop", tiers, {})


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ({"edge": "web"}, {"edge": "web"}, False),
        ({"edge": "web"}, {"edge": "mid"}, True),
        ({"edge": "web"}, {"edge": "web", "mid": "web"}, False),
        ({"edge": "web", "mid": "web"}, {"edge": "web"}, False),
        ({"edge": "mid", "mid": "web"}, {"edge": "web", "mid": "web"}, True),
    ],
)
def test_traffic_moves_where_a_tier_gets_a_new_target(before, after, moves):
    assert moves_traffic(sending(**before), sending(**after)) is moves
