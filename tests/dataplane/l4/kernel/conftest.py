"""Two hosts that greet, a client, and edges that forward to them in the kernel."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.network import Network, Talking, require, until

SCRIPTS = "tests.dataplane.l4.kernel"
AT, AT_V6 = "10.77.0.1:443", "[fd77::1]:443"
HOSTS = {"h1": "10.77.1.2:80", "h2": "10.77.2.2:80"}
HOSTS_V6 = {"h1": "[fd77:0:0:1::2]:80", "h2": "[fd77:0:0:2::2]:80"}
LISTEN = ["0.0.0.0:443", "[::]:443"]
CLIENT, CLIENT_V6 = "10.77.0.2", "fd77::2"

_clusters = itertools.count(1)


class EdgeNode:
    """An edge's process, and what it says."""

    def __init__(self, net: Network, name: str, cluster: str) -> None:
        self.net = net
        self.cluster = cluster
        self.table = f"tierlb_{cluster}_{name}"
        self.talking: Talking = net.talks("edge", f"{SCRIPTS}.edge", cluster, name)

    def serves(self, hosts: dict[str, Any] | None = None, policy: str = "random", **options: Any) -> "EdgeNode":
        """These hosts, and the rules are there."""
        hosts = HOSTS if hosts is None else hosts
        options.setdefault("listen", LISTEN)
        assert self.talking.says(do="serve", hosts=hosts, policy=policy, **options) == ""
        if options.get("forward", "nftables") == "nftables":
            wanted = {name for name, told in hosts.items() if not isinstance(told, dict) or "admin" not in told}
            self.until_rules(lambda rules: set(re.findall(r'comment "(\S+)"', rules)) == wanted)
        return self

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.talking.says(do="state")
        return state

    def events(self, name: str) -> list[dict[str, str]]:
        return [fields for event, fields in self.state()["events"] if event == name]

    def rules(self) -> str:
        """Its table as text, empty if there is none."""
        try:
            return self.net.runs("edge", "nft", "list", "table", "inet", self.table)
        except RuntimeError as error:
            assert "No such file" in str(error)  # noqa: PT017 (what nft says of a table that is not there)
            return ""

    def until_rules(self, hold: Callable[[str], bool]) -> None:
        until(lambda: hold(self.rules()), lambda: f"the rules are {self.rules()}")

    def until_state(self, hold: Callable[[dict[str, Any]], bool]) -> None:
        until(lambda: hold(self.state()), lambda: f"the node reports {self.state()}")


@pytest.fixture(scope="session")
def machines() -> Iterator[Network]:
    require()
    with Network(2).up() as net:
        yield net


@pytest.fixture
def net(machines: Network) -> Iterator[Network]:
    """With a greeter on each host; no process and no rule of another test is left."""
    machines.greeters = [
        machines.talks(
            f"host{number}", f"{SCRIPTS}.greeter", f"h{number}",
            f"10.77.{number}.2:80", f"[fd77:0:0:{number}::2]:80", f"10.77.{number}.2:53/udp",
        )
        for number in (1, 2)
    ]  # fmt: skip
    yield machines
    machines.calm()


@pytest.fixture
def client(net: Network) -> Talking:
    return net.talks("client", f"{SCRIPTS}.visitor")


@pytest.fixture
def edges(net: Network) -> Callable[..., EdgeNode]:
    """Makes edge nodes, in a cluster that no test before had: they would inherit its connections."""
    cluster = f"shop{next(_clusters)}"
    return lambda name="edge-1": EdgeNode(net, name, cluster)


@pytest.fixture
def edge(edges: Callable[..., EdgeNode]) -> EdgeNode:
    return edges()
