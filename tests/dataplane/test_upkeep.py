"""What a node does beside its traffic: ticks in time that the test passes; checks and agents against real sockets."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from tests.dataplane.conftest import AGENT_INTERVAL_S, DEADLINE_S, FakeEndpoint, Lab, Log, l7
from tests.dataplane.registries import Harness, host_spec
from tierlb.balance.guidance import NO_GUIDANCE
from tierlb.dataplane import upkeep as upkeep_module
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.upkeep import GUIDANCE_FOR_S, SAY_EVERY_S, Upkeep
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.address import Address
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import HostSpec, PoolSettings, Snapshot
from tierlb.model.topology import Admin, HealthCheck, Orca
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch
from tierlb.wire.agent_check import AGENT_NOTICE_S, parse_reply
from tierlb.wire.orca import ORCA_RESPONSE_FIELD, OrcaBook, OrcaReport

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@attrs.define
class Front:
    """Notes what it is to heed."""

    registry: HostRegistry
    name: str = "web-1"
    counters: Counters = attrs.field(factory=Counters)
    latencies: Sketch = attrs.field(factory=Sketch)
    draining: bool = False
    explaining: Explaining = attrs.field(factory=Explaining)
    load_field: bytes = b""
    heeded: list[tuple[SubtreeLoad, Guidance]] = attrs.field(factory=list)
    moved_at: float = 0.0

    def heed(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        self.heeded.append((load, guidance))

    def move(self, now: float) -> None:
        self.moved_at = now


class Kept(Harness):
    """Upkeep of a front that this test plays."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.errors = InternalErrors(self.log)
        self.front = Front(self.registry)
        self.upkeep = Upkeep(self.front, self.reactor, random.Random(1), self.log, self.errors)

    def serves(self, *endpoints: str | HostSpec, **options: Any) -> None:
        self.host_set(*endpoints)
        self.upkeep.apply(l7(**options))

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.pass_time(0.05)
            self.upkeep.tick(self.reactor.now)


@pytest.fixture
def kept() -> Kept:
    return Kept()


# What parents say.


def guided(kept: Kept) -> Guidance:
    """What the front heard last."""
    kept.passes(SAY_EVERY_S + 0.05)
    return kept.front.heeded[-1][1]


def test_without_parents_nothing_moves(kept: Kept) -> None:
    kept.serves("a")
    assert guided(kept) == NO_GUIDANCE


def test_what_parents_say_is_heeded_together_until_they_fall_silent(kept: Kept) -> None:
    kept.serves("a")
    kept.upkeep.heed(kept.reactor.now, "edge-1", Guidance(0.2, all_hot=True))
    kept.upkeep.heed(kept.reactor.now, "edge-2", Guidance(0.3))
    kept.upkeep.heed(kept.reactor.now, "edge-2", Guidance(0.6))
    assert guided(kept) == Guidance(pytest.approx(0.4), all_hot=False)
    kept.passes(GUIDANCE_FOR_S / 2)
    kept.upkeep.heed(kept.reactor.now, "edge-1", Guidance(0.2, all_hot=True))
    kept.passes(GUIDANCE_FOR_S / 2)
    assert guided(kept) == Guidance(pytest.approx(0.2), all_hot=True)
    kept.passes(GUIDANCE_FOR_S)
    assert guided(kept) == NO_GUIDANCE


def test_the_load_is_worked_out_a_few_times_a_second(kept: Kept) -> None:
    kept.serves("a")
    for _ in range(8):
        kept.front.counters.tallies.of("edge-1").arrivals += 1
        kept.passes(SAY_EVERY_S)
    assert 6 <= len({load.arrivals for load, _ in kept.front.heeded}) <= 9


def test_the_front_hears_at_once_that_answers_take_longer(kept: Kept) -> None:
    kept.serves("a")
    kept.passes(1.1)
    heard = len(kept.front.heeded)
    for _ in range(6):
        kept.registry.kinds.heads.count += 10
        kept.registry.kinds.heads.seconds += 5.0
        kept.registry.kinds.heads.usual_s += 1.0
        kept.registry.kinds.heads.ratios += 60.0
        kept.passes(0.05)
    load, _ = kept.front.heeded[-1]
    assert (len(kept.front.heeded) - heard, load.response_s) == (6, pytest.approx(0.6))


def test_a_draining_front_is_said_to_drain(kept: Kept) -> None:
    kept.serves("a")
    kept.front.draining = True
    assert kept.upkeep.subtree(kept.reactor.now).draining


def test_members_are_learnt_about_at_every_tick(kept: Kept) -> None:
    kept.serves("a")
    (host,) = kept.registry.hosts
    kept.serve(host, 20, 0.01)
    kept.upkeep.tick(kept.reactor.now)
    assert host.capacity == pytest.approx(800, rel=0.1)
    assert kept.upkeep.subtree(kept.reactor.now).capacity == pytest.approx(800, rel=0.1)


