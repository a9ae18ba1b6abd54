"""`replicas: auto` in a real cluster: a node for each core that the supervisor has when the file is read."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.changing import DEMO, Site, running_site
from tierlb.topology.edit import Scale

DEADLINE_S = 240.0
TEXT = """\
cluster: cores
tiers:
  web: {{kind: l7, replicas: auto, listen: "{listen}", to: demo}}
pools:
  demo: {{run: {{command: "{demo}"}}}}
"""


@pytest.fixture
def cpus() -> Iterator[list[int]]:
    """Those of this process, which are restored afterwards."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("NOT TESTED: one core is all there is")
    yield sorted(before)
    os.sched_setaffinity(0, before)


def nodes(site: Site) -> list[str]:
    return sorted(name for name in site.children().values() if name)


async def test_a_tier_has_a_node_per_core_counted_anew_with_each_change(cpus: list[int], tmp_path: Path) -> None:
    all_of_them = [f"web-{number}" for number in range(1, len(cpus) + 1)]
    text = TEXT.format(listen=free_address(), demo=DEMO)
    os.sched_setaffinity(0, cpus[:1])
    with trio.fail_after(DEADLINE_S):
        async with running_site(text, tmp_path) as site:
            changes, request = site.changes, site.request
            assert nodes(site) == ["web-1"]
            os.sched_setaffinity(0, cpus)
            await site.done(await changes.apply(text, request))
            assert nodes(site) == all_of_them
            await site.done(await changes.edit(Scale({"web": 1}), request, "scale web=1"))
            assert nodes(site) == ["web-1"]
            await site.done(await changes.edit(Scale({"web": "auto"}), request, "scale web=auto"))
            assert nodes(site) == all_of_them
            assert changes.text == text
