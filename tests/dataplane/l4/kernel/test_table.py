"""Tables of this node, of dead and living nodes of its cluster, and of others."""

from collections.abc import Callable

from tests.dataplane.l4.kernel.conftest import AT, CLIENT, EdgeNode
from tests.network import Network, Talking

FOREIGN = (
    "add table inet tierlb_other_edge-1; add table ip tierlb_CLUSTER_edge-2; add table inet firewall; "
    "add chain inet firewall input { type filter hook input priority 0; }; "
    'add rule inet firewall input tcp dport 22 counter comment "mine"'
)


def tables(net: Network) -> set[str]:
    return {line.removeprefix("table ") for line in net.runs("edge", "nft", "list", "tables").split("\n") if line}


def test_stale_tables_of_the_cluster_are_removed_and_others_are_not_touched(
    edges: Callable[..., EdgeNode], net: Network
) -> None:
    living = edges("edge-3").serves(listen=["0.0.0.0:444"])
    cluster = living.cluster
    net.runs("edge", "nft", FOREIGN.replace("CLUSTER", cluster))
    before = net.runs("edge", "nft", "list", "table", "inet", "firewall")
    edges("edge-4").serves().talking.ends(kill=True)
    net.runs("edge", "nft", f"add table inet tierlb_{cluster}_edge-5")
    own = edges("edge-1").serves()
    foreign = {"inet tierlb_other_edge-1", f"ip tierlb_{cluster}_edge-2", "inet firewall"}
    assert tables(net) == {*foreign, f"inet tierlb_{cluster}_edge-1", f"inet tierlb_{cluster}_edge-3"}
    removed = [f"tierlb_{cluster}_edge-4", f"tierlb_{cluster}_edge-5"]
    assert own.events("stale_tables_removed")[0]["tables"] == str(removed)
    for edge in (own, living):
        assert edge.talking.ends() == 0
    assert tables(net) == foreign
    assert net.runs("edge", "nft", "list", "table", "inet", "firewall") == before


def test_two_processes_of_a_node_have_a_table_each_and_count_their_own(
    edges: Callable[..., EdgeNode], net: Network, client: Talking
) -> None:
    first = edges().serves()
    client.says(do="begins", at=AT, name="a")
    first.until_state(lambda state: state["open"] == 1)
    second = edges()
    second.table += "_2"
    second.serves()
    first.talking.is_to_end()
    first.until_rules(lambda rules: "numgen" not in rules)
    assert client.says(do="begins", at=AT, name="b").endswith(CLIENT)
    second.until_state(lambda state: (state["open"], state["arrivals"]) == (1, 1))
    assert client.says(do="asks", name="a") == "still there?"
    client.says(do="leaves", name="a")
    assert first.talking.ends() == 0, "it does not wait for the connection of the second"
    assert client.says(do="asks", name="b") == "still there?"


def test_a_table_that_others_removed_is_written_anew(edge: EdgeNode, net: Network, client: Talking) -> None:
    edge.serves()
    client.says(do="visits", at=AT, count=5)
    edge.until_state(lambda state: state["arrivals"] == 5)
    net.runs("edge", "nft", "flush", "ruleset")
    edge.until_rules(lambda rules: "numgen" in rules)
    assert edge.events("nftables_lost")
    client.says(do="visits", at=AT, count=5)
    edge.until_state(lambda state: state["arrivals"] == 10)


def test_a_table_that_others_changed_is_written_anew_with_the_next_change(edge: EdgeNode, net: Network) -> None:
    edge.serves()
    chain = next(line.split()[1] for line in edge.rules().split("\n") if line.startswith("\tchain pick"))
    net.runs("edge", "nft", f"flush table inet {edge.table}; delete chain inet {edge.table} {chain}")
    edge.serves({"h2": "10.77.2.2:80"})
    assert not edge.state()["errors"]
