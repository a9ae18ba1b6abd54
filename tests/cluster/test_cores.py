"""`replicas: auto` in a real cluster: a node for each core that the supervisor has when the file is read."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.changing import DEMO, Site, running_site
from tierlb.node.pinning import threads
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
    run_on(before)


def run_on(cpus: Collection[int]) -> None:
    """With all threads: one of them starts the nodes."""
    for thread in threads():
        os.sched_setaffinity(thread, cpus)


def nodes(site: Site) -> list[str]:
    return sorted(name for name in site.children().values() if name)


async def test_a_tier_has_a_node_per_core_counted_anew_with_each_change(cpus: list[int], tmp_path: Path) -> None:
    all_of_them = [f"web-{number}" for number in range(1, len(cpus) + 1)]
    text = TEXT.format(listen=free_address(), demo=DEMO)
    run_on(cpus[:1])
    with trio.fail_after(DEADLINE_S):
        async with running_site(text, tmp_path) as site:
            changes, request = site.changes, site.request
            assert nodes(site) == ["web-1"]
            run_on(cpus)
            await site.done(await changes.apply(text, request))
            assert nodes(site) == all_of_them
            await site.done(await changes.edit(Scale({"web": 1}), request, "scale web=1"))
            assert nodes(site) == ["web-1"]
            await site.done(await changes.edit(Scale({"web": "auto"}), request, "scale web=auto"))
            assert nodes(site) == all_of_them
            assert changes.text == text


def allowed(site: Site) -> dict[str, str]:
    """By node, the CPUs that the kernel lets it run on."""
    found = {}
    for pid, name in site.children().items():
        if name:
            status = Path(f"/proc/{pid}/status").read_text()
            found[name] = next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list:"))
    return found


async def test_nodes_run_on_the_cpus_of_their_tier_and_move_when_these_change(cpus: list[int], tmp_path: Path) -> None:
    """The same processes: nothing is restarted."""
    plain = TEXT.format(listen=free_address(), demo=DEMO).replace("auto", "3")
    one, other = map(str, cpus[:2])
    with trio.fail_after(DEADLINE_S):
        async with running_site(plain, tmp_path) as site:
            before, everywhere = site.children(), allowed(site)
            for written, expected in (
                (f"[{one}, {other}]", [one, other, one]),
                (f"[{other}]", [other] * 3),
                ("auto", [str(cpus[number % len(cpus)]) for number in range(3)]),
            ):
                text = plain.replace("replicas: 3", f"replicas: 3, cpus: {written}")
                await site.done(await site.changes.apply(text, site.request))
                assert allowed(site) == {f"web-{number}": cpu for number, cpu in enumerate(expected, start=1)}
            await site.done(await site.changes.apply(plain, site.request))
            assert allowed(site) == everywhere
            assert site.children() == before
