"""The identity of a client: by its address, by a parent, and by the fields of a trusted peer."""

import attrs
import pytest
import trio

from tests.dataplane.conftest import (
    CLIENT,
    DATA_KEY,
    INNER,
    Lab,
    l4_parent,
    l7,
    l7_parent,
)
from tests.dataplane.l7.conversations import introduced
from tierlb.model.load import Echo
from tierlb.model.snapshot import Rule
from tierlb.model.topology import ForwardedFields, Match, Respond, Timeouts
from tierlb.wire.proxy_protocol import encode_local

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
STRANGERS = {
    "no header": GET,
    "the header in text": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GET,
    "another version": l7_parent()[:12] + b"\x11" + GET,
    "no key": encode_local() + GET,
    "a wrong key": l7_parent(key=b"guessed") + GET,
    "a wrong key at l4": l4_parent(key=b"guessed") + GET,
    "the right key cut short": l4_parent(key=DATA_KEY[:-1]) + GET,
}
LOOPBACK = ("127.0.0.0/8",)
CLAIMS = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: shop\r\nX-Request-Id: given\r\nForwarded: for=192.0.2.3\r\n\r\n"
)


async def test_the_client_is_who_an_l4_parent_says(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    await client.says(l4_parent() + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == [CLIENT[0]]


async def test_a_trusted_client_of_an_l4_parent_is_believed(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER, trusted_peers=("192.0.2.0/24",))
    await client.says(l4_parent() + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == ["6.6.6.6, 192.0.2.7"]


async def test_a_proxy_header_may_come_in_pieces(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    for byte in l4_parent(("2001:db8::7", 1234)) + GET:
        await client.says(bytes([byte]))
        await trio.lowlevel.checkpoint()
    assert (await (await endpoint.accepts()).hears_head())["x-forwarded-for"] == "2001:db8::7"


async def test_an_l7_parent_is_believed_about_its_client(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    await client.says(l7_parent() + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == ["192.0.2.7, 127.0.0.1"]


@pytest.mark.parametrize("start", STRANGERS.values(), ids=STRANGERS)
async def test_who_does_not_show_that_it_is_a_parent_is_turned_away_unanswered_and_counted(
    lab: Lab, start: bytes
) -> None:
    client, endpoint = await lab.converses(listener=INNER)
    await client.says(start)
    await client.hears_no_word()
    await endpoint.is_left_alone()
    load = lab.plane.load()
    assert (load.rejected, load.items, load.connections) == (1, 0, 0)
    assert lab.log.count("connection_refused") == 1


async def test_a_proxy_header_that_does_not_come_is_not_waited_for_long(lab: Lab) -> None:
    client, _ = await lab.converses(listener=INNER, timeouts=Timeouts(head=0.1))
    await client.says(l4_parent()[:10])
    await client.hears_end()


async def test_what_comes_from_a_parent_is_counted_as_its(lab: Lab) -> None:
    client, _ = await introduced(lab, l4_parent(name="edge-1"))
    other = await lab.connects()
    await other.says(l7_parent(name="web-9") + GET)
    await lab.until(lambda: lab.plane.load().in_flight == 1)
    assert lab.plane.echo("edge-1") == Echo(0, 1, 1)
    assert lab.plane.echo("web-9") == Echo(1, 1, 1)
    assert lab.plane.echo("edge-2") == Echo()
    subtree = lab.plane.subtree()
    assert (subtree.in_flight, subtree.arrivals, subtree.done, subtree.connections) == (1, 2, 1, 2)
    await client.leaves()
    await lab.until(lambda: lab.plane.load().connections == 1)
    assert lab.plane.echo("edge-1") == Echo(0, 1, 0)


async def test_who_comes_without_a_parent_is_no_parents(lab: Lab) -> None:
    client, _ = await lab.converses(rules=HELLO)
    await client.asks(GET)
    assert lab.plane.subtree().arrivals == 1
    assert lab.plane.echo("") == Echo()


async def test_claims_of_a_stranger_are_replaced(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(CLAIMS)
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-forwarded-host") == ["a"]
    assert request["x-request-id"] != "given"
    assert "forwarded" not in request


@pytest.mark.parametrize(("options", "first"), [({"trusted_peers": LOOPBACK}, b""), ({"listener": INNER}, l7_parent())])
async def test_claims_of_a_trusted_peer_are_kept_and_completed(
    lab: Lab, options: dict[str, object], first: bytes
) -> None:
    client, endpoint = await lab.converses(**options)
    await client.says(first + CLAIMS)
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("x-forwarded-for") == ["192.0.2.1, 192.0.2.2, 127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["https"]
    assert request.all("x-forwarded-host") == ["shop"]
    assert request.all("x-request-id") == ["given"]


DIRECT = attrs.evolve(INNER, direct=True)


async def test_where_a_parent_forwards_in_the_kernel_clients_are_known_by_their_addresses(lab: Lab) -> None:
    parents = {"parents": ("edge-1/b1", "edge-2/b2"), "kernel_parents": ("edge-1/b1", "edge-2/b2")}
    client, endpoint = await lab.converses(listener=DIRECT, **parents)
    for _ in range(2):
        await client.says(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        voice = endpoint.voices[0] if endpoint.voices else await endpoint.accepts()
        assert (await voice.hears_head())["x-forwarded-for"] == "127.0.0.1"
        await voice.says(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.hears_message(bodiless=True)
    echoes = [lab.plane.echo(name) for name in ("edge-1", "edge-2", "inner-1")]
    assert [echo.arrivals for echo in echoes] == [1, 1, 0]
    assert lab.plane.load().items == 2


async def test_a_parent_is_a_parent_there_too(lab: Lab) -> None:
    client, endpoint = await lab.converses(listener=DIRECT)
    for byte in l4_parent():
        await client.says(bytes((byte,)))
    await client.says(GET)
    assert (await (await endpoint.accepts()).hears_head())["x-forwarded-for"] == CLIENT[0]
    assert lab.plane.echo("edge-1").arrivals == 1


@pytest.mark.parametrize("case", ["another version", "no key", "a wrong key", "the right key cut short"])
async def test_no_client_poses_as_a_parent_there(lab: Lab, case: str) -> None:
    client, _ = await lab.converses(listener=DIRECT)
    await client.says(STRANGERS[case])
    await client.hears_end()


async def test_a_connection_of_the_kernel_ends_politely_when_a_parent_leaves(lab: Lab) -> None:
    parents = {"parents": ("edge-1/b1",), "kernel_parents": ("edge-1/b1",)}
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, listener=DIRECT, rules=HELLO, **parents))
    client = await lab.connects()
    assert "connection" not in await client.asks(GET)
    lab.plane.apply(l7(endpoint, listener=DIRECT, rules=HELLO, revision=2))
    while "connection" not in await client.asks(GET):
        pass
    await client.hears_end()


@pytest.mark.parametrize(("source", "node"), [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", '"[2001:db8::7]"')])
@pytest.mark.parametrize("fields", [ForwardedFields.RFC_7239, ForwardedFields.BOTH])
async def test_endpoints_get_the_client_as_forwarded(lab: Lab, source: str, node: str, fields: ForwardedFields) -> None:
    client, endpoint = await lab.converses(listener=INNER, forwarded=fields)
    await client.says(l4_parent((source, 1234)) + GET)
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("forwarded") == [f"proto=http;host=a;for={node}"]
    assert request.all("x-forwarded-for") == ([source] if fields is ForwardedFields.BOTH else [])
    assert len(request["x-request-id"]) >= 8


async def test_a_trusted_peer_of_a_tier_with_forwarded_keeps_the_id_of_its_request(lab: Lab) -> None:
    client, endpoint = await lab.converses(trusted_peers=LOOPBACK, forwarded=ForwardedFields.RFC_7239)
    await client.says(CLAIMS)
    request = await (await endpoint.accepts()).hears_head()
    assert request.all("forwarded") == [
        "for=192.0.2.1;proto=https;host=shop, for=192.0.2.2, proto=http;host=a;for=127.0.0.1"
    ]
    assert (request.all("x-request-id"), request.all("x-forwarded-for")) == (["given"], [])
