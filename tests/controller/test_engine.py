"""A topology whose processes somebody else starts."""

import attrs
import pytest

from tests.control_plane import tier
from tierlb.controller.engine import ProcessEngine
from tierlb.model.address import Address
from tierlb.model.topology import Kind, Pool, Run, Topology
from tierlb.topology.load import load_text

LISTED = Pool("listed", endpoints=(Address("127.0.0.1", 9001),))
RUN = Pool("demo", run=Run("demo --port {port}", replicas=3))


def topology(*pools):
    web = tier("web", Kind.L7, pools[0].name, listen=Address("127.0.0.1", 8080))
    return Topology("shop", {"web": web}, {pool.name: pool for pool in pools})


def test_endpoints_that_are_started_somewhere_are_found_by_name_and_others_stay_as_they_are():
    deployed = ProcessEngine("shop-{pool}:9000").deployed(topology(RUN, LISTED))
    assert deployed.pools == {"demo": attrs.evolve(RUN, run=None, dns="shop-demo:9000"), "listed": LISTED}
    assert deployed.tiers == topology(RUN).tiers


@pytest.mark.parametrize(
    ("endpoints", "pools", "lack"),
    [
        ("", (LISTED,), ""),
        ("{pool}:9000", (LISTED, RUN), ""),
        ("", (LISTED, RUN), "pools.demo.run: nothing is started"),
    ],
)
def test_where_nobody_starts_endpoints_a_pool_cannot_run_any(endpoints, pools, lack):
    found = ProcessEngine(endpoints).lack(topology(*pools))
    assert found.startswith(lack)
    assert bool(found) is bool(lack)


def test_cpus_are_not_dealt_to_nodes_without_numbers():
    text = "{cluster: x, tiers: {web: {kind: l7, listen: ':80', cpus: auto, routes: [{respond: {}}]}}}"
    assert (
        ProcessEngine().lack(load_text(text, "f")).startswith("tiers.web.cpus: auto gives each node of `tierlb up` a")
    )
    assert ProcessEngine().lack(load_text(text.replace("auto", "0-3"), "f")) == ""