# Its own word to whoever reads ORCA.


def busy_for(kept: Kept, seconds: float) -> None:
    """A hundred requests a second of ten milliseconds each; every tenth is an error."""
    (host,) = kept.registry.hosts
    tally = kept.front.counters.tallies.outside
    for number in range(round(seconds * 20)):
        kept.serve(host, 5, 0.01)
        tally.done += 5
        kept.front.counters.errors += number % 2
        kept.upkeep.tick(kept.reactor.now)


@pytest.mark.parametrize("form", Orca)
def test_its_load_is_said_in_the_form_that_the_snapshot_names(kept: Kept, form: Orca) -> None:
    kept.serves("a", orca=form)
    busy_for(kept, 2.5)
    name, _, value = kept.front.load_field.partition(b": ")
    assert name == ORCA_RESPONSE_FIELD
    assert value.startswith(form.value.upper().encode())
    assert value.endswith(b"\r\n")
    report = OrcaBook().read(value.strip())
    assert report is not None
    assert report.rps == pytest.approx(100, rel=0.1)
    assert report.eps == pytest.approx(10, rel=0.2)
    assert report.rps / report.busy == pytest.approx(kept.upkeep.subtree(kept.reactor.now).capacity, rel=0.1)


def test_nothing_is_said_of_load_unless_the_snapshot_says_so(kept: Kept) -> None:
    kept.serves("a")
    busy_for(kept, 2.5)
    assert kept.front.load_field == b""
    kept.serves("a", orca=Orca.TEXT)
    kept.passes(SAY_EVERY_S + 0.05)
    assert kept.front.load_field
    kept.serves("a")
    kept.passes(SAY_EVERY_S + 0.05)
    assert kept.front.load_field == b""


@pytest.mark.parametrize("form", Orca)
def test_an_idle_node_says_nothing_rather_than_an_empty_report(kept: Kept, form: Orca) -> None:
    kept.serves("a", orca=form)
    kept.passes(0.5)
    read = OrcaBook().read(kept.front.load_field.partition(b": ")[2].strip()) if kept.front.load_field else OrcaReport()
    assert read is not None


# What agents say.


def test_an_odd_word_is_told_once_and_again_when_the_configuration_has_changed(kept: Kept) -> None:
    pools = (PoolSettings("app", agent_check_port=1),)
    kept.serves("a", pools=pools)
    (host,) = kept.registry.hosts
    for line in (b"bogus 50%", b"bogus 50%", b"up", b"bogus", b"other"):
        kept.upkeep.agent_says(host, parse_reply(line + b"\n"))
    assert [fields["word"] for _, fields in kept.log.events] == ["bogus", "bogus", "other"]
    kept.serves("a", pools=pools)
    kept.upkeep.agent_says(host, parse_reply(b"other\n"))
    assert len(kept.log.events) == 4
    assert host.weight == 0.5


def test_without_an_agent_check_no_agents_word_holds(kept: Kept) -> None:
    pools = (PoolSettings("app", agent_check_port=1),)
    kept.serves("a", "b", pools=pools)
    a, _ = kept.registry.hosts
    a.agent_says(parse_reply(b"down\n"))
    kept.serves("a", "b", pools=pools)
    assert a.availability.value == "unhealthy"
    kept.serves(host_spec("a", admin=Admin.MAINTENANCE), "b", pools=pools)
    kept.serves("a", "b", pools=pools)
    assert a.availability.value == "unhealthy", "maintenance takes back nothing that was said before"
    kept.serves("a", "b", pools=(PoolSettings("app", HealthCheck()),))
    assert a.availability.value == "available"


# Checks and agents for real.


@attrs.define(eq=False)
class Endpoint:
    """Answers checks with `status` and everything else with its name."""

    played: FakeEndpoint
    name: bytes
    status: int = 200
    checks: int = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                sock, _ = await self.played.sock.accept()
                nursery.start_soon(self._converse, trio.SocketStream(sock))

    async def _converse(self, stream: trio.SocketStream) -> None:
        async with stream:
            while head := await stream.receive_some(4096):
                checking = head.startswith(b"GET /up ")
                self.checks += checking
                said = (self.status, len(self.name), self.name)
                await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % said)
                if checking:
                    return


async def serving_endpoint(lab: Lab, name: bytes, **says: Any) -> Endpoint:
    made = Endpoint(await lab.endpoint(**says), name)
    lab.background.start_soon(made.run)
    return made


def checked(*endpoints: Endpoint, path: str | None = "/up", **options: Any) -> Snapshot:
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
    a, b = await serving_endpoint(lab, b"a"), Endpoint(await lab.nobody(), b"b")
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


def test_where_nothing_is_wrong_members_are_passed_on_as_they_are(kept: Kept) -> None:
    kept.serves("a", "b")
    loads = tuple(kept.registry.loads())
    told = kept.upkeep.told(loads)
    assert len(told) == 2
    assert all(one is other for one, other in zip(told, loads, strict=True))


