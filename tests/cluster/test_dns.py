"""A pool behind a name in DNS, with a real name server and real nodes: its endpoints come and go under load, and nobody
but the nodes looks for them. The endpoints are in this process, at loopback addresses of their own.
"""

import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import START_S, Cluster, free_address
from tests.cluster.traffic import Endpoint, Traffic
from tests.name_server import ZONE, NameServer, name_server
from tests.processes import running
from tierlb.model.address import parse_address
from tierlb.net.names import AGAIN_S

DEADLINE_S = 180.0
MANY = 150
SERVICE = f"_http._tcp.app.{ZONE}"
TOPOLOGY = """\
cluster: names
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, replicas: 2, routes: [{{match: {{path: /work}}, to: app}}]}}
pools:
  app: {{dns: "{name}", health: tcp}}
"""


@attrs.define
class Site:
    """A cluster whose processes ask `server`, and the endpoints that it may find."""

    server: NameServer
    directory: Path
    listen: str
    endpoints: dict[str, Endpoint]

    @property
    def port(self) -> int:
        return parse_address(next(iter(self.endpoints.values())).address).port

    def leads_to(self, *names: str) -> None:
        """The pool's name leads to these endpoints from now on."""
        hosts = {name: [parse_address(each.address).host] for name, each in self.endpoints.items()}
        self.server.leads(app=[host for name in names for host in hosts[name]], **hosts)

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[Cluster]:
        """The cluster whose pool has this name in DNS."""
        admin, file = free_address(), self.directory / "names.yaml"
        file.write_text(TOPOLOGY.format(admin=admin, listen=self.listen, name=name))
        argv = [sys.executable, "-m", "tierlb", "up", str(file), "--state", str(self.directory / "state")]
        with running(list(self.server.asking(*argv)), self.directory / "up.log") as process:
            yield Cluster(admin, self.directory, process)

    async def serves(self, cluster: Cluster, traffic: Traffic, *names: str) -> None:
        """Wait until each of these has answered something since now."""
        await cluster.wait_until("everybody serves", cluster.is_whole, START_S)
        before = {name: self.endpoints[name].answered for name in names}
        await traffic.until(f"{names} answer", lambda: all(self.endpoints[n].answered > before[n] for n in names))

    async def falls_silent(self, traffic: Traffic, name: str) -> None:
        """Wait until so many are answered elsewhere that no node can have this one in turn any more, and end it."""
        endpoint, last = self.endpoints[name], [(0, 0)]

        def silent() -> bool:
            elsewhere = sum(each.answered for each in self.endpoints.values()) - endpoint.answered
            if endpoint.answered != last[0][0]:
                last[0] = (endpoint.answered, elsewhere)
            return elsewhere - last[0][1] > MANY

        await traffic.until(f"{name} is left alone", silent)
        endpoint.scope.cancel()


@pytest.fixture
async def site(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Site]:
    with name_server(tmp_path) as server:
        port = parse_address(free_address()).port
        endpoints = {name: Endpoint(f"127.0.1.{number}:{port}") for number, name in enumerate("abc", start=1)}
        for endpoint in endpoints.values():
            await nursery.start(endpoint.serve)
        yield Site(server, tmp_path, free_address(), endpoints)


def traffic_to(site: Site) -> Traffic:
    listen = parse_address(site.listen)
    return Traffic((listen.host, listen.port), work="/work")


async def test_endpoints_come_and_go_in_dns_under_load_and_no_request_fails(site: Site) -> None:
    site.leads_to("a", "b")
    traffic = traffic_to(site)
    with trio.fail_after(DEADLINE_S), site.running(f"app.{ZONE}:{site.port}") as cluster:
        await cluster.wait_until("everybody serves", cluster.is_whole, START_S)
        async with traffic.flowing():
            await site.serves(cluster, traffic, "a", "b")
            assert site.endpoints["c"].answered == 0
            site.leads_to("a", "b", "c")
            await site.serves(cluster, traffic, "a", "b", "c")
            site.leads_to("b", "c")
            await site.falls_silent(traffic, "a")
            site.server.stop()
            await trio.sleep(2 * AGAIN_S)
            await site.serves(cluster, traffic, "b", "c")
    assert traffic.failures == []


async def test_endpoints_are_found_while_the_controller_stands_still(site: Site) -> None:
    site.leads_to("a")
    traffic = traffic_to(site)
    with trio.fail_after(DEADLINE_S), site.running(f"app.{ZONE}:{site.port}") as cluster:
        await cluster.wait_until("everybody serves", cluster.is_whole, START_S)
        async with traffic.flowing():
            await site.serves(cluster, traffic, "a")
            cluster.process.send_signal(signal.SIGSTOP)
            site.leads_to("b")
            await traffic.until("b answers", lambda: site.endpoints["b"].answered > 0)
            await site.falls_silent(traffic, "a")
    assert traffic.failures == []


async def test_srv_records_bring_weights_and_a_name_server_that_was_away_is_asked_again(site: Site) -> None:
    site.leads_to()
    records = [f"{SERVICE},{name}.{ZONE},{site.port},1,{weight}" for name, weight in (("a", 1), ("b", 9))]
    site.server.start(*records)
    traffic = traffic_to(site)
    with trio.fail_after(DEADLINE_S), site.running(SERVICE) as cluster:
        await cluster.wait_until("everybody serves", cluster.is_whole, START_S)
        async with traffic.flowing():
            await site.serves(cluster, traffic, "a", "b")
            before = [site.endpoints[name].answered for name in "ab"]
            await traffic.until("a has answered often", lambda: site.endpoints["a"].answered >= before[0] + 20)
            given = [site.endpoints[name].answered - count for name, count in zip("ab", before, strict=True)]
            assert 7 <= given[1] / given[0] <= 11
            site.server.stop()
            await trio.sleep(2 * AGAIN_S)
            site.server.start(records[1], f"{SERVICE},c.{ZONE},{site.port},1,1")
            await traffic.until("c answers", lambda: site.endpoints["c"].answered > 0)
            await site.falls_silent(traffic, "a")
    assert traffic.failures == []


async def test_a_pool_whose_name_leads_nowhere_is_told_and_serves_as_soon_as_it_does(site: Site) -> None:
    traffic = traffic_to(site)
    with trio.fail_after(DEADLINE_S), site.running(f"app.{ZONE}:{site.port}") as cluster:
        await cluster.wait_until("everybody serves", cluster.is_whole, START_S)
        await traffic.visit()
        (failure,) = traffic.failures
        assert "app has no member" in failure
        assert "dns_lookup_empty" in cluster.log.read_text()
        site.leads_to("a")
        async with traffic.flowing(kept=1, fresh=0):
            await traffic.until("a answers", lambda: site.endpoints["a"].answered > 3)
