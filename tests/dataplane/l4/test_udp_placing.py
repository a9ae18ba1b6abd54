"""How a client over UDP gets a host: by policy, held while there is none, introduced to nodes below."""

import json
from typing import Any

import attrs
import pytest

from tests.dataplane.conftest import DATA_KEY, Clock, Lab, l7_parent
from tests.dataplane.l4.datagrams import UDP, UDP_INNER, Datagrams, UdpEndpoint, UdpLab, udp, udp_parent
from tierlb.dataplane.hold import HOLD_S
from tierlb.dataplane.l4.udp_session import CONFIRMED_S, KEPT_BYTES, LOST_AFTER_S
from tierlb.model.snapshot import Destination, Rule, Send, Snapshot
from tierlb.model.topology import Admin, Limits, Match, Policy, Timeouts
from tierlb.wire.explain_datagram import choices_in, explain_question, with_choice
from tierlb.wire.proxy_protocol import (
    DATA_KEY_TLV,
    OVER_TLV,
    PARENT,
    SESSION_KNOWN,
    SESSION_UNKNOWN,
    SIGNATURE,
    VIA,
    encode_local,
    encode_tlv,
    parse_v2,
)

PATIENT = Timeouts(*[1000.0] * 5)


async def host_of(lab: Lab, client: Datagrams, data: bytes) -> str:
    """Which host gets what the client sends; the session is over afterwards."""
    await client.says(data, lab.at)
    await lab.until(lambda: lab.front.sessions.placed)
    (session,) = lab.front.sessions.placed
    session.end()
    name: str = session.ticket.host.name
    return name


async def test_maglev_keeps_a_clients_sessions_at_one_host(lab: Lab, field: UdpLab) -> None:
    endpoints = [await field.endpoint() for _ in range(4)]
    await field.serves(*endpoints, balance=Policy.MAGLEV, listener=UDP_INNER)
    hosts = [f"192.0.2.{number}" for number in range(1, 13)]
    chosen = {}
    for host in hosts:
        chosen[host] = await host_of(lab, await field.client(), udp_parent((host, 1)))
    assert len(set(chosen.values())) > 1
    for host in hosts:
        assert await host_of(lab, await field.client(), udp_parent((host, 2))) == chosen[host]


async def test_other_policies_go_by_no_client(lab: Lab, field: UdpLab) -> None:
    endpoints = [await field.endpoint() for _ in range(2)]
    await field.serves(*endpoints, balance=Policy.ROUND_ROBIN)
    assert len({await host_of(lab, await field.client(), b"?") for _ in range(2)}) == 2


def routed(*routes: tuple[Match, UdpEndpoint], **options: Any) -> Snapshot:
    rules = tuple(Rule(match, Send((Destination(1, ("app",), (endpoint.spec,)),))) for match, endpoint in routes)
    return udp(rules=rules, **options)


async def test_routes_go_by_source_and_port(lab: Lab, field: UdpLab) -> None:
    near, port, other = [await field.endpoint(name=name) for name in ("near", "port", "other")]
    by_source = (Match(sources=("127.0.0.2/32",)), near)
    at = await lab.serves(routed(by_source, (Match(), other), listener=UDP))
    assert await host_of(lab, await field.client("127.0.0.2"), b"?") == "near"
    assert await host_of(lab, await field.client(), b"?") == "other"
    assert at.port
    listener = attrs.evolve(UDP, address=field.free())
    await lab.serves(routed(by_source, (Match(ports=(listener.address.port,)), port), listener=listener))
    assert await host_of(lab, await field.client(), b"?") == "port"
    assert await host_of(lab, await field.client("127.0.0.2"), b"?") == "near"


async def test_below_a_parent_routes_go_by_what_it_names(lab: Lab, field: UdpLab) -> None:
    named, other = await field.endpoint(name="named"), await field.endpoint(name="other")
    match = Match(sources=("192.0.2.0/24",), ports=(80,))
    await lab.serves(routed((match, named), (Match(), other), listener=UDP_INNER))
    assert await host_of(lab, await field.client(), udp_parent(("192.0.2.9", 1)) + b"?") == "named"
    assert await host_of(lab, await field.client(), udp_parent(("198.51.100.9", 1)) + b"?") == "other"