async def test_an_endpoint_that_refuses_checks_is_out_before_any_client_meets_it(lab: Lab) -> None:
    a, b = await serving_endpoint(lab, b"a"), Endpoint(await lab.nobody(), b"b")
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
    lab.plane.apply(checked(Endpoint(resting, b""), other, revision=2))
    await lab.until(lambda: other.checks >= 2)
    await resting.is_left_alone()


@attrs.define
class Agent:
    """Says its line to whoever asks."""

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
        (b"down\n", "unhealthy", 200),  # the only one: who says that nobody works is not believed
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


# Being asked.


async def ask(address: Address) -> bytes:
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*address.sockaddr) as stream:
            return b"".join([chunk async for chunk in stream])


async def answers(address: Address) -> bool:
    try:
        return bool(await ask(address))
    except OSError:
        return False


async def goes_down(address: Address) -> None:
    with trio.fail_after(DEADLINE_S):
        while await answers(address):  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)


async def comes_up(address: Address) -> None:
    with trio.fail_after(DEADLINE_S):
        while not await answers(address):  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)


@contextmanager
def reserved() -> Iterator[Address]:
    """A free port of which nobody else takes possession, nor meets himself there: bound, but nobody listens."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield Address(*sock.getsockname())


async def test_a_port_for_agent_checks_that_is_taken_is_said_and_tried_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_module, "LISTEN_AGAIN_S", 0.01)
    served = await serving_endpoint(lab, b"a")
    with reserved() as address:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address.sockaddr)
            taken.listen()
            await lab.serves(l7(served.played, agent_check=address))
            await lab.until(lambda: lab.log.count("agent_check_listen_failed") >= 2)
            fields = lab.log.events[-1][1]
            assert (fields["address"], fields["reason"]) == (str(address), "Address already in use")
            assert (await (await lab.connects()).asks(GET)).body == b"a", "the traffic does not suffer"
        await comes_up(address)
        assert await ask(address) == b"ready up 100%\n"


async def test_a_node_answers_agent_checks_where_the_snapshot_says(lab: Lab) -> None:
    served = await serving_endpoint(lab, b"a")
    with reserved() as first, reserved() as second:
        await lab.serves(l7(served.played, agent_check=first))
        await comes_up(first)
        lab.plane.apply(l7(served.played, agent_check=second, revision=2))
        await comes_up(second)
        assert not await answers(first)
        lab.plane.apply(l7(served.played, revision=3))
        await goes_down(second)


async def test_agent_checks_are_told_what_holds(lab: Lab) -> None:
    served = await serving_endpoint(lab, b"a")
    with reserved() as address:
        await lab.serves(l7(served.played, agent_check=address))
        await comes_up(address)
        lab.host(served.played).checked(False)
        assert await ask(address) == b"ready down 100% #nothing below is ready\n"
        client = await lab.connects()
        await client.says(GET[:-4])
        await lab.until(lambda: any(each.in_head for each in lab.front.clients))
        lab.plane.drain()
        assert await ask(address) == b"drain 100%\n"


async def test_who_asks_hears_of_a_drain_before_it_begins(lab: Lab) -> None:
    served = await serving_endpoint(lab, b"a")
    with reserved() as address:
        await lab.serves(l7(served.played, agent_check=address))
        assert lab.upkeep.announce_drain(lab.plane.reactor.look()) == 0, "nobody has asked"
        await comes_up(address)
        assert lab.plane.announce_drain() == AGENT_NOTICE_S
        assert await ask(address) == b"drain 100%\n"
        assert lab.plane.subtree().draining
        client = await lab.connects()
        await client.says(GET)
        assert (await client.hears_message()).status == 200


# Errors of our own.


@pytest.mark.parametrize("part", ["tick", "learn", "settle_in_turn", "sample", "heed"])
def test_a_tick_of_which_a_part_fails_does_the_rest(kept: Kept, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.serves("a", "b")
    first, second = kept.registry.hosts
    owner = {"tick": kept.registry, "learn": first, "settle_in_turn": kept.registry.host_sets[0]}
    owner |= {"sample": kept.upkeep.account, "heed": kept.front}
    monkeypatch.setattr(type(owner[part]), part, once_failing(getattr(type(owner[part]), part)))
    learnt: list[object] = []
    monkeypatch.setattr(type(second.estimate), "advance", lambda estimate, *_, **__: learnt.append(estimate))
    kept.passes(2 * SAY_EVERY_S)
    assert second.estimate in learnt
    assert kept.errors.counts == {"tick": 1}
    assert len(kept.front.heeded) >= 1
    (logged,) = [fields for event, fields in kept.log.events if event == "internal_error"]
    assert isinstance(logged["exc_info"], ValueError)


def once_failing(method: Any) -> Any:
    """The method, whose first call fails."""
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return method(*args, **options)

    return failing
