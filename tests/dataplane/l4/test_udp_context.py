"""What sessions over UDP share: counts that go down once, and hosts that are left."""

from typing import Any

from tests.dataplane.conftest import Clock, Lab
from tests.dataplane.l4.datagrams import UdpLab, udp


async def test_a_client_is_counted_down_once_however_often_its_end_is_noted(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    await client.says(b"1", lab.at)
    await endpoint.hears()
    (session,) = lab.front.sessions.placed
    session.end()
    lab.front.over(session.client, answered=False)
    session.abort()
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.hosts[0].in_flight) == (0, 0, 0)


async def test_the_drain_time_of_a_host_begins_anew_when_it_was_ready_between(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    leaving, other, client = await field.endpoint(), await field.endpoint(), await field.client()
    await field.serves(leaving)
    await client.says(b"1", lab.at)
    await leaving.hears()
    host: Any = lab.host(leaving)  # type: ignore[arg-type]
    lab.plane.apply(udp(other, revision=2))
    sessions = lab.front.sessions
    assert not sessions.has_left(host, clock.now, 30.0)
    assert sessions.has_left(host, clock.now + 31.0, 30.0)
    host.closes = False
    sessions.tidy()
    host.closes = True
    assert not sessions.has_left(host, clock.now + 31.0, 30.0)
