"""Health checks and agents of hosts: what a snapshot asks for, and what comes of it, against real sockets."""

import random
from functools import partial
from typing import Any

import attrs
import trio

from tests.dataplane.conftest import AGENT_INTERVAL_S, Lab, Log, l7
from tests.dataplane.named_endpoints import NamedEndpoint, serving_endpoint
from tests.dataplane.registries import Harness, host_spec
from tierlb.dataplane.host_checks import HostChecks
from tierlb.dataplane.upstream.host import Host
from tierlb.model.snapshot import HostSpec, PoolSettings, Snapshot
from tierlb.model.topology import Admin, HealthCheck
from tierlb.net.door import raise_it
from tierlb.wire.agent_check import parse_reply

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def checks_of(log: Log) -> HostChecks:
    return HostChecks("web-1", random.Random(1), log, raise_it)


# What agents say.


def test_an_odd_word_is_told_once_and_again_when_the_configuration_has_changed() -> None:
    pools = (PoolSettings("app", agent_check_port=1),)
    log, harness = Log(), Harness()
    checks = checks_of(log)
    host_set = harness.host_set("a")
    (host,) = host_set.hosts
    checks.apply(host_set.hosts, l7(pools=pools))
    for line in (b"bogus 50%", b"bogus 50%", b"up", b"bogus", b"other"):
        checks.agents.on_word(host, parse_reply(line + b"\n"))
    assert [fields["word"] for _, fields in log.events] == ["bogus", "bogus", "other"]
    checks.apply(host_set.hosts, l7(pools=pools))
    checks.agents.on_word(host, parse_reply(b"other\n"))
    assert len(log.events) == 4
    assert host.weight == 0.5


def test_without_an_agent_check_no_agents_word_holds() -> None:
    pools = (PoolSettings("app", agent_check_port=1),)
    harness, checks = Harness(), checks_of(Log())

    def serves(*endpoints: str | HostSpec, pools: tuple[PoolSettings, ...] = pools) -> Host:
        hosts = harness.host_set(*endpoints).hosts
        checks.apply(hosts, l7(pools=pools))
        return hosts[0]

    a = serves("a", "b")
    a.agent_replied(parse_reply(b"down\n"))
    serves("a", "b")
    assert a.availability.value == "unhealthy"
    serves(host_spec("a", admin=Admin.MAINTENANCE), "b")
    serves("a", "b")
    assert a.availability.value == "unhealthy", "maintenance takes back nothing that was said before"
    serves("a", "b", pools=(PoolSettings("app", HealthCheck()),))
    assert a.availability.value == "available"


# Checks and agents for real.


def checked(*endpoints: NamedEndpoint, path: str | None = "/up", **options: Any) -> Snapshot:
    health = HealthCheck(path, interval_s=0.02, timeout_s=2.0, healthy=1, unhealthy=1)
    return l7(*(each.played for each in endpoints), pools=(PoolSettings("app", health),), **options)


def states(lab: Lab) -> list[str]:
    return [load.availability for load in lab.plane.load().hosts]


async def test_checks_take_an_endpoint_out_and_bring_it_back(lab: Lab) -> None:
    a, b = await serving_endpoint(lab, b"a"), await serving_endpoint(lab, b"b")
    await lab.serves(checked(a, b))
    client = await lab.connects()
    assert {(await client.asks(GET)).body for _ in range(4)} == {b"a", b"b"}
    a.status = 503
    await lab.until(lambda: states(lab) == ["unhealthy", "available"])
    assert {(await client.asks(GET)).body for _ in range(4)} == {b"b"}
    a.status = 200
    await lab.until(lambda: states(lab) == ["available", "available"])
    assert {(await client.asks(GET)).body for _ in range(4)} == {b"a", b"b"}
    assert (lab.log.count("host_unhealthy"), lab.log.count("host_restored")) == (1, 1)


async def test_why_a_check_failed_is_logged_and_told_until_it_passes(lab: Lab) -> None:
    a, b = await serving_endpoint(lab, b"a"), NamedEndpoint(await lab.nobody(), b"b")
    await lab.serves(checked(a, b))

    def problems() -> list[str]:
        return [load.problem for load in lab.plane.load().hosts]

    await lab.until(lambda: problems() == ["", "connection refused"])
    a.status = 503
    await lab.until(lambda: problems() == ["answered 503, expected 200-399", "connection refused"])
    a.status = 200
    await lab.until(lambda: problems() == ["", "connection refused"])
    assert [(each, told) for each, told in lab.log.events if each.startswith("health_checks")] == [
        ("health_checks_failed", {"host": b.played.spec.name, "reason": "connection refused"}),
        ("health_checks_failed", {"host": a.played.spec.name, "reason": "answered 503, expected 200-399"}),
        ("health_checks_passed", {"host": a.played.spec.name, "reason": "answered 200"}),
    ]


