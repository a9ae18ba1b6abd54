"""A cluster on several hosts whose network fails in every way that a network fails, under load."""

import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
import trio

from tests.cluster.across import (
    ALL,
    CONTROL,
    INNER,
    POLL_S,
    PUBLIC,
    REPORTS,
    WEBS,
    Json,
    Site,
    prepare,
    running_site,
    start,
)
from tests.cluster.traffic import UNTIL_S
from tests.hosts import Cable, Host, parted, running_network
from tierlb.channel.metrics import KEPT_S
from tierlb.controller.registry import NODE_GONE_S
from tierlb.model.load import REPORT_INTERVAL_S
from tierlb.net.control_stream import VANISHED_S
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, encode_tlv, encode_v2

DEADLINE_S = 180.0
LONG_S = 300.0
EXCHANGE_S = 30.0
FRESH_S = 4 * REPORT_INTERVAL_S
LOOK_EVERY_S = KEPT_S / 4
FAIR = 1 / 3
BACK = FAIR / 2
"""Half of what is fair: chance alone does not go below this in sixty draws."""
GET = b"GET /work HTTP/1.1\r\nHost: hosts\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Future[None]]":
    """What takes more than a minute, in a thread of its own while the other tests run."""
    directories = [tmp_path_factory.mktemp(name) for name in ("controller", "power")]
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(trio.run, away_for_minutes, *directories)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, minutes: "Future[None]") -> Iterator[Site]:
    """A cluster in which children find their parents by a name."""
    with running_network() as network:
        site = Site(network, tmp_path_factory.mktemp("hosts"))
        prepare(site)
        for name in WEBS:
            site.host(name).knows(edge=[site.host("edge").address])
        start(site, control_name=f"edge:{REPORTS}")
        yield site


@pytest.fixture
async def site(place: Site) -> AsyncIterator[Site]:
    """Whole at the beginning of each test."""
    with trio.fail_after(DEADLINE_S):
        await place.until_whole(*ALL)
        yield place


async def exchange(host: Host, address: tuple[str, int], data: bytes) -> bytes:
    """All that is answered to these bytes until the end."""
    answer = b""
    with trio.fail_after(EXCHANGE_S):
        async with await host.dial(*address) as stream:
            await stream.send_all(data)
            try:
                async for part in stream:
                    answer += part
            except trio.BrokenResourceError:
                return answer
    return answer


async def test_the_clients_address_arrives_at_an_endpoint_on_another_host(site: Site) -> None:
    client = site.host("client")
    answer = await exchange(client, (site.host("edge").address, PUBLIC), GET)
    seen = dict(json.loads(answer.partition(b"\r\n\r\n")[2]))
    assert seen["backend"] in ("app1", "app2")
    assert dict(seen["headers"])["x-forwarded-for"] == client.address


FROM = ("192.0.2.1", 1234)
STRANGERS = {
    "plain HTTP": GET,
    "a PROXY header": encode_v2(FROM, FROM) + GET,
    "a PROXY header that names a parent": encode_v2(FROM, FROM, encode_tlv(PARENT, b"edge-1")) + GET,
    "a wrong key": encode_v2(FROM, FROM, encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"0" * 32)) + GET,
}


@pytest.mark.parametrize("what", STRANGERS)
async def test_an_inner_port_that_is_open_to_the_network_refuses_strangers(site: Site, what: str) -> None:
    assert await exchange(site.host("client"), (site.host("web1").address, INNER), STRANGERS[what]) == b""


@pytest.mark.parametrize(("name", "port"), [("control", CONTROL), ("edge", REPORTS)])
async def test_nobody_joins_without_the_token(site: Site, name: str, port: int) -> None:
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: hosts\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: tierlb.v1\r\n"
        b"Authorization: Bearer guessed\r\n\r\n"
    )
    answer = await exchange(site.host("client"), (site.host(name).address, port), upgrade)
    assert answer.startswith(b"HTTP/1.1 401 ")


@attrs.define
class Watch:
    """What the edge does with web-1 once it has noticed that it is gone: no client may wait on a connect to it."""

    site: Site
    under_way: list[float] = attrs.field(factory=list)

    async def until_noticed(self) -> None:
        """Wait until the edge would not choose it."""
        with trio.fail_after(UNTIL_S):
            while (await self.site.figures("edge", "available")).get("web-1"):  # noqa: ASYNC110 (another process)
                await trio.sleep(LOOK_EVERY_S)

    async def run(self) -> None:
        """Note what it has under way there, connects included and probes not, for ever. A connect without an answer
        lasts for two seconds (the topology's usual timeout) and a page is kept for one, so it is seen."""
        while True:
            self.under_way.append((await self.site.figures("edge", "in_flight")).get("web-1", 0.0))
            await trio.sleep(LOOK_EVERY_S)

    @property
    def grown(self) -> bool:
        """Whether it was given anything since."""
        return any(later > before for before, later in pairwise(self.under_way))


