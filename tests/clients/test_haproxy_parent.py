"""HAProxy's agent-check for real, in both directions: HAProxy in front of two tiers that tell it how they are, and a tier
that asks small agents beside its endpoints."""

import contextlib
import csv
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from scripts.benchmarks.lost import kill
from tests.cluster.traffic import Traffic
from tests.processes import Process, running, tierlb
from tierlb.model.address import Address, parse_address

DEADLINE_S = 60.0
START_S = 20.0
SLOTS, SERVICE = 4, "10ms"
LOWER = 80
"""Per cent. Half is gone, but of a usual capacity that is learnt over half a minute, and less of it is known by then."""
LESS = 0.47
DRAWS = 400
"""With 80 % against 100 % it gets 44 %, or 178 of so many give or take ten; else it is 200, of which `LESS` is 188."""
SIDES = ("left", "right")
TOPOLOGY = """\
cluster: neighbours
admin: {{listen: {admin}}}
tiers:
  left:
    kind: l7
    listen: "{left}"
    agent_check: "{left_says}"
    routes: [{{match: {{path: /work}}, to: left-app}}]
  right:
    kind: l7
    listen: "{right}"
    agent_check: "{right_says}"
    routes: [{{match: {{path: /work}}, to: right-app}}]
pools:
  left-app: {{endpoints: ["{left_1}", "{left_2}"]}}
  right-app: {{endpoints: ["{right_1}", "{right_2}"]}}
"""
HAPROXY = """\
global
  stats socket {stats} mode 600
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  retries 2
  option redispatch 1
frontend front
  bind {front}
  default_backend tiers
backend tiers
  balance random(1)
  server left {left} weight 100 check inter 500ms agent-check agent-port {left_port} agent-inter 500ms
  server right {right} weight 100 check inter 500ms agent-check agent-port {right_port} agent-inter 500ms
"""


@attrs.frozen
class Site:
    """The cluster, its endpoints' processes by name, and HAProxy in front."""

    cluster: Cluster
    endpoints: dict[str, "Process[bytes]"]
    front: Address
    stats: Path

    @property
    def traffic(self) -> Traffic:
        return Traffic((self.front.host, self.front.port), work="/work")

    def pid(self, side: str) -> int:
        return int(self.cluster.nodes(side)[f"{side}-1"]["pid"])

    def weight(self, side: str) -> int:
        return self.servers()[side][1]

    def servers(self) -> dict[str, tuple[str, int]]:
        """What HAProxy makes of the two: state and weight."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.stats))
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {row["svname"]: (row["status"], int(row["weight"])) for row in rows if row["svname"] in SIDES}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("haproxy")
    names = ("admin", "front", *SIDES, "left_says", "right_says", "left_1", "left_2", "right_1", "right_2")
    at = {name: free_address() for name in names}
    config, stats = directory / "haproxy.cfg", directory / "stats"
    ports = {f"{side}_port": parse_address(at[f"{side}_says"]).port for side in SIDES}
    config.write_text(HAPROXY.format(stats=stats, **at, **ports))
    with contextlib.ExitStack() as stack:
        endpoints = {}
        for name in (name for name in names if name[-1].isdigit()):
            port = parse_address(at[name]).port
            argv = tierlb("demo-backend", port=port, name=name, slots=SLOTS, service=SERVICE)
            endpoints[name] = stack.enter_context(running(argv, directory / "endpoints.log"))
        cluster = stack.enter_context(running_cluster(TOPOLOGY.format(**at), at["admin"], directory))
        stack.enter_context(running(["haproxy", "-db", "-f", str(config)], directory / "haproxy.log"))
        trio.run(cluster.wait_until, "HAProxy runs", stats.exists, START_S)
        yield Site(cluster, endpoints, parse_address(at["front"]), stats)


pytestmark = pytest.mark.needs("haproxy")


async def test_haproxy_sends_less_to_a_tier_that_has_lost_half_of_its_endpoints_and_nothing_to_one_that_drains(
    site: Site,
) -> None:
    traffic = site.traffic
    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing(kept=6, fresh=6):
            await traffic.until("both are up", lambda: set(site.servers().values()) == {("UP", 100)})
            await traffic.until_share("left-1", LESS, of=DRAWS)
            kill(site.endpoints["left_1"].pid)
            await traffic.until("its weight falls", lambda: site.weight("left") <= LOWER)
            await traffic.until_share("left-1", 0.0, LESS, of=DRAWS)
            assert site.servers()["left"][0] == "UP"

            os.kill(site.pid("left"), signal.SIGTERM)
            await traffic.until("it drains", lambda: site.servers()["left"][0] == "DRAIN")
            await traffic.until("it is back", lambda: site.servers()["left"][0] == "UP")
            await traffic.until_share("left-1", LESS / 2, of=DRAWS)
    assert traffic.failures == []
