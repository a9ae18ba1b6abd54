"""One client's datagrams to one host: what passes, how a session ends, and what becomes of it when its host fails."""

import errno
from typing import Any

import attrs
import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, Clock, Lab
from tests.dataplane.l4.datagrams import UdpEndpoint, UdpLab, udp
from tierlb.dataplane.l4.udp_session import LOST_AFTER_S, SILENT_AFTER_S
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.topology import DRAIN_S, Admin, Timeouts

PATIENT = Timeouts(*[1000.0] * 5)
LARGEST = 65_507
"""What IPv4 has room for."""


@pytest.mark.parametrize("size", [0, 1, 1400, LARGEST])
async def test_datagrams_of_any_size_pass_whole(lab: Lab, field: UdpLab, size: int) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    sent = bytes(range(256)) * (size // 256 + 1)
    await client.says(sent[:size], lab.at)
    heard, source = await endpoint.hears()
    assert heard == sent[:size]
    await endpoint.says(heard, source)
    assert (await client.hears())[0] == heard


async def test_many_datagrams_at_once_all_pass_in_their_order(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    many = [f"{number}".encode() for number in range(150)]
    for data in many:
        await client.says(data, lab.at)
    heard = [await endpoint.hears() for _ in many]
    assert [data for data, _ in heard] == many
    for data in many:
        await endpoint.says(data, heard[0][1])
    assert [(await client.hears())[0] for _ in many] == many


async def test_what_others_send_to_a_sessions_socket_does_not_pass(lab: Lab, field: UdpLab) -> None:
    endpoint, client, stranger = await field.endpoint(), await field.client(), await field.client()
    await field.serves(endpoint)
    await client.says(b"1", lab.at)
    _, source = await endpoint.hears()
    await stranger.says(b"forged", source)
    await endpoint.says(b"2", source)
    assert (await client.hears())[0] == b"2"
    await client.hears_nothing()


async def gone(field: UdpLab) -> UdpEndpoint:
    """An endpoint where nothing listens."""
    endpoint = await field.endpoint()
    endpoint.sock.close()
    return endpoint


async def test_a_first_datagram_that_is_refused_goes_to_another_host(lab: Lab, field: UdpLab) -> None:
    endpoint = await field.endpoint()
    await field.serves(await gone(field), await gone(field), endpoint)
    for number in range(3):
        client = await field.client()
        await client.says(b"hello", lab.at)
        heard, source = await endpoint.hears()
        await endpoint.says(b"re: hello", source)
        assert (heard, (await client.hears())[0]) == (b"hello", b"re: hello"), number
    load = lab.plane.load()
    assert (load.connections, load.items, load.errors) == (3, 3, 0)
    assert [host.failed > 0 for host in load.hosts] == [True, True, False]
    assert [host.availability for host in load.hosts] == ["ejected", "ejected", "available"]


async def test_where_no_host_is_the_datagram_is_dropped_and_the_client_counted_no_more(lab: Lab, field: UdpLab) -> None:
    client = await field.client()
    await field.serves(*[await gone(field) for _ in range(4)])
    await client.says(b"hello", lab.at)
    await lab.until(lambda: lab.log.count("session_dropped"))
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items, load.errors) == (0, 0, 1, 1)
    assert [host.in_flight for host in load.hosts] == [0] * 4


async def placed(lab: Lab, field: UdpLab, *endpoints: UdpEndpoint, **options: Any) -> tuple[Any, UdpEndpoint, Any]:
    """A client whose session is at the first of the endpoints: the client, the endpoint, where that is called from."""
    client = await field.client()
    await field.serves(endpoints[0], **options)
    await client.says(b"1", lab.at)
    _, source = await endpoints[0].hears()
    await endpoints[0].says(b"2", source)
    await client.hears()
    lab.plane.apply(udp(*endpoints, revision=2, **options))
    return client, endpoints[0], source


async def test_when_a_host_dies_what_its_client_sends_next_goes_elsewhere(lab: Lab, field: UdpLab) -> None:
    """A datagram finds the host gone and is refused; the next one is not lost."""
    dying, other = await field.endpoint(), await field.endpoint()
    client, _, _ = await placed(lab, field, dying, other)
    dying.sock.close()
    await client.says(b"3", lab.at)
    await lab.until(lambda: not lab.front.sessions.placed)
    await client.says(b"4", lab.at)
    assert (await other.hears())[0] == b"4"
    assert lab.plane.load().hosts[0].availability == "ejected"


@pytest.mark.parametrize("why", ["ejected", "unhealthy"])
async def test_a_session_leaves_a_host_that_is_not_available(lab: Lab, field: UdpLab, why: str) -> None:
    dying, other = await field.endpoint(), await field.endpoint()
    client, _, _ = await placed(lab, field, dying, other)
    host = lab.host(dying)  # type: ignore[arg-type]
    if why == "ejected":
        host.reach.connect_failed(refused=True)
    else:
        host.checked(False)
    await client.says(b"3", lab.at)
    heard, source = await other.hears()
    assert heard == b"3"
    await other.says(b"4", source)
    assert (await client.hears())[0] == b"4"
    assert (len(lab.front.sessions.placed), host.in_flight, lab.plane.load().items) == (1, 0, 1)


@pytest.mark.parametrize("why", ["drained", "left"])
async def test_a_session_leaves_a_host_that_drains_or_has_left_after_the_drain_time(
    lab: Lab, field: UdpLab, clock: Clock, why: str
) -> None:
    leaving, other = await field.endpoint(), await field.endpoint()
    client, _, _ = await placed(lab, field, leaving, other, timeouts=PATIENT)
    if why == "drained":
        leaving.spec = attrs.evolve(leaving.spec, admin=Admin.DRAIN)
        lab.plane.apply(udp(leaving, other, timeouts=PATIENT, revision=3))
    else:
        lab.plane.apply(udp(other, timeouts=PATIENT, revision=3))
    await client.says(b"3", lab.at)
    assert (await leaving.hears())[0] == b"3"
    clock.now += DRAIN_S + 1.0
    await lab.until(lambda: lab.plane.reactor.now >= clock.now)
    await client.says(b"4", lab.at)
    assert (await other.hears())[0] == b"4"


@pytest.mark.parametrize("answers", [True, False])
async def test_a_session_leaves_a_node_that_neither_reports_nor_answers(
    lab: Lab, field: UdpLab, clock: Clock, answers: bool
) -> None:
    below, other = [await field.endpoint(child=True, reports=True, name=name) for name in ("a", "b")]
    client, _, source = await placed(lab, field, below, other, timeouts=PATIENT)
    for name in ("a", "b"):
        lab.plane.note_report(name, SubtreeLoad(ready_leaves=1, leaves=1), Echo())
    clock.now += 0.1
    await lab.until(lambda: lab.plane.reactor.now >= clock.now)
    await client.says(b"3", lab.at)
    await below.hears()
    clock.now += 5.0
    lab.plane.reactor.look()
    lab.plane.note_report("b", SubtreeLoad(ready_leaves=1, leaves=1), Echo())
    lab.ticks()
    assert lab.host(below).availability.value == "silent"  # type: ignore[arg-type]
    if answers:
        await below.says(b"it works", source)
        await client.hears()
    await client.says(b"4", lab.at)
    heard = (await (below if answers else other).hears())[0]
    assert heard.endswith(b"4")


async def test_an_idle_session_ends_and_the_next_datagram_begins_another(lab: Lab, field: UdpLab, clock: Clock) -> None:
    endpoint = await field.endpoint()
    client, _, source = await placed(lab, field, endpoint, timeouts=attrs.evolve(PATIENT, idle=3.0))
    clock.now += 2.0
    await client.says(b"3", lab.at)
    assert await endpoint.hears() == (b"3", source)
    clock.now += 2.0
    await client.says(b"4", lab.at)
    assert await endpoint.hears() == (b"4", source)
    clock.now += 3.5
    await lab.until(lambda: not lab.front.sessions.placed)
    assert lab.plane.load().connections == 0
    await client.says(b"5", lab.at)
    heard, other = await endpoint.hears()
    assert heard == b"5"
    assert other != source


async def test_a_session_ends_when_all_that_was_asked_is_answered(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint, responses=2)
    for number in range(2):
        await client.says(b"%d" % number, lab.at)
    (_, source), _ = [await endpoint.hears() for _ in range(2)]
    for number in range(4):
        assert len(lab.front.sessions.placed) == 1
        await endpoint.says(b"%d" % number, source)
        assert (await client.hears())[0] == b"%d" % number
    await lab.until(lambda: not lab.front.sessions.placed)
    await endpoint.says(b"late", source)
    await client.hears_nothing()
    assert (lab.plane.load().connections, lab.plane.load().hosts[0].done) == (0, 1)


async def test_a_host_that_answers_nothing_while_its_siblings_do_is_ejected(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    """Which of the two is asked is a matter of turns, so both are until one of them has left five unanswered."""
    dead, alive = await field.endpoint(), await field.endpoint()
    await field.serves(dead, alive, timeouts=PATIENT)
    field.lab.background.start_soon(alive.echoes)
    clients = [await field.client() for _ in range(20)]
    for client in clients:
        await client.says(b"?", lab.at)
        clock.now += 0.5
        await lab.until(lambda: lab.plane.reactor.now >= clock.now)
    with trio.fail_after(DEADLINE_S):
        while lab.host(dead).availability.value != "ejected":  # type: ignore[arg-type]
            clock.now += SILENT_AFTER_S / 4
            await (late := await field.client()).says(b"?", lab.at)
            await trio.sleep(0.01)
            late.sock.close()
    assert lab.host(alive).availability.value == "available"  # type: ignore[arg-type]
    assert lab.host(alive).reach.failures == 0  # type: ignore[arg-type]


async def test_a_session_leaves_a_host_that_is_silent_for_long_while_its_sibling_answers(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    dead, alive = await field.endpoint(), await field.endpoint()
    await field.serves(dead, alive, timeouts=PATIENT)
    field.lab.background.start_soon(alive.echoes)
    clients = [await field.client() for _ in range(2)]
    for client in clients:
        await client.says(b"1", lab.at)
    _, source = await dead.hears()
    await dead.says(b"1", source)
    for client in clients:
        assert (await client.hears())[0] == b"1"
    before = {session for session in lab.front.sessions.placed if session.ticket.host is lab.host(dead)}  # type: ignore[arg-type]
    clock.now += 0.5
    for _ in range(8):
        await lab.until(lambda: lab.plane.reactor.now >= clock.now)
        for client in clients:
            await client.says(b"2", lab.at)
        await lab.until(lambda: lab.host(alive).served >= clock.now)  # type: ignore[arg-type]
        if lab.host(dead).reach.failures:  # type: ignore[arg-type]
            break
        clock.now += LOST_AFTER_S - 1.0
    assert lab.host(dead).reach.failures == 1  # type: ignore[arg-type]
    assert lab.host(alive).reach.failures == 0  # type: ignore[arg-type]
    assert before
    assert before.isdisjoint(lab.front.sessions.placed), "what the client sends goes to a new choice"


@pytest.mark.parametrize("answered", [True, False])
async def test_a_host_that_cannot_be_reached_for_a_moment_loses_no_session_that_it_answered(
    lab: Lab, field: UdpLab, clock: Clock, answered: bool
) -> None:
    first, second = await field.endpoint(name="first"), await field.endpoint(name="second")
    client = await field.client()
    await field.serves(first, second, timeouts=PATIENT)
    await client.says(b"1", lab.at)
    await lab.until(lambda: lab.front.sessions.placed)
    (session,) = lab.front.sessions.placed
    at, other = (first, second) if session.ticket.host.name == "first" else (second, first)
    _, source = await at.hears()
    if answered:
        await at.says(b"1", source)
        await client.hears()
        clock.now += 0.1
        await client.says(b"2", lab.at)
        await at.hears()
    session.broken(OSError(errno.EHOSTUNREACH, "no route to host"))
    if answered:
        assert lab.host(at).reach.failures == 1  # type: ignore[arg-type]
        await at.says(b"3", source)
        assert (await client.hears())[0] == b"3"
    else:
        assert (await other.hears())[0] == b"1"


async def test_where_nothing_is_ever_answered_no_host_is_to_blame(lab: Lab, field: UdpLab, clock: Clock) -> None:
    endpoints = [await field.endpoint() for _ in range(2)]
    await field.serves(*endpoints, timeouts=attrs.evolve(PATIENT, idle=5.0))
    for _ in range(12):
        await (await field.client()).says(b"log line", lab.at)
        clock.now += 1.0
        await lab.until(lambda: lab.plane.reactor.now >= clock.now)
    clock.now += 10.0
    await lab.until(lambda: not lab.front.sessions.placed)
    assert [host.failed for host in lab.plane.load().hosts] == [0, 0]


async def test_a_host_is_tried_again_by_traffic_when_its_ejection_is_over(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    dying, other = await field.endpoint(), await field.endpoint()
    await placed(lab, field, dying, other)
    dying.sock.close()
    lab.host(dying).reach.connect_failed(refused=True)  # type: ignore[arg-type]
    clock.now += 1.5
    await lab.until(lambda: lab.log.count("host_tried_again"))
    again = await field.endpoint(at=dying.address)
    for _ in range(4):
        await (await field.client()).says(b"?", lab.at)
    _, source = await again.hears()
    await again.says(b"!", source)
    await lab.until(lambda: not lab.host(dying).reach.ejection.times)  # type: ignore[arg-type]