async def test_what_no_route_takes_is_dropped_counted_and_logged_once(lab: Lab, field: UdpLab) -> None:
    endpoint = await field.endpoint()
    await lab.serves(routed((Match(sources=("192.0.2.0/24",)), endpoint)))
    for _ in range(3):
        await (await field.client()).says(b"?", lab.at)
    await lab.until(lambda: lab.plane.load().rejected == 3)
    await endpoint.hears_nothing()
    assert lab.plane.load().connections == 0
    assert lab.log.count("connection_unrouted") == 1


async def test_an_explanation_names_the_route(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await lab.serves(routed((Match(sources=("127.0.0.0/8",)), endpoint), (Match(), endpoint)))
    lab.plane.explain("n0nce", lab.plane.reactor.now + 60)
    await client.says(explain_question("n0nce"), lab.at)
    (line,) = choices_in((await client.hears())[0], "n0nce") or ()
    assert json.loads(line)["route"] == "source 127.0.0.0/8"


async def test_a_datagram_waits_for_the_first_host(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves()
    await client.says(b"first", lab.at)
    await lab.until(lambda: lab.front.sessions.hold.items)
    await client.says(b"while it waits", lab.at)
    assert lab.plane.load().connections == 1
    lab.plane.apply(udp(endpoint, revision=2))
    heard, source = await endpoint.hears()
    assert heard == b"first"
    await endpoint.says(b"answer", source)
    assert (await client.hears())[0] == b"answer"
    assert (lab.plane.load().connections, lab.plane.load().items) == (1, 1)


async def test_a_datagram_waits_a_moment_only_and_a_long_one_not_at_all(lab: Lab, field: UdpLab, clock: Clock) -> None:
    client, other = await field.client(), await field.client()
    await field.serves()
    await other.says(b"x" * (KEPT_BYTES + 1), lab.at)
    await lab.until(lambda: lab.log.count("session_dropped") == 1)
    await client.says(b"first", lab.at)
    await lab.until(lambda: lab.front.sessions.hold.items)
    clock.now += HOLD_S + 1.0
    await lab.until(lambda: lab.log.count("session_dropped") == 2)
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.errors) == (0, 0, 2)


async def test_the_oldest_session_gives_way_at_the_cap_and_those_in_use_do_not(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    endpoint = await field.endpoint()
    await field.serves(endpoint, limits=Limits(connections=3), timeouts=PATIENT)
    clients = [await field.client() for _ in range(5)]
    sources: list[Any] = []
    for client in clients[:3]:
        await client.says(b"1", lab.at)
        sources.append((await endpoint.hears())[1])
        clock.now += 1.0
        await lab.until(lambda: lab.plane.reactor.now >= clock.now)
    await endpoint.says(b"2", sources[0])
    await clients[0].hears()
    await clients[0].says(b"3", lab.at)
    assert await endpoint.hears() == (b"3", sources[0])
    await clients[3].says(b"4", lab.at)
    await endpoint.hears()
    load = lab.plane.load()
    assert (load.connections, load.gave_way) == (3, 1)
    await endpoint.says(b"5", sources[0])
    await clients[0].hears()
    clock.now += CONFIRMED_S + 1.0
    await lab.until(lambda: lab.plane.reactor.now >= clock.now)
    await clients[4].says(b"6", lab.at)
    await endpoint.hears()
    assert lab.plane.load().connections == 3


async def test_where_none_gives_way_the_newcomer_is_dropped(lab: Lab, field: UdpLab) -> None:
    endpoint, client, late = await field.endpoint(), await field.client(), await field.client()
    await field.serves(endpoint, limits=Limits(connections=1), timeouts=PATIENT)
    await client.says(b"1", lab.at)
    _, source = await endpoint.hears()
    await endpoint.says(b"2", source)
    await client.hears()
    await client.says(b"3", lab.at)
    await endpoint.hears()
    await late.says(b"late", lab.at)
    await lab.until(lambda: lab.plane.load().turned_away == 1)
    await endpoint.hears_nothing()
    assert lab.plane.load().connections == 1


async def child(field: UdpLab) -> UdpEndpoint:
    """A node below, in the hands of the test."""
    return await field.endpoint(child=True, reports=True)


async def test_a_node_below_learns_the_client_from_a_header_until_it_has_answered(lab: Lab, field: UdpLab) -> None:
    below, client = await child(field), await field.client()
    await field.serves(below)
    for data in (b"1", b"2"):
        await client.says(data, lab.at)
        heard, source = await below.hears()
        header = parse_v2(heard, datagram=True)
        assert header is not None
        assert (header.source, heard[header.length :]) == (client.address.sockaddr, data)
        assert (header.tlvs[PARENT], header.tlvs[DATA_KEY_TLV]) == (b"node-1", DATA_KEY)
        assert VIA not in header.tlvs
    await below.says(b"3", source)
    assert (await client.hears())[0] == b"3"
    await client.says(b"4", lab.at)
    assert await below.hears() == (b"4", source)


async def test_a_node_below_says_whether_it_knows_a_session_and_no_client_hears_that(lab: Lab, field: UdpLab) -> None:
    below, client = await child(field), await field.client()
    await field.serves(below)
    await client.says(b"1", lab.at)
    _, source = await below.hears()
    await below.says(SESSION_KNOWN, source)
    await lab.until(lambda: all(session.bare for session in lab.front.sessions.placed))
    await client.says(b"2", lab.at)
    assert (await below.hears())[0] == b"2"
    await below.says(SESSION_UNKNOWN, source)
    await lab.until(lambda: not any(session.bare for session in lab.front.sessions.placed))
    await client.says(b"3", lab.at)
    header = parse_v2((await below.hears())[0], datagram=True)
    assert header is not None
    assert header.source == client.address.sockaddr
    await client.hears_nothing()


async def test_what_an_endpoint_says_is_never_taken_for_a_node_s_word(lab: Lab, field: UdpLab) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    await client.says(b"1", lab.at)
    _, source = await endpoint.hears()
    await endpoint.says(SESSION_UNKNOWN, source)
    assert (await client.hears())[0] == SESSION_UNKNOWN


async def test_a_parents_datagrams_are_a_session_of_the_client_that_it_names(lab: Lab, field: UdpLab) -> None:
    endpoint, parent = await field.endpoint(), await field.client()
    await field.serves(endpoint, listener=UDP_INNER)
    for data in (b"1", b"2"):
        await parent.says(udp_parent() + data, lab.at)
        heard, source = await endpoint.hears()
        assert heard == data
    assert (await parent.hears())[0] == SESSION_KNOWN
    await endpoint.says(b"3", source)
    assert (await parent.hears())[0] == b"3"
    await parent.says(b"4", lab.at)
    assert await endpoint.hears() == (b"4", source)
    assert (lab.plane.echo("edge-1").in_flight, lab.plane.load().items) == (1, 1)


async def test_a_parents_socket_that_belongs_to_another_client_by_now_begins_another_session(
    lab: Lab, field: UdpLab
) -> None:
    endpoint, parent = await field.endpoint(), await field.client()
    await field.serves(endpoint, listener=UDP_INNER)
    sources = []
    for host in ("192.0.2.1", "192.0.2.2"):
        await parent.says(udp_parent((host, 1)) + b"1", lab.at)
        sources.append((await endpoint.hears())[1])
    assert sources[0] != sources[1]
    assert lab.plane.load().connections == 1


@pytest.mark.parametrize("data", [b"a datagram without a header", udp_parent(key=b"another") + b"1"])
async def test_without_a_header_of_this_cluster_nothing_passes_and_the_parent_is_asked_for_it(
    lab: Lab, field: UdpLab, data: bytes
) -> None:
    endpoint, parent = await field.endpoint(), await field.client()
    await field.serves(endpoint, listener=UDP_INNER)
    await parent.says(data, lab.at)
    assert (await parent.hears())[0] == SESSION_UNKNOWN
    assert DATA_KEY not in SESSION_UNKNOWN
    await endpoint.hears_nothing()
    assert (lab.plane.load().rejected, lab.plane.load().connections) == (1, 0)


@pytest.mark.parametrize("data", [b"1", SESSION_UNKNOWN, SESSION_KNOWN])
async def test_nothing_is_answered_with_something_longer_and_no_note_with_another(
    lab: Lab, field: UdpLab, data: bytes
) -> None:
    """Two nodes would answer each other for ever, if someone sent the first one in the name of the other."""
    parent = await field.client()
    await field.serves(await field.endpoint(), listener=UDP_INNER)
    await parent.says(data, lab.at)
    await lab.until(lambda: lab.plane.load().rejected == 1)
    await parent.hears_nothing()


async def test_a_node_that_ends_a_session_tells_its_parent(lab: Lab, field: UdpLab, clock: Clock) -> None:
    endpoint, parent = await field.endpoint(), await field.client()
    await field.serves(endpoint, listener=UDP_INNER, timeouts=attrs.evolve(PATIENT, idle=5.0))
    await parent.says(udp_parent() + b"1", lab.at)
    _, source = await endpoint.hears()
    await endpoint.says(b"2", source)
    assert (await parent.hears())[0] == b"2"
    clock.now += 6.0
    assert (await parent.hears())[0] == SESSION_UNKNOWN


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_node_whose_host_refuses_tells_its_parent_unless_another_takes_over(
    lab: Lab, field: UdpLab, elsewhere: bool
) -> None:
    """What the parent sends without a header may be too short to be answered."""
    dead, parent = await field.endpoint(), await field.client()
    await field.serves(dead, listener=UDP_INNER, timeouts=PATIENT)
    await parent.says(udp_parent() + b"1", lab.at)
    _, source = await dead.hears()
    await dead.says(b"2", source)
    assert (await parent.hears())[0] == b"2"
    other = await field.endpoint()
    lab.plane.apply(udp(dead, *[other] * elsewhere, listener=UDP_INNER, revision=2, timeouts=PATIENT))
    dead.sock.close()
    await parent.says(b"3", lab.at)
    assert (await parent.hears())[0] == SESSION_UNKNOWN
    await parent.says(udp_parent() + b"4", lab.at)
    if elsewhere:
        assert (await other.hears())[0] == b"4"
    else:
        assert (await parent.hears())[0] == SESSION_UNKNOWN


async def test_a_node_below_that_is_silent_for_long_is_told_again_who_the_client_is(
    lab: Lab, field: UdpLab, clock: Clock
) -> None:
    below, client = await child(field), await field.client()
    await field.serves(below, timeouts=PATIENT)
    await client.says(b"1", lab.at)
    _, source = await below.hears()
    await below.says(b"1", source)
    await client.hears()
    heard = []
    for _ in range(8):
        clock.now += LOST_AFTER_S / 4
        await lab.until(lambda: lab.plane.reactor.now >= clock.now)
        await client.says(b"2", lab.at)
        heard.append((await below.hears())[0])
    assert heard[0] == b"2"
    assert heard[-1].startswith(SIGNATURE)
    await below.says(SESSION_KNOWN, source)
    await lab.until(lambda: all(session.bare for session in lab.front.sessions.placed))


async def test_a_session_leaves_a_node_that_drains_when_that_ends_it(lab: Lab, field: UdpLab) -> None:
    """At its deadline, which may come before the one that this node knows."""
    below, other = await child(field), await field.endpoint()
    client = await field.client()
    await field.serves(below, timeouts=PATIENT)
    await client.says(b"1", lab.at)
    _, source = await below.hears()
    await below.says(SESSION_KNOWN, source)
    await lab.until(lambda: all(session.bare for session in lab.front.sessions.placed))
    below.spec = attrs.evolve(below.spec, admin=Admin.DRAIN)
    lab.plane.apply(udp(below, other, revision=2, timeouts=PATIENT))
    await client.says(b"2", lab.at)
    assert (await below.hears())[0] == b"2"
    await below.says(SESSION_UNKNOWN, source)
    await lab.until(lambda: not any(session.bare for session in lab.front.sessions.placed))
    await client.says(b"3", lab.at)
    assert (await other.hears())[0] == b"3"


async def test_a_header_within_a_session_that_is_none_of_this_cluster_is_the_clients_data(
    lab: Lab, field: UdpLab
) -> None:
    endpoint, parent = await field.endpoint(), await field.client()
    await field.serves(endpoint, listener=UDP_INNER)
    await parent.says(udp_parent() + b"1", lab.at)
    await endpoint.hears()
    forged = udp_parent(("203.0.113.9", 9), key=b"guessed") + b"2"
    await parent.says(forged, lab.at)
    assert (await endpoint.hears())[0] == forged


async def test_a_question_is_answered_by_the_node_that_chose_an_endpoint_which_does_not_get_it(
    lab: Lab, field: UdpLab
) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    lab.plane.explain("n1", lab.plane.reactor.look() + 60.0)
    await client.says(explain_question("n1"), lab.at)
    (line,) = choices_in((await client.hears())[0], "n1") or ()
    assert (json.loads(line)["node"], json.loads(line)["chose"]) == ("node-1", endpoint.spec.name)
    await endpoint.hears_nothing()
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.hosts[0].in_flight) == (0, 0, 0)


async def test_a_node_that_chose_another_passes_the_question_on_with_its_choice(lab: Lab, field: UdpLab) -> None:
    below, client = await child(field), await field.client()
    await field.serves(below)
    lab.plane.explain("n1", lab.plane.reactor.look() + 60.0)
    await client.says(explain_question("n1"), lab.at)
    heard, source = await below.hears()
    header = parse_v2(heard, datagram=True)
    assert header is not None
    (line,) = choices_in(heard[header.length :], "n1") or ()
    assert json.loads(line)["chose"] == below.spec.name
    await below.says(with_choice(heard[header.length :], b"{}"), source)
    assert len(choices_in((await client.hears())[0], "n1") or ()) == 2


@pytest.mark.parametrize("nonce", ["", "n1"])
async def test_what_was_not_asked_by_the_admin_api_is_passed_on_as_any_datagram(
    lab: Lab, field: UdpLab, nonce: str
) -> None:
    endpoint, client = await field.endpoint(), await field.client()
    await field.serves(endpoint)
    if nonce:
        lab.plane.explain("another", lab.plane.reactor.look() + 60.0)
    await client.says(explain_question(nonce), lab.at)
    assert (await endpoint.hears())[0] == explain_question(nonce)


async def test_a_parent_that_ends_ends_its_sessions_below(lab: Lab, field: UdpLab) -> None:
    """Else a node below would hold them until they are idle. Only parents can say that."""
    endpoint, parent = await field.endpoint(), await field.client()
    await field.serves(endpoint, listener=UDP_INNER)
    await parent.says(udp_parent() + b"1", lab.at)
    await endpoint.hears()
    for key in (b"guessed", DATA_KEY):
        (session,) = lab.front.sessions.placed
        await parent.says(l7_parent(key=key) + b"", lab.at)  # LOCAL, with no word of an end
        await parent.says(over(key), lab.at)
        if key == DATA_KEY:
            await lab.until(lambda: not lab.front.sessions.placed)
            await parent.says(over(key), lab.at)
            await parent.says(b"1", lab.at)
            await lab.until(lambda: lab.plane.load().rejected)
            assert lab.plane.load().rejected == 1, "what is over already does not count"
        else:
            await endpoint.hears()
            await endpoint.hears()
            assert list(lab.front.sessions.placed) == [session]


def over(key: bytes) -> bytes:
    """What a parent says of a session that is over."""
    tlvs = encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, key) + encode_tlv(OVER_TLV, b"")
    return encode_local(tlvs)


@pytest.mark.parametrize("reason", ["cut", "idle", "full"])
async def test_the_end_of_a_session_is_told_below(lab: Lab, field: UdpLab, clock: Clock, reason: str) -> None:
    below, client = await child(field), await field.client()
    await field.serves(below, timeouts=attrs.evolve(PATIENT, idle=5.0), limits=Limits(connections=1))
    await client.says(b"1", lab.at)
    await below.hears()
    if reason == "cut":
        lab.plane.serving.front.cut()
    elif reason == "idle":
        clock.now += 6.0
    else:
        await (await field.client()).says(b"2", lab.at)
    header = parse_v2((await below.hears())[0], datagram=True)
    assert header is not None
    assert OVER_TLV in header.tlvs
    assert header.tlvs[DATA_KEY_TLV] == DATA_KEY
