"""wrk through edge and l7 tier: load with no socket error and no answer but 200."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmarks.load import wrk
from tests.clients.conftest import Site, serving

pytestmark = pytest.mark.needs("wrk")

SECONDS = 2
DEADLINE_S = 60.0
CONNECTIONS = 64


@pytest.mark.parametrize("options", [(), ("-H", "Connection: close")], ids=["kept alive", "one request each"])
async def test_load_is_served_without_an_error(site: Site, options: tuple[str, ...]) -> None:
    result = await wrk(f"{site.url}/raw/hello", SECONDS, options, connections=CONNECTIONS)
    assert result.problem is None
    assert result.requests > CONNECTIONS


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    """A cluster of its own: after the long answers of other tests a node may get little for a minute."""
    with serving(tmp_path) as site:
        yield site


async def test_all_nodes_take_part(fresh: Site) -> None:
    served = await served_by_each(fresh)
    assert len(served) == 3
    assert min(served) > 0.1 * sum(served)


async def served_by_each(site: Site) -> list[int]:
    """How many requests each node had of a new load."""
    before = items(site)
    result = await wrk(f"{site.url}/raw/hello", SECONDS, ("-H", "Connection: close"), connections=16)
    assert result.problem is None

    def all_counted() -> bool:
        return sum(items(site).values()) - sum(before.values()) >= result.requests

    await site.cluster.wait_until("the nodes report what they served", all_counted, DEADLINE_S)
    after = items(site)
    return [after[name] - before[name] for name in before]


def items(site: Site) -> dict[str, int]:
    """Requests per node since its start, as reported."""
    nodes = site.cluster.nodes("web")
    return {name: node["load"]["items"] if node["load"] else 0 for name, node in nodes.items()}
