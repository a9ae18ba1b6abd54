"""Endpoints in maintenance: what is still under way there is cut when the drain time is over, and nothing else is."""

import attrs
import pytest
import trio

from tests.dataplane.conftest import Clock, FakeEndpoint, Lab, Voice, l4, l7
from tierlb.model.topology import DRAIN_S, Admin, Policy, Timeouts

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENT = Timeouts(*[1000.0] * 5)


def wanted(endpoint: FakeEndpoint, admin: Admin) -> FakeEndpoint:
    endpoint.spec = attrs.evolve(endpoint.spec, admin=admin)
    return endpoint


async def asked(lab: Lab, endpoint: FakeEndpoint, request: bytes = GET) -> tuple[Voice, Voice]:
    client = await lab.connects()
    await client.says(request)
    voice = await endpoint.accepts()
    await voice.hears_head()
    return client, voice


async def test_a_request_without_an_answer_gets_one_when_the_time_is_over(lab: Lab, clock: Clock) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    drain_s = DRAIN_S / 3
    await lab.serves(l7(one, timeouts=PATIENT, drain_s=drain_s))
    client, voice = await asked(lab, one)
    lab.plane.apply(l7(wanted(one, Admin.MAINTENANCE), two, timeouts=PATIENT, drain_s=drain_s, revision=2))
    other, elsewhere = await asked(lab, two)
    clock.now += 0.9 * drain_s
    await client.hears_nothing()
    lab.plane.apply(l7(one, two, timeouts=PATIENT, drain_s=drain_s, revision=3))
    clock.now += 0.2 * drain_s
    answer = await client.hears_message()
    assert (answer.status, answer["retry-after"]) == (503, "1")
    assert b"in maintenance" in answer.body
    assert one.spec.name.encode() not in answer.body, "clients learn no address"
    await voice.hears_end()
    await elsewhere.says(OK)
    assert (await other.hears_message()).status == 200
    expected = {"host": one.spec.name, "requests": 1, "tunnels": 0, "connections": 0}
    assert ("maintenance_deadline_reached", expected) in lab.log.events
    assert lab.host(one).errors == 0


async def test_an_answer_that_has_begun_breaks_off(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, timeouts=PATIENT))
    client, voice = await asked(lab, endpoint)
    await voice.says(OK[:-1])
    await client.hears_up_to(b"o")
    lab.plane.apply(l7(wanted(endpoint, Admin.MAINTENANCE), timeouts=PATIENT, revision=2))
    clock.now += DRAIN_S
    assert len(await client.hears_rest()) < len(OK)
    assert lab.plane.load().in_flight == 0


async def test_a_tunnel_and_a_relayed_connection_are_cut(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, timeouts=PATIENT))
    upgrade = b"Connection: upgrade\r\nUpgrade: echo\r\n\r\n"
    client, voice = await asked(lab, endpoint, GET[:-2] + upgrade)
    await voice.says(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
    await client.hears_message(bodiless=True)
    lab.plane.apply(l7(wanted(endpoint, Admin.MAINTENANCE), timeouts=PATIENT, revision=2))
    clock.now += DRAIN_S
    await client.hears_reset()
    relayed = await lab.endpoint()
    await lab.serves(l4(relayed, timeouts=PATIENT))
    client = await lab.connects()
    voice = await relayed.accepts()
    lab.plane.apply(l4(wanted(relayed, Admin.MAINTENANCE), timeouts=PATIENT, revision=2))
    clock.now += DRAIN_S
    await client.hears_reset()
    await voice.hears_reset()


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.READY])
async def test_what_a_drained_member_has_goes_on(lab: Lab, clock: Clock, admin: Admin) -> None:
    """Nor is an endpoint cut that is ready again before the time is over."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, timeouts=PATIENT))
    client, voice = await asked(lab, endpoint)
    if admin is Admin.READY:
        lab.plane.apply(l7(wanted(endpoint, Admin.MAINTENANCE), timeouts=PATIENT, revision=2))
        clock.now += DRAIN_S / 2
    lab.plane.apply(l7(wanted(endpoint, admin), timeouts=PATIENT, revision=3))
    clock.now += 10 * DRAIN_S
    await trio.sleep(0.2)
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_a_node_is_left_to_cut_by_itself(lab: Lab, clock: Clock) -> None:
    child = await lab.endpoint(child=True, target="web")
    await lab.serves(l7(child, timeouts=PATIENT, balance=Policy.ROUND_ROBIN))
    client, voice = await asked(lab, child)
    lab.plane.apply(l7(wanted(child, Admin.MAINTENANCE), timeouts=PATIENT, revision=2, balance=Policy.ROUND_ROBIN))
    clock.now += 2 * DRAIN_S
    await trio.sleep(0.2)
    await client.hears_nothing()
    await voice.says(OK)
    assert (await client.hears_message()).status == 200