CUTS = {
    "both ways": lambda edge, web: parted([edge], [web]),
    "the edge does not hear the node": lambda edge, web: edge.deaf_to(web),
    "the node does not hear the edge": lambda edge, web: web.deaf_to(edge),
}


@pytest.mark.parametrize("how", CUTS)
async def test_a_node_cut_off_from_the_edge_alone_fails_only_what_it_had(site: Site, how: str) -> None:
    traffic = site.traffic()
    async with traffic.flowing(kept=6, fresh=4):
        await traffic.until_used("web-1")
        with CUTS[how](site.host("edge"), site.host("web1")):
            exposed, watch = traffic.excuse("web-1"), Watch(site)
            await watch.until_noticed()
            noticed_s = trio.current_time()
            async with trio.open_nursery() as watching:
                watching.start_soon(watch.run)
                await traffic.until("60 more", lambda: traffic.reached(noticed_s).total() >= 60)
                await trio.sleep(2 * KEPT_S)
                watching.cancel_scope.cancel()
            assert traffic.reached(noticed_s)["web-1"] == 0
            assert not watch.grown, watch.under_way
            assert (await site.nodes())["web-1"]["connected"], "the controller hears it as before"
        await traffic.until_used("web-1")
    print(f"{how}: {len(traffic.requests)} requests, {traffic.excused} of {exposed} connections to it failed")
    assert traffic.failures == []


async def test_a_node_cut_off_from_the_controller_alone_goes_on_and_a_change_waits_for_it(
    site: Site, nursery: trio.Nursery
) -> None:
    traffic = site.traffic()
    said: list[str] = []

    async def change() -> None:
        said.append(await site.ask("policy", "web=round-robin"))

    before = max(revisions(await site.read("/v1/status")))
    async with traffic.flowing():
        with parted([site.host("control")], [site.host("web1")]):
            nursery.start_soon(change)
            while (await site.read("/v1/progress"))["change"] is None:  # noqa: ASYNC110 (asked as clients do)
                await trio.sleep(POLL_S)
            await site.until("the others serve it", lambda status: min(revisions(status, "web-1")) > before)
            await traffic.until_used("web-1")
            assert (await site.read("/v1/progress"))["change"]["outcome"] == "running"
            assert said == []
        await site.until("all serve it", lambda status: min(revisions(status)) > before)
        await traffic.until("the change is done", lambda: said != [])
    assert "done: revision 2" in said[0]
    assert traffic.failures == []


def revisions(status: Json, but: str = "") -> set[int]:
    """What the l7 nodes serve."""
    return {node["revision"] for node in status["tiers"]["web"]["nodes"] if node["name"] != but}


async def test_over_a_long_and_bad_cable_to_one_node_nothing_fails_and_the_near_ones_are_preferred(site: Site) -> None:
    traffic, cable = site.traffic(), Cable(0.05, 0.01, 0.01)
    silences = site.logged("host_silent", host="web-1")
    async with site.network.far(site.host("web1"), cable), traffic.flowing(kept=2, fresh=6):
        since_s = trio.current_time()
        await traffic.until("500 connections", lambda: traffic.reached(since_s).total() >= 500)
        await traffic.until("the far one is not forgotten", lambda: traffic.reached(since_s)["web-1"] > 0)
        seen = traffic.reached(since_s)
    print(f"{len(traffic.requests)} requests, {seen}, of {cable.carried} frames {cable.lost} were lost")
    assert traffic.failures == []
    assert cable.lost > 0
    assert min(seen["web-2"], seen["web-3"]) > seen["web-1"]
    assert site.logged("host_silent", host="web-1") == silences


async def test_over_a_long_and_bad_cable_to_the_edge_nothing_fails_and_all_have_their_share(site: Site) -> None:
    traffic, cable = site.traffic(), Cable(0.05, 0.01, 0.01)
    silences = site.logged("host_silent", node="edge-1")
    async with site.network.far(site.host("edge"), cable), traffic.flowing(kept=4, fresh=12):
        for name in ("web-1", "web-2", "web-3"):
            await traffic.until_share(name, BACK)
        await until_fresh(site, "edge")
    print(f"{len(traffic.requests)} requests, {traffic.reached(0)}, of {cable.carried} frames {cable.lost} were lost")
    assert traffic.failures == []
    assert cable.lost > 0
    assert site.logged("host_silent", node="edge-1") == silences