def test_where_nothing_is_wrong_rows_are_passed_on_as_they_are() -> None:
    harness = Harness()
    harness.host_set("a", "b")
    loads = tuple(harness.registry.loads())
    told = checks_of(Log()).with_problems(loads)
    assert len(told) == 2
    assert all(one is other for one, other in zip(told, loads, strict=True))


async def test_an_endpoint_that_refuses_checks_is_out_before_any_client_meets_it(lab: Lab) -> None:
    a, b = await serving_endpoint(lab, b"a"), NamedEndpoint(await lab.nobody(), b"b")
    await lab.serves(checked(a, b, path=None))
    await lab.until(lambda: states(lab) == ["available", "unhealthy"])
    assert lab.plane.load().hosts[1].failed == 0


async def test_when_checks_fail_everywhere_they_are_not_believed(lab: Lab) -> None:
    a, b = await serving_endpoint(lab, b"a"), await serving_endpoint(lab, b"b")
    await lab.serves(checked(a, b))
    a.status = b.status = 500
    await lab.until(lambda: states(lab) == ["unhealthy", "unhealthy"])
    client = await lab.connects()
    assert {(await client.asks(GET)).body for _ in range(4)} == {b"a", b"b"}


async def test_without_checks_nobody_stays_unhealthy(lab: Lab) -> None:
    a, b = await serving_endpoint(lab, b"a"), await serving_endpoint(lab, b"b")
    await lab.serves(checked(a, b))
    a.status = 500
    await lab.until(lambda: states(lab) == ["unhealthy", "available"])
    lab.plane.apply(l7(a.played, b.played, revision=2))
    assert states(lab) == ["available", "available"]


async def test_a_member_in_maintenance_is_asked_nothing(lab: Lab) -> None:
    resting = await lab.endpoint(admin=Admin.MAINTENANCE)
    other = await serving_endpoint(lab, b"b")
    port = resting.address.port
    health = HealthCheck("/up", interval_s=0.02)
    await lab.serves(l7(resting, pools=(PoolSettings("app", health, agent_check_port=port),)))
    await resting.is_left_alone()
    lab.plane.apply(checked(NamedEndpoint(resting, b""), other, revision=2))
    await lab.until(lambda: other.checks >= 2)
    await resting.is_left_alone()


@attrs.define
class Agent:
    """Sends its line to every connection."""

    line: bytes
    heard: list[bytes] = attrs.field(factory=list)

    async def answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(self.line)
            await stream.send_eof()
            self.heard.append(await stream.receive_some())

    async def listen(self, lab: Lab) -> PoolSettings:
        listeners = await lab.background.start(partial(trio.serve_tcp, self.answer, 0, host="127.0.0.1"))
        return PoolSettings("app", agent_check_port=listeners[0].socket.getsockname()[1])


async def test_an_agents_word_takes_effect(lab: Lab) -> None:
    agent = Agent(b"up ready\n")
    served = await serving_endpoint(lab, b"a")
    await lab.serves(l7(served.played, pools=(await agent.listen(lab),)))
    client = await lab.connects()
    for line, state, status in [
        (b"up ready\n", "available", 200),
        (b"drain\n", "draining", 503),
        (b"ready\n", "available", 200),
        (b"maint\n", "maintenance", 503),
        (b"ready 0%\n", "weight 0", 503),
        (b"50% maxconn:3\n", "available", 200),
        (b"down\n", "unhealthy", 200),  # the only endpoint: an agent cannot take it out of use
    ]:
        agent.line = line
        await lab.until(lambda state=state: states(lab) == [state])
        assert (await client.asks(GET)).status == status
    host = lab.host(served.played)
    assert (host.weight, host.estimate.slots.value) == (0.5, 3.0)
    assert set(agent.heard) == {b"node-1\n"}


async def test_an_agent_that_is_not_asked_any_more_changes_nothing(lab: Lab) -> None:
    agent = Agent(b"drain\n")
    served = await serving_endpoint(lab, b"a")
    await lab.serves(l7(served.played, pools=(await agent.listen(lab),)))
    await lab.until(lambda: states(lab) == ["draining"])
    lab.plane.apply(l7(served.played, revision=2))
    assert states(lab) == ["available"]
    await trio.sleep(2 * AGENT_INTERVAL_S)
    assert states(lab) == ["available"]
