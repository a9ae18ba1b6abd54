"""A body far larger than any buffer passes whole, both ways, and no node's memory grows with it."""

import os

import pytest

from scripts.benchmarks.body import GIB, MOST_GROWTH_BYTES, Passage, pass_down, pass_up
from tests.clients.conftest import Site

BODY_BYTES = (4 if os.environ.get("TIERLB_SLOW") else 1) * GIB
"""`TIERLB_SLOW=1` and `./scripts/bench body` pass 4 GiB."""


def pids(site: Site) -> dict[str, int]:
    nodes = {**site.cluster.nodes("edge"), **site.cluster.nodes("web")}
    return {name: node["pid"] for name, node in nodes.items()}


@pytest.mark.parametrize("direction", [pass_up, pass_down])
def test_a_huge_body_passes_with_flat_memory(site: Site, direction: object) -> None:
    passage: Passage = direction(site.sockaddr, "/raw", BODY_BYTES, pids(site))
    print(passage)
    assert passage.received_bytes == BODY_BYTES
    assert len(passage.growth_bytes) == 4
    assert max(passage.growth_bytes.values()) < MOST_GROWTH_BYTES
