"""The l4 front over UDP: what it counts, how it drains, snapshots that change."""

import socket

import attrs
import pytest

from tests.dataplane.conftest import Clock, Lab, l4
from tests.dataplane.l4.datagrams import Datagrams, UdpEndpoint, UdpLab, udp
from tierlb.dataplane.l4.udp_session import LAST_ANSWER_S
from tierlb.dataplane.plane import Refused
from tierlb.model.address import Address, ListenAddress, Transport
from tierlb.model.snapshot import Listener
from tierlb.model.topology import DRAIN_S, Admin, Timeouts

PATIENT = Timeouts(*[1000.0] * 5)


async def talks(field: UdpLab, client: Datagrams, endpoint: UdpEndpoint, what: bytes = b"hello") -> tuple[str, int]:
    """One question and its answer; where the endpoint saw it come from."""
    await client.says(what, field.lab.at)
    heard, source = await endpoint.hears()
    assert heard == what
    await endpoint.says(b"re: " + what, source)
    assert await client.hears() == (b"re: " + what, field.lab.at.sockaddr)
    return source


async def test_a_client_gets_its_answer_and_both_are_counted(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    await talks(field, client, endpoint)
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items, load.bytes_in, load.bytes_out) == (1, 1, 1, 5, 9)
    assert load.hosts[0].in_flight == 1
    (session,) = lab.front.sessions.placed
    session.end()
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items) == (0, 0, 1)
    assert (load.hosts[0].in_flight, load.hosts[0].done) == (0, 1)


async def test_each_client_has_a_session_and_keeps_it(lab: Lab, field: UdpLab) -> None:
    endpoint, clients = await field.endpoint(), [await field.client() for _ in range(3)]
    await field.serves(endpoint)
    sources = [await talks(field, client, endpoint) for client in clients]
    assert len(set(sources)) == 3
    assert [await talks(field, client, endpoint, b"again") for client in clients] == sources


async def test_a_session_stays_with_its_host_when_the_snapshot_changes(lab: Lab, field: UdpLab) -> None:
    endpoint, other = await field.endpoint(), await field.endpoint()
    client, newcomer = await field.client(), await field.client()
    await field.serves(endpoint)
    source = await talks(field, client, endpoint)
    lab.plane.apply(udp(other, revision=2))
    assert await talks(field, client, endpoint) == source
    await talks(field, newcomer, other)


async def test_drain_lets_sessions_go_on_and_takes_no_new_one(lab: Lab, field: UdpLab, clock: Clock) -> None:
    endpoint, client, newcomer = await field.endpoint(), await field.client(), await field.client()
    await field.serves(endpoint, timeouts=attrs.evolve(PATIENT, idle=3.0))
    source = await talks(field, client, endpoint)
    lab.plane.drain()
    assert await talks(field, client, endpoint, b"still") == source
    await newcomer.says(b"too late", lab.at)
    await endpoint.hears_nothing()
    assert not lab.front.drained
    clock.now += 3.5
    await lab.until(lambda: lab.front.drained)


async def test_what_is_left_at_the_deadline_is_cut(lab: Lab, field: UdpLab, clock: Clock) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint, timeouts=PATIENT)
    await talks(field, client, endpoint)
    lab.plane.apply(udp(endpoint, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    assert lab.plane.subtree().draining
    clock.now += DRAIN_S + 0.1
    await lab.until(lambda: lab.front.drained)
    assert ("drain_deadline_reached", {"requests": 0, "tunnels": 0, "connections": 1}) in lab.log.events


async def test_a_drained_node_that_is_ready_again_serves_old_and_new_clients(lab: Lab, field: UdpLab) -> None:
    """Its socket stays open for the sessions meanwhile."""
    endpoint, client, newcomer = await field.endpoint(), await field.client(), await field.client()
    at = await field.serves(endpoint, timeouts=PATIENT)
    source = await talks(field, client, endpoint)
    lab.plane.apply(udp(endpoint, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    assert await talks(field, client, endpoint) == source
    assert lab.plane.apply(udp(endpoint, timeouts=PATIENT, revision=3)) == (at,)
    assert await talks(field, client, endpoint) == source
    await talks(field, newcomer, endpoint)


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINTENANCE])
async def test_maintenance_cuts_what_is_left_at_a_host_after_the_drain_time(
    lab: Lab, field: UdpLab, clock: Clock, admin: Admin
) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint, timeouts=PATIENT)
    await talks(field, client, endpoint)
    spec = attrs.evolve(endpoint.spec, admin=admin)
    endpoint.spec = spec
    lab.plane.apply(udp(endpoint, timeouts=PATIENT, revision=2))
    clock.now += DRAIN_S + 0.1
    if admin is Admin.MAINTENANCE:
        await lab.until(lambda: not lab.front.sessions.placed)
    else:
        lab.plane.serving.tick(clock.now, ends=False)
        assert len(lab.front.sessions.placed) == 1


async def test_a_node_cannot_change_from_tcp_to_udp(lab: Lab, field: UdpLab) -> None:
    endpoint = await field.endpoint()
    await field.serves(endpoint)
    with pytest.raises(Refused, match="from l4 over UDP to l4"):
        lab.plane.apply(l4(endpoint, revision=2))  # type: ignore[arg-type]


async def test_where_others_read_the_port_a_drained_node_waits_for_answers_only(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    """The supervisor keeps the socket, and clients go on at the node's successor."""
    endpoint, client = await field.endpoint(), await field.client()
    lab.broker = Keeper()
    await field.serves(endpoint, timeouts=PATIENT, listener=lab.broker.listener)
    await client.says(b"1", lab.at)
    _, source = await endpoint.hears()
    lab.plane.drain()
    await client.says(b"2", lab.at)
    await endpoint.hears_nothing()
    await endpoint.says(b"late answer", source)
    assert (await client.hears())[0] == b"late answer"
    clock.now += LAST_ANSWER_S + 0.5
    await lab.until(lambda: lab.front.drained)
    lab.broker.close()


class Keeper:
    """A supervisor with one public port for datagrams."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.listener = Listener(Address(*self.sock.getsockname()), shared=True, protocol=Transport.UDP)
        self.ends = socket.socketpair()

    def listen(self, address: ListenAddress) -> socket.socket:
        assert address == ListenAddress(self.listener.address, Transport.UDP)
        lent = self.sock.dup()
        lent.setblocking(False)
        return lent

    def give_back(self, address: ListenAddress) -> None:
        """It reads there no more."""

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def close(self) -> None:
        for sock in (self.sock, *self.ends):
            sock.close()
