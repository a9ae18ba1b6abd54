"""What clients, hosts and operators see of an edge that forwards in the kernel, on machines that are namespaces."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.dataplane.l4.kernel.conftest import AT, AT_V6, CLIENT, CLIENT_V6, HOSTS, HOSTS_V6, EdgeNode
from tests.network import Network, Talking, until

MANY = 400
SLACK = 80
"""Four standard deviations of a fair draw of MANY are 40."""


def by_host(greetings: dict[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for text, count in greetings.items():
        found[text.split(" ")[0]] += count
    return found


def test_weights_are_kept_and_hosts_see_the_clients_addresses(edge: EdgeNode, client: Talking) -> None:
    edge.serves({"h1": {"address": HOSTS["h1"], "weight": 3}, "h2": HOSTS["h2"]})
    seen = client.says(do="visits", at=AT, count=MANY)
    assert set(seen) == {f"h1 {CLIENT}", f"h2 {CLIENT}"}
    assert abs(seen[f"h1 {CLIENT}"] - MANY * 3 / 4) < SLACK


def test_ipv6_is_forwarded_too(edge: EdgeNode, client: Talking) -> None:
    edge.serves(HOSTS_V6)
    assert set(client.says(do="visits", at=AT_V6, count=40)) == {f"h1 {CLIENT_V6}", f"h2 {CLIENT_V6}"}


def test_round_robin_takes_turns(edge: EdgeNode, client: Talking) -> None:
    edge.serves({"h1": {"address": HOSTS["h1"], "weight": 3}, "h2": HOSTS["h2"]}, policy="round-robin")
    assert client.says(do="visits", at=AT, count=40) == {f"h1 {CLIENT}": 30, f"h2 {CLIENT}": 10}


def test_with_maglev_a_client_stays_at_its_host(edge: EdgeNode, client: Talking, net: Network) -> None:
    others = [f"10.77.0.{last}" for last in range(10, 26)]
    for other in others:
        net.runs("client", "ip", "addr", "replace", f"{other}/24", "dev", "v0")
    edge.serves(policy="maglev")
    first = [client.says(do="visits", at=AT, count=3, source=other) for other in others]
    assert all(len(seen) == 1 for seen in first)
    assert {greeting.split(" ")[0] for seen in first for greeting in seen} == {"h1", "h2"}


def test_clients_on_the_edge_itself_are_forwarded(edge: EdgeNode, net: Network) -> None:
    edge.serves()
    beside = net.talks("edge", "tests.dataplane.l4.kernel.visitor")
    seen = beside.says(do="visits", at=AT, count=20)
    assert set(seen) == {"h1 10.77.0.1", "h2 10.77.0.1"}, "the address that the client itself has"


def test_a_host_may_be_its_own_client(edge: EdgeNode, net: Network) -> None:
    edge.serves()
    beside = net.talks("host1", "tests.dataplane.l4.kernel.visitor")
    seen = beside.says(do="visits", at=AT, count=30)
    assert set(seen) == {"h1 10.77.1.1", "h2 10.77.1.2"}
    edge.serves(HOSTS_V6).until_rules(lambda rules: "dnat ip6" in rules)
    seen = beside.says(do="visits", at=AT_V6, count=30)
    assert set(seen) == {"h1 fd77:0:0:1::1", "h2 fd77:0:0:1::2"}


def test_what_only_the_node_reaches_is_relayed(edge: EdgeNode, net: Network, client: Talking) -> None:
    """A client at a loopback address, and a host at one."""
    edge.serves()
    beside = net.talks("edge", "tests.dataplane.l4.kernel.visitor")
    assert set(beside.says(do="visits", at="127.0.0.1:443", count=20)) <= {"h1 10.77.1.1", "h2 10.77.2.1"}
    net.talks("edge", "tests.dataplane.l4.kernel.greeter", "here", "127.0.0.1:81")
    edge.serves({"here": "127.0.0.1:81"})
    assert client.says(do="visits", at=AT, count=10) == {"here 127.0.0.1": 10}


def test_a_machine_that_does_not_forward_relays_and_says_so(edge: EdgeNode, net: Network, client: Talking) -> None:
    net.sets("net.ipv4.ip_forward=0")
    try:
        edge.serves()
        assert set(client.says(do="visits", at=AT, count=10)) <= {"h1 10.77.1.1", "h2 10.77.2.1"}
        assert any("net.ipv4.ip_forward is 0" in lack for lack in edge.state()["shortages"])
    finally:
        net.sets("net.ipv4.ip_forward=1")
    edge.until_state(lambda state: not any("ip_forward" in lack for lack in state["shortages"]))
    edge.until_rules(lambda rules: "chain pick_ip_elsewhere" in rules)
    assert set(client.says(do="visits", at=AT, count=10)) <= {f"h1 {CLIENT}", f"h2 {CLIENT}"}


def test_a_drained_host_leaves_at_once_and_its_connections_stay(edge: EdgeNode, client: Talking) -> None:
    edge.serves({"h1": HOSTS["h1"]})
    edge.talking.says(do="rest")
    assert client.says(do="begins", at=AT, name="early") == f"h1 {CLIENT}"
    edge.serves({"h1": {"address": HOSTS["h1"], "admin": "drain"}, "h2": HOSTS["h2"]})
    assert client.says(do="visits", at=AT, count=20) == {f"h2 {CLIENT}": 20}
    assert client.says(do="asks", name="early") == "still there?"
    edge.serves({"h2": HOSTS["h2"]})
    assert client.says(do="asks", name="early") == "still there?"


def test_an_unhealthy_host_leaves_at_once_and_returns(edge: EdgeNode) -> None:
    edge.serves()
    edge.talking.says(do="rest")
    edge.talking.says(do="checked", name="h1", healthy=False)
    edge.until_rules(lambda rules: "h1" not in rules)
    edge.talking.says(do="checked", name="h1", healthy=True)
    edge.until_rules(lambda rules: "h1" in rules)


def test_what_is_open_at_a_host_that_left_counts(edge: EdgeNode, client: Talking) -> None:
    edge.serves({"h1": HOSTS["h1"]})
    client.says(do="begins", at=AT, name="early")
    edge.serves({"h2": HOSTS["h2"]})
    edge.until_state(lambda state: state["open"] == 1)
    client.says(do="leaves", name="early")
    edge.until_state(lambda state: state["open"] == 0)


def test_connections_and_their_rate_are_counted(edge: EdgeNode, client: Talking) -> None:
    edge.serves()
    client.says(do="visits", at=AT, count=30)
    for name in "abc":
        client.says(do="begins", at=AT, name=name)
    edge.until_state(lambda state: (state["open"], state["arrivals"]) == (3, 33))
    hosts = edge.state()["hosts"]
    assert sum(host["in_flight"] for host in hosts.values()) == 3
    for name in "abc":
        client.says(do="leaves", name=name)
    edge.until_state(lambda state: (state["open"], state["arrivals"]) == (0, 33))
    state = edge.state()
    assert sum(host["done"] for host in state["hosts"].values()) == 33
    assert state["errors"] == 0


def test_the_fewer_connections_a_host_has_the_more_it_gets(edge: EdgeNode, client: Talking) -> None:
    edge.serves({"h1": HOSTS["h1"]}, policy="least-requests")
    for number in range(40):
        client.says(do="begins", at=AT, name=str(number))
    edge.until_state(lambda state: state["open"] == 40)
    edge.serves(policy="least-requests")
    seen = by_host(client.says(do="visits", at=AT, count=100))
    assert seen["h2"] > 2 * seen.get("h1", 0)


def test_a_host_that_refuses_or_is_silent_leaves_the_rules_and_returns(
    edge: EdgeNode, client: Talking, net: Network
) -> None:
    edge.serves()
    net.greeters[0].ends(kill=True)

    def leaves() -> bool:
        client.says(do="visits", at=AT, count=4)
        return edge.state()["hosts"]["h1"]["availability"] == "ejected"

    until(leaves, lambda: "h1 is still given connections, which it refuses")
    edge.until_rules(lambda rules: "h1" not in rules)
    assert client.says(do="visits", at=AT, count=20) == {f"h2 {CLIENT}": 20}
    net.talks("host1", "tests.dataplane.l4.kernel.greeter", "h1", HOSTS["h1"])
    edge.until_rules(lambda rules: "h1" in rules)
    net.runs("host1", "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }")
    try:
        until(leaves, lambda: "h1 is still given connections, which it does not answer")
    finally:
        net.runs("host1", "nft", "flush", "ruleset")


def test_a_small_change_of_weights_leaves_the_rules_as_they_are(edge: EdgeNode) -> None:
    def lookups(weight: float) -> str:
        edge.serves({"h1": {"address": HOSTS["h1"], "weight": weight}, "h2": HOSTS["h2"]})
        return next(line for line in edge.rules().split("\n") if "numgen" in line)

    first = lookups(1.0)
    assert lookups(1.05) == first
    edge.talking.says(
        do="serve", hosts={"h1": {"address": HOSTS["h1"], "weight": 2.0}, "h2": HOSTS["h2"]}, policy="random",
        listen=["0.0.0.0:443"],
    )  # fmt: skip
    edge.until_rules(lambda rules: "0-6666" in rules)


def test_maintenance_ends_what_is_left_after_the_drain_time(edge: EdgeNode, client: Talking) -> None:
    edge.serves()
    names = [str(number) for number in range(12)]
    places = {name: client.says(do="begins", at=AT, name=name).split(" ")[0] for name in names}
    assert set(places.values()) == {"h1", "h2"}
    edge.until_state(lambda state: state["open"] == 12)
    edge.serves({"h1": {"address": HOSTS["h1"], "admin": "maintenance"}, "h2": HOSTS["h2"]}, drain_s=0.2)
    edge.until_state(lambda state: state["open"] == list(places.values()).count("h2"))
    for name, host in places.items():
        assert (client.says(do="asks", name=name) == "still there?") is (host == "h2")


@pytest.mark.parametrize("left", [True, False], ids=["something is left", "all end"])
def test_a_node_that_drains_refuses_new_connections_and_waits_for_others(
    edge: EdgeNode, client: Talking, left: bool
) -> None:
    edge.serves(drain_s=3.0 if left else 60.0)
    client.says(do="begins", at=AT, name="early")
    edge.until_state(lambda state: state["open"] == 1)
    edge.talking.is_to_end()
    edge.until_rules(lambda rules: "numgen" not in rules)
    assert client.says(do="visits", at=AT, count=3) == {"ConnectionRefusedError": 3}
    if not left:
        assert client.says(do="asks", name="early") == "still there?"
        client.says(do="leaves", name="early")
    edge.until_rules(lambda rules: not rules)
    assert edge.talking.ends() == 0
    if left:
        assert client.says(do="asks", name="early") in ("ConnectionResetError", "BrokenPipeError")


def test_a_node_without_connections_ends_at_once(edge: EdgeNode, client: Talking) -> None:
    """However long it would pause after its last walk over connections."""
    edge.serves(drain_s=600.0)
    client.says(do="begins", at=AT, name="early")
    edge.until_state(lambda state: state["open"] == 1)
    edge.talking.says(do="rest")
    client.says(do="leaves", name="early")
    edge.until_state(lambda state: state["open"] == 0)
    edge.talking.is_to_end()
    edge.until_rules(lambda rules: not rules)
    assert edge.talking.ends() == 0


def test_udp_is_forwarded_and_sessions_move_when_their_host_leaves(edge: EdgeNode, client: Talking) -> None:
    hosts = {"h1": "10.77.1.2:53", "h2": "10.77.2.2:53"}
    edge.serves(hosts, protocol="udp", listen=["0.0.0.0:53"])
    at = "10.77.0.1:53"
    seen = client.says(do="visits", at=at, count=100, udp=True)
    assert set(seen) == {f"h1 {CLIENT}", f"h2 {CLIENT}"}
    assert abs(seen[f"h1 {CLIENT}"] - 50) < 30
    edge.until_state(lambda state: state["open"] == state["arrivals"] > 90)  # a client's port may come again
    edge.serves({"h1": hosts["h1"]}, protocol="udp", listen=["0.0.0.0:53"])
    assert client.says(do="begins", at=at, name="one", udp=True) == f"h1 {CLIENT}"
    edge.serves({"h2": hosts["h2"]}, protocol="udp", listen=["0.0.0.0:53"])
    edge.until_state(lambda state: state["open"] == 0)
    assert client.says(do="asks", name="one") == f"h2 {CLIENT}"


@pytest.mark.parametrize("hosts", [["10.77.1.2:53", "10.77.2.2:53"], ["10.77.1.2:53", "10.77.0.1:54"]])
def test_over_udp_sessions_leave_a_host_that_refuses(
    edge: EdgeNode, net: Network, client: Talking, hosts: list[str]
) -> None:
    """The second one is on another machine, or on this one."""
    dies = (
        net.talks("edge", "tests.dataplane.l4.kernel.greeter", "own", "10.77.0.1:54/udp") if ":54" in hosts[1] else None
    )
    edge.serves({"h1": hosts[0], "h2": hosts[1]}, protocol="udp", listen=["0.0.0.0:53"], policy="round-robin")
    at = "10.77.0.1:53"
    begun = {name: client.says(do="begins", at=at, name=name, udp=True) for name in ("one", "two")}
    (name,) = (name for name, greeting in begun.items() if not greeting.startswith("h1 "))
    (dies or net.greeters[1]).ends(kill=True)
    assert client.says(do="asks", name=name) == "ConnectionRefusedError"
    until(lambda: client.says(do="asks", name=name) == f"h1 {CLIENT}", lambda: edge.rules())
    assert edge.events("host_ejected")


def test_a_tier_may_change_to_relay_and_back(edge: EdgeNode, client: Talking) -> None:
    edge.serves()
    assert client.says(do="begins", at=AT, name="early") in (f"h1 {CLIENT}", f"h2 {CLIENT}")
    edge.until_state(lambda state: state["open"] == 1)
    edge.serves(forward="relay")
    edge.until_rules(lambda rules: "numgen" not in rules)
    assert set(client.says(do="visits", at=AT, count=10)) <= {"h1 10.77.1.1", "h2 10.77.2.1"}
    assert client.says(do="asks", name="early") == "still there?"
    client.says(do="leaves", name="early")
    edge.until_rules(lambda rules: not rules)
    edge.serves()
    assert set(client.says(do="visits", at=AT, count=10)) <= {f"h1 {CLIENT}", f"h2 {CLIENT}"}


def test_connections_outlive_a_node_that_is_killed_and_its_successor_counts_them(
    edges: Callable[..., EdgeNode], client: Talking
) -> None:
    edge = edges().serves()
    for name in "abc":
        client.says(do="begins", at=AT, name=name)
    edge.talking.ends(kill=True)
    assert set(client.says(do="visits", at=AT, count=10)) <= {f"h1 {CLIENT}", f"h2 {CLIENT}"}, "rules stay"
    again: Any = edges().serves()
    again.until_state(lambda state: state["open"] == 3)
    for name in "abc":
        assert client.says(do="asks", name=name) == "still there?"
