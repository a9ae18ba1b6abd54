"""Which host a connection goes to, and what becomes of it when none takes it."""

import errno
import socket

import pytest
import trio

from tests.dataplane.conftest import Lab, l4
from tests.dataplane.lacking import LACKS, lacking
from tierlb.model.snapshot import Destination, Rule, Send
from tierlb.model.topology import Match, Policy, Timeouts
from tierlb.wire.agent_check import AgentReply


async def test_a_refused_member_costs_no_byte(lab: Lab) -> None:
    nobody, somebody = await lab.nobody(), await lab.endpoint()
    await lab.serves(l4(nobody, somebody))
    for text in (b"first", b"second"):
        client = await lab.connects()
        await client.says(text)
        await (await somebody.accepts()).hears(text)
    assert lab.front.counters.errors == 0


async def test_a_connection_that_no_member_takes_is_closed_and_counted(lab: Lab) -> None:
    await lab.serves(l4(await lab.nobody(), await lab.nobody()))
    client = await lab.connects()
    await client.hears_end()
    load = lab.plane.load()
    assert (load.errors, load.items, load.connections) == (1, 0, 0)
    assert lab.log.count("connection_dropped") == 1


async def test_a_connection_without_members_is_closed(lab: Lab, at_once: None) -> None:
    await lab.serves(l4())
    await (await lab.connects()).hears_end()
    assert lab.plane.load().errors == 1


@pytest.mark.parametrize("balance", Policy)
async def test_a_connection_for_hosts_of_weight_zero_is_closed_and_the_log_says_why(lab: Lab, balance: Policy) -> None:
    endpoints = [await lab.endpoint(weight=0.0), await lab.endpoint(weight=0.0)]
    await lab.serves(l4(*endpoints, balance=balance))
    await (await lab.connects()).hears_end()
    assert lab.plane.load().errors == 1
    assert lab.log.events[-1] == ("connection_dropped", {"reason": "every host of app has weight 0", "tried": []})
    for endpoint in endpoints:
        await endpoint.is_left_alone()


async def test_an_agents_maxconn_caps_connections(lab: Lab) -> None:
    endpoints = [await lab.endpoint(), await lab.endpoint()]
    await lab.serves(l4(*endpoints))
    for endpoint in endpoints:
        lab.host(endpoint).agent_replied(AgentReply(maxconn=1))
    for _ in endpoints:
        await (client := await lab.connects()).says(b"hello")
        await (voice := (await lab.accepts(*endpoints))[1]).hears(b"hello")
    await (await lab.connects()).hears_end()
    assert lab.log.events[-1][1]["reason"] == "every host of app is at the maxconn that its agent set"
    await voice.leaves()
    await client.leaves()
    await lab.until(lambda: min(load.in_flight for load in lab.plane.load().hosts) == 0)
    await (await lab.connects()).says(b"again")
    await (await lab.accepts(*endpoints))[1].hears(b"again")


async def test_a_share_whose_only_member_does_not_accept_in_time_is_passed_over(lab: Lab) -> None:
    """One connect that took too long does not eject an endpoint, so the share itself still counts as one that works."""
    full, free = await lab.endpoint(backlog=0, target="full"), await lab.endpoint(target="free")
    stuffing = [socket.socket() for _ in range(4)]
    for sock in stuffing:
        sock.setblocking(False)
        sock.connect_ex(full.address.sockaddr)
    shares = (Destination(1e6, ("full",), (full.spec,)), Destination(1, ("free",), (free.spec,)))
    await lab.serves(l4(rules=(Rule(Match(), Send(shares)),), timeouts=Timeouts(connect=0.1)))
    client = await lab.connects()
    await client.says(b"hello")
    await (await free.accepts()).hears(b"hello")
    assert lab.host(full).reach.failures == 1
    for sock in stuffing:
        sock.close()


async def test_each_connection_is_picked_separately(lab: Lab) -> None:
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l4(one, two, balance=Policy.LEAST_REQUESTS))
    for _ in range(6):
        await lab.connects()
        await lab.accepts(one, two)
    assert (len(one.voices), len(two.voices)) == (3, 3)


async def test_a_member_that_refused_is_left_alone_until_a_probe_finds_it_again(lab: Lab) -> None:
    falling, standing = await lab.endpoint(), await lab.endpoint()
    at = falling.address
    await lab.serves(l4(falling, standing))
    falling.falls()
    for _ in range(2):
        await lab.connects()
        await standing.accepts()
    assert [endpoint.availability for endpoint in lab.plane.load().hosts] == ["ejected", "available"]
    assert lab.log.count("host_ejected") == 1
    risen = await lab.endpoint(at=at)
    with trio.fail_after(30):
        probe = await risen.accepts()
        await probe.hears_end()
    await lab.until(lambda: lab.log.count("host_restored") == 1)
    for _ in range(2):
        await lab.connects()
        await lab.accepts(risen, standing)
    assert len(risen.voices) == 2  # the probe and one of the two clients


async def test_a_member_refusing_everybody_is_asked_when_all_refuse(lab: Lab) -> None:
    """The panic rule: with more than half ejected, ejection is not believed."""
    one, two = await lab.nobody(), await lab.nobody()
    await lab.serves(l4(one, two))
    await (await lab.connects()).hears_end()
    assert all(endpoint.availability == "ejected" for endpoint in lab.plane.load().hosts)
    risen = await lab.endpoint(at=two.address)
    client = await lab.connects()
    await client.says(b"hello")
    await (await risen.accepts()).hears(b"hello")


@pytest.mark.parametrize("code", LACKS)
async def test_what_this_machine_lacks_is_blamed_on_no_member_and_closes_the_connection(lab: Lab, code: int) -> None:
    endpoints = [await lab.endpoint(), await lab.endpoint()]
    await lab.serves(l4(*endpoints))
    lacking(lab, code, endpoints)
    for _ in range(10):
        await (await lab.connects()).hears_no_word()
    assert [load.availability for load in lab.front.registry.loads()] == ["available"] * 2
    assert lab.log.count("resource_exhausted") == 1
    assert lab.log.count("connection_dropped") == 0
    await lab.until(lambda: lab.front.counters.connections == 0)
    assert lab.plane.load().short_connects == lab.front.registry.context.shortages.count >= 10


async def test_a_lack_towards_one_member_sends_connections_to_another(lab: Lab) -> None:
    full, free = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l4(full, free))
    lacking(lab, errno.EADDRNOTAVAIL, [full])
    for _ in range(4):
        client = await lab.connects()
        voice = await free.accepts()
        await client.says(b"hello")
        await voice.hears(b"hello")
    assert [load.availability for load in lab.front.registry.loads()] == ["available"] * 2
