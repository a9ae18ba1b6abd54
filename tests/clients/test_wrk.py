"""wrk through edge and l7 tier: load with no socket error and no answer but 200."""

import pytest

from scripts.benchmarks.load import wrk
from tests.clients.conftest import Site

pytestmark = pytest.mark.needs("wrk")

SECONDS = 2


@pytest.mark.parametrize("options", [(), ("-H", "Connection: close")], ids=["kept alive", "one request each"])
async def test_load_is_served_without_an_error(site: Site, options: tuple[str, ...]) -> None:
    result = await wrk(f"{site.url}/raw/hello", SECONDS, options, connections=64)
    assert result.problem is None
    assert result.requests > 1000


async def test_all_nodes_take_part(site: Site) -> None:
    before = items(site)
    result = await wrk(f"{site.url}/raw/hello", SECONDS, ("-H", "Connection: close"), connections=16)
    assert result.problem is None

    def all_counted() -> bool:
        return sum(items(site).values()) - sum(before.values()) >= result.requests

    await site.cluster.wait_until("the nodes report what they served", all_counted, 10.0)
    served = [items(site)[name] - before[name] for name in before]
    assert len(served) == 3
    assert min(served) > 0.2 * sum(served)


def items(site: Site) -> dict[str, int]:
    """Requests per node since its start, as reported."""
    nodes = site.cluster.nodes("web")
    return {name: node["load"]["items"] if node["load"] else 0 for name, node in nodes.items()}