async def test_parents_that_come_to_a_name_are_reported_to_until_they_go(site: Site) -> None:
    edge2, both = site.serve("edge2", control_name=f"edge:{REPORTS}"), [site.host("edge"), site.host("edge2")]
    await site.until_whole(*ALL, "edge-2")
    assert await late(site, "edge2", 0.0) == set()
    traffic = site.traffic("edge2")
    async with traffic.flowing():
        for name in WEBS:
            site.host(name).knows(edge=[host.address for host in both])
        await traffic.until_used("web-1")
        await until_late(site, "edge2", 0.0)
        await until_fresh(site, "edge2")
        for name in WEBS:
            site.host(name).knows(edge=[both[0].address])
        await until_late(site, "edge2", FRESH_S)
        await traffic.until_used("web-1")
    assert traffic.failures == []
    await until_fresh(site, "edge")
    edge2.terminate()
    await site.until_whole(*ALL)


async def late(site: Site, name: str, by_s: float) -> set[str]:
    """Of whom the node on that host has a report, but none that is younger than this."""
    return {host for host, age_s in (await site.figures(name, "report_age_seconds")).items() if age_s >= by_s}


async def until_late(site: Site, name: str, by_s: float) -> None:
    """Wait until all of them are."""
    while await late(site, name, by_s) != {"web-1", "web-2", "web-3"}:  # noqa: ASYNC110 (asked anew each time)
        await trio.sleep(0.1)


async def until_fresh(site: Site, name: str) -> None:
    """Wait until all reports are as young as those that come as often as they should."""
    while await late(site, name, FRESH_S):  # noqa: ASYNC110 (asked anew each time)
        await trio.sleep(0.1)


def test_a_controller_and_a_node_that_are_away_for_a_minute_harm_nobody(minutes: "Future[None]") -> None:
    minutes.result()


async def away_for_minutes(one: Path, two: Path) -> None:
    """Two clusters at once: nobody is believed to be gone sooner."""
    with trio.fail_after(LONG_S):
        async with running_site(one) as first, running_site(two) as second, trio.open_nursery() as nursery:
            nursery.start_soon(controller_is_away, first)
            nursery.start_soon(host_loses_power, second)


AWAY_S = VANISHED_S + NODE_GONE_S + 5.0


async def controller_is_away(site: Site) -> None:
    """For so long that it has seen each node go for longer than a node may be away."""
    traffic, before = site.traffic(), await site.nodes()
    async with traffic.flowing(kept=2, fresh=2):
        with site.host("control").unplugged():
            await trio.sleep(AWAY_S)
            alone = await site.nodes()
            assert [name for name, node in alone.items() if node["connected"]] == []
            assert set(alone) == set(ALL), "it is rather the controller that is cut off"
        since_s = trio.current_time()
        after = await site.until_whole(*ALL)
        print(f"the tree was complete again {trio.current_time() - since_s:.1f} s after the controller was back")
        await traffic.until_used("web-1")
    assert traffic.failures == []
    told = {name: (node["pid"], node["revision"]) for name, node in before.items()}
    assert {name: (node["pid"], node["revision"]) for name, node in after.items()} == told, "nobody was told anything"


async def host_loses_power(site: Site) -> None:
    traffic, web = site.traffic(), site.host("web1")
    async with traffic.flowing(kept=4, fresh=8):
        await traffic.until_used("web-1")
        web.unplug()
        web.kill_all()
        exposed, died_s, watch = traffic.excuse("web-1"), trio.current_time(), Watch(site)
        site.serve("web4")
        await watch.until_noticed()
        noticed_s = trio.current_time()
        print(f"{noticed_s - died_s:.1f} s after it died the edge had noticed")
        async with trio.open_nursery() as watching:
            watching.start_soon(watch.run)
            await traffic.until_used("web-4")
            await site.until_whole("edge-1", "web-2", "web-3", "web-4", within_s=2 * AWAY_S)
            watching.cancel_scope.cancel()
        print(f"{trio.current_time() - died_s:.1f} s after it died the node had left")
        assert traffic.reached(noticed_s)["web-1"] == 0
        assert not watch.grown, watch.under_way
    print(f"{len(traffic.requests)} requests, {traffic.excused} of {exposed} connections to it failed")
    assert traffic.failures == []
