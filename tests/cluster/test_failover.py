"""Two controllers on two hosts share an etcd on a third: whatever happens to the active one, the other goes on where it
was, and clients notice nothing."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from tests.cluster.across import ALL, WEBS, Json, Site, nodes_in, prepare, start
from tests.etcd import ETCD, Member
from tests.hosts import parted, running_network
from tierlb.controller.election import LEASE_MARGIN, RENEW_S, RENEWALS, TTL_S
from tierlb.controller.returning import RETURN_S

DEADLINE_S = 240.0
TAKEOVER_S = 30.0
"""Many times what it takes, for busy machines; what it took is printed."""
WHOLE_S = 60.0
"""Each node has to find out by itself that a host is gone, and to come over."""
SURE_S = TTL_S * (1 - LEASE_MARGIN - 1 / RENEWALS) - RENEW_S
"""What is left at least of a lease that cannot be renewed any more."""
POLL_S = 0.02
CONTROLLERS = ("control", "control2")
ADD_MID = {"verb": "tier-add", "name": "mid", "kind": "l7", "between": ["edge", "web"], "replicas": 2}
MIDS, WITH_MIDS = ("mid1", "mid2"), (*ALL, "mid-1", "mid-2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if ETCD is None:
        pytest.skip("NOT TESTED: etcd is not installed (apt-get install etcd-server)")
    with running_network() as network:
        site = Site(network, tmp_path_factory.mktemp("failover"), CONTROLLERS)
        prepare(site, store=f"etcd://{site.at('etcd', 2379)}/tests")
        start_etcd(site)
        start(site)
        yield site


@pytest.fixture
async def site(place: Site) -> AsyncIterator[Site]:
    """Whole at the beginning of each test, with a second controller on standby."""
    with trio.fail_after(DEADLINE_S):
        for name in CONTROLLERS:
            if not place.host(name).processes:
                place.control(name)
            await place.until_up(name)
        await place.until_whole(*ALL)
        yield place


def start_etcd(site: Site) -> None:
    """It goes on with the data that it had."""
    member = Member("one", site.at("etcd", 2379), site.at("etcd", 2380), site.directory)
    site.host("etcd").run(member.command(f"one=http://{member.peer}"), site.directory / "etcd.log")


async def until_active(site: Site, name: str) -> float:
    """Wait for that controller; when it was."""
    with trio.fail_after(TAKEOVER_S):
        while not await site.is_active(name):  # noqa: ASYNC110 (another process)
            await trio.sleep(POLL_S)
    return trio.current_time()


async def revisions(site: Site) -> list[tuple[int, str, str]]:
    """The history that the active controller tells, oldest first."""
    history = await site.read("/v1/history")
    return sorted((row["number"], row["who"], row["why"]) for row in history["revisions"])


async def over(site: Site) -> Json:
    """The latest change that the active controller knows of, when it is over; {} if it knows of none."""
    while (change := (await site.read("/v1/progress"))["change"]) and change["outcome"] == "running":  # noqa: ASYNC110
        await trio.sleep(POLL_S)
    return dict(change or {})


async def active_revision(site: Site) -> int:
    (number,) = (row["number"] for row in (await site.read("/v1/history"))["revisions"] if row["active"])
    return int(number)


def other_than(active: str) -> str:
    (other,) = set(CONTROLLERS) - {active}
    return other


@pytest.mark.parametrize("when", ["accepted", "done"])
async def test_the_other_one_takes_over_within_seconds_and_knows_all_that_was_accepted(site: Site, when: str) -> None:
    policies, traffic = {"accepted": "round-robin", "done": "two-choices"}, site.traffic()
    async with traffic.flowing():
        active = await site.active()
        number = await site.begin({"verb": "policy", "tier": "web", "policy": policies[when]})
        if when == "done":
            await over(site)
        before = await revisions(site)
        site.host(active).kill_all()
        killed_s = trio.current_time()
        active_s = await until_active(site, other_than(active)) - killed_s
        assert await revisions(site) == before
        assert (await over(site)).get("outcome", "done") == "done"
        assert await active_revision(site) == number
        assert await site.begin({"verb": "policy", "tier": "web", "policy": "load-aware"}) == number + 1
        changed_s = trio.current_time() - killed_s
        await site.until_whole(*ALL)
        whole_s = trio.current_time() - killed_s
        assert (await over(site))["outcome"] == "done"
    print(f"{when}: active after {active_s:.1f} s, changed after {changed_s:.1f}, all nodes there after {whole_s:.1f}")
    assert traffic.failures == []
    assert (await revisions(site))[:-1] == before


@pytest.mark.parametrize("stage", [0, 2])
async def test_a_tier_that_is_being_put_in_is_put_in_by_the_other_one(site: Site, stage: int) -> None:
    """Stage 0: its nodes are started after the kill; 2: traffic moves over to them, which may be over before the kill
    comes. Then the other one finds nothing left to do."""
    traffic = site.traffic()
    async with traffic.flowing():
        active, before = await site.active(), await revisions(site)
        if stage:
            start_mids(site)
        number = await site.begin(ADD_MID)
        while (await site.read("/v1/progress"))["change"]["stage"] < stage:  # noqa: ASYNC110 (asked as clients do)
            await trio.sleep(POLL_S)
        site.host(active).kill_all()
        await until_active(site, other_than(active))
        if not stage:
            start_mids(site)
        change = await over(site)
        if change or not stage:
            assert change["outcome"] == "done", change["lines"]
            assert change["what"] == "what another controller began"
            led_back = [line for line in change["lines"] if line["text"].startswith("stage 1 of")]
            assert bool(led_back) is (stage == 0), "in stage 2 clients are on the way over"
        await site.until_whole(*WITH_MIDS)
        assert await active_revision(site) == number == before[-1][0] + 1
        assert (await site.read("/v1/status"))["tiers"]["edge"]["to"] == ["mid"]
        assert "done: revision" in await site.ask("tier", "remove", "mid")
        for name in MIDS:
            site.host(name).processes.pop().terminate()
        await site.until_whole(*ALL)
    assert traffic.failures == []
    assert (await revisions(site))[:-2] == before


def start_mids(site: Site) -> None:
    for name in MIDS:
        site.serve(name)


async def test_a_tier_that_is_to_grow_grows_under_the_other_one(site: Site) -> None:
    traffic = site.traffic()
    async with traffic.flowing():
        active, before = await site.active(), await revisions(site)
        number = await site.begin({"verb": "scale", "replicas": {"web": 4}})
        site.host(active).kill_all()
        await until_active(site, other_than(active))
        assert await revisions(site) == [*before, (number, "tester", "scale web=4")]
        node = site.serve("web4")
        assert (await over(site))["outcome"] == "done"
        await site.until_whole(*ALL, "web-4")
        await site.ask("scale", "web=3")
        node.terminate()
        await site.until_whole(*ALL)
    assert traffic.failures == []


async def test_one_that_is_cut_off_stops_by_itself_before_another_one_begins(site: Site) -> None:
    traffic = site.traffic()
    async with traffic.flowing():
        active = await site.active()
        other = other_than(active)
        with site.host(active).unplugged():
            unplugged_s, stopped_s = trio.current_time(), 0.0
            with trio.fail_after(TAKEOVER_S):
                while not stopped_s or not await site.is_active(other):
                    first, second = await site.is_active(active), await site.is_active(other)
                    assert not (first and second and await site.is_active(active)), "both at once"
                    stopped_s = stopped_s or (0.0 if first else trio.current_time())
            active_s = trio.current_time() - unplugged_s
            await site.until_whole(*ALL, within_s=WHOLE_S)
            whole_s = trio.current_time() - unplugged_s
            await site.ask("policy", "web=peak-ewma")
        await trio.sleep(1.0)
        assert await site.is_active(other), "one that comes back does not push in"
        assert not await site.is_active(active)
        await site.until_whole(*ALL)
    print(
        f"stopped after {stopped_s - unplugged_s:.1f} s, the other one active after {active_s:.1f}, "
        f"all nodes there after {whole_s:.1f}"
    )
    assert traffic.failures == []


async def test_one_that_finds_only_a_part_of_the_tree_tells_nobody_that_the_rest_is_gone(site: Site) -> None:
    traffic, webs = site.traffic(), [site.host(name) for name in WEBS]
    async with traffic.flowing():
        active = await site.active()
        with parted([site.host(name) for name in CONTROLLERS], webs):
            site.host(active).kill_all()
            await until_active(site, other_than(active))
            await site.until("the edge is back", lambda status: "edge-1" in nodes_in(status))
            await trio.sleep(RETURN_S + 1.0)
            assert set(await site.nodes()) == {"edge-1"}
        await site.until_whole(*ALL)
    assert traffic.failures == []


@pytest.mark.parametrize("away_s", [0.0, 6.0])
async def test_an_etcd_that_restarts_costs_at_most_some_seconds_without_changes(site: Site, away_s: float) -> None:
    traffic = site.traffic()
    async with traffic.flowing():
        before = await revisions(site)
        process, stopped_s = site.host("etcd").processes.pop(), trio.current_time()
        process.terminate()
        await trio.to_thread.run_sync(process.wait)
        still = await site.active()
        assert still or trio.current_time() - stopped_s > SURE_S, "for so long it stays the active one without etcd"
        await trio.sleep(away_s)
        with trio.fail_after(TAKEOVER_S):
            while away_s and await site.active():  # noqa: ASYNC110 (another process)
                await trio.sleep(POLL_S)
        start_etcd(site)
        back_s = trio.current_time()
        with trio.fail_after(TAKEOVER_S):
            while not await site.active():  # noqa: ASYNC110 (other processes)
                await trio.sleep(POLL_S)
        print(f"{away_s:g} s without etcd: active {trio.current_time() - back_s:.1f} s after it was back")
        await site.until_whole(*ALL)
        assert await revisions(site) == before
        await site.ask("policy", "web=least-requests")
        await site.ask("policy", "web=load-aware")
    assert traffic.failures == []
    assert (await revisions(site))[:-2] == before
