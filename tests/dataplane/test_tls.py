"""Clients that speak TLS with a node: by itself, through edges that pass their connections on, and through one that
ends TLS."""

import gc
import os
import re
import shutil
import socket
import ssl
from pathlib import Path

import attrs
import h2.connection
import h2.events
import pytest
import trio

from tests.certificates import NAME, Authority, connects_by_tls
from tests.dataplane.conftest import INNER, FakeEndpoint, Lab, Reset, below, l4, l7
from tierlb.dataplane.plane import Refused
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Rule
from tierlb.model.tls import Alpn, ClientCertificates, ListenerTls
from tierlb.model.topology import Forwarding, Limits, Match, Redirect, Respond, Timeouts
from tierlb.net.server_tls import load_server_tls
from tierlb.net.tls_layer import TlsLayer
from tierlb.wire.http2_frames import GOAWAY, PROTOCOL_ERROR, SETTINGS_TYPE
from tierlb.wire.proxy_protocol import SSL_TLV, encode_tlv, encode_v2, ssl_value
from tierlb.wire.told_tls import CLIENT_CERTIFICATE, SHOWN

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
MIB = 1024 * 1024


def free_address() -> Address:
    """Where nothing listens yet. A listener stays open over snapshots at an address that is given."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address(*sock.getsockname())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "tls").mkdir()
    return Authority(tmp_path / "tls")


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """Whose nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path
    return lab


async def test_requests_come_over_tls_and_endpoints_learn_it(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    await client.says(GET)
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-proto"] == "https"
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"


async def test_a_connection_that_is_closed_leaves_no_cycle_with_its_tls(lab: Lab, authority: Authority) -> None:
    """What OpenSSL keeps for a connection is more than all the rest, and the interpreter looks for cycles seldom."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls()))
    lab.background.start_soon(endpoint.answers_all, OK)
    gc.disable()
    try:
        client = await connects_by_tls(lab, authority.client())
        assert (await client.asks(GET)).status == 200
        await client.leaves()
        await lab.until(lambda: not lab.front.clients)
        assert not any(isinstance(each, TlsLayer) for each in gc.get_objects())
    finally:
        gc.enable()


@pytest.mark.parametrize("proto", [None, b"http"])
async def test_a_trusted_peer_may_say_that_its_client_used_another_scheme(
    lab: Lab, authority: Authority, proto: bytes | None
) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls(), trusted_peers=("127.0.0.0/8",)))
    client = await connects_by_tls(lab, authority.client())
    said = b"X-Forwarded-Proto: " + proto + b"\r\n" if proto else b""
    await client.says(GET[:-2] + said + b"\r\n")
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-proto"] == (proto or b"https").decode()


@pytest.mark.parametrize("way", [Forwarding.HANDOFF, Forwarding.RELAY])
async def test_an_edge_passes_connections_on_and_the_node_below_speaks_tls(
    lab: Lab, authority: Authority, way: Forwarding
) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    at = await lab.serves(l7(endpoint, listener=INNER, tls=authority.tls()))
    await lab.serves(l4(below(at, lab.plane.name), forward=way))
    if way is Forwarding.HANDOFF:
        await lab.until(lambda: lab.log.count("handoff_began") == 2)
    client = await connects_by_tls(lab, authority.client())
    for _ in range(3):
        assert (await client.asks(GET)).body == b"ok"
    head = endpoint.voices[0]
    assert head is not None
    assert lab.planes[0].load().connections == 1
    await client.leaves()
    await lab.until(lambda: lab.planes[0].load().connections == lab.planes[1].load().connections == 0)


@pytest.mark.parametrize("tls_below", [True, False])
async def test_a_node_below_one_that_ends_tls_gets_plain_bytes_and_learns_that_it_was_tls(
    lab: Lab, authority: Authority, tls_below: bool
) -> None:
    endpoint, tls = await lab.endpoint(), authority.tls()
    at = await lab.serves(l7(endpoint, listener=INNER, tls=tls if tls_below else None))
    await lab.serves(l4(below(at, lab.plane.name), tls=tls))
    client = await connects_by_tls(lab, authority.client())
    await client.says(GET)
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-proto"] == "https"
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    assert lab.front.connections.relayed


async def test_three_levels_pass_on_that_the_first_ended_tls(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    at = await lab.serves(l7(endpoint, listener=INNER))
    at = await lab.serves(l4(below(at, lab.plane.name), listener=INNER))
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    await lab.serves(l4(below(at, lab.plane.name), tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    await client.says(GET)
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-proto"] == "https"


async def test_a_tier_that_ends_tls_relays_any_protocol_and_passes_ends_on(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    voice = await endpoint.accepts()
    await client.says(b"hello")
    await voice.hears(b"hello")
    much = bytes(range(256)) * 16 * 1024
    lab.background.start_soon(voice.says, much)
    assert await client.hears_count(len(much)) == much
    lab.background.start_soon(client.says, much)
    assert await voice.hears_count(len(much)) == much
    await voice.ends()
    await client.hears_end()


async def test_a_client_that_is_cut_does_not_end_orderly_at_the_host(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    voice = await endpoint.accepts()
    await client.says(b"half of it")
    await voice.hears(b"half of it")
    client.stream.socket.shutdown(1)  # without a close_notify
    with pytest.raises(Reset):
        await voice.hears_rest()


async def test_a_tier_that_ends_tls_asks_no_host_before_the_handshake_is_over(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, tls=authority.tls()))
    client = await lab.connects()
    await endpoint.is_left_alone()
    await client.says(b"GET / HTTP/1.1\r\n\r\n")
    await client.hears_no_word()
    await endpoint.is_left_alone()
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert lab.plane.load().rejected == 1


async def test_plain_http_gets_400_with_a_hint(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls()))
    client = await lab.connects()
    answer = await client.asks(GET)
    assert answer.status == 400
    assert b"https://" in answer.body
    await client.hears_end()
    await lab.until(lambda: lab.plane.load().connections == 0)


async def test_a_handshake_that_takes_too_long_is_cut(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls(), timeouts=attrs.evolve(Timeouts(), head=0.3)))
    client = await lab.connects()
    await client.says(b"\x16\x03\x01\x02\x00")
    await client.hears_no_word()
    await lab.until(lambda: lab.plane.load().connections == 0)


async def test_a_handshake_that_fails_is_counted_and_logged(lab: Lab, authority: Authority) -> None:
    await lab.serves(l7(await lab.endpoint(), tls=authority.tls()))
    client = await lab.connects()
    await client.says(b"\x16\x03\x01\x00\x10" + bytes([255]) * 16)
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert lab.plane.load().rejected == 1
    assert lab.log.count("connection_refused") == 1


async def test_a_tunnel_goes_on_over_tls(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    await client.says(UPGRADE + b"right behind the request")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(SWITCH + b"right behind the 101")
    assert (await client.hears_message(bodiless=True)).status == 101
    await client.hears(b"right behind the 101")
    await voice.hears(b"right behind the request")
    much = bytes(range(256)) * 16 * 1024
    lab.background.start_soon(voice.says, much)
    assert await client.hears_count(len(much)) == much
    await client.says(b"more")
    await voice.hears(b"more")
    await voice.ends()
    await client.hears_end()


async def test_a_redirect_keeps_the_scheme(lab: Lab, authority: Authority) -> None:
    rule = Rule(Match(), Redirect("{scheme}://{host}/new"))
    await lab.serves(l7(rules=(rule,), tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    assert (await client.asks(GET))["location"] == "https://shop.example/new"


async def test_a_large_body_goes_both_ways(lab: Lab, authority: Authority) -> None:
    endpoint, much = await lab.endpoint(), bytes(range(256)) * 8 * 1024
    await lab.serves(l7(endpoint, tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    lab.background.start_soon(
        client.says, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(much) + much
    )
    voice = await endpoint.accepts()
    await voice.hears_head()
    assert await voice.hears_count(len(much)) == much
    lab.background.start_soon(voice.says, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(much) + much)
    assert (await client.hears_message()).body == much


async def test_a_body_that_is_cut_without_a_close_notify_is_no_whole_request(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    await client.says(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    voice = await endpoint.accepts()
    await voice.hears_head()
    client.stream.socket.shutdown(1)
    await lab.until(lambda: lab.plane.load().connections == 0)


async def test_a_renewed_certificate_is_shown_to_new_clients_and_kept_connections_go_on(
    lab: Lab, authority: Authority
) -> None:
    endpoint, tls = await lab.endpoint(), authority.tls()
    lab.background.start_soon(endpoint.answers_all, OK)
    await lab.serves(l7(endpoint, tls=tls))
    kept = await connects_by_tls(lab, authority.client())
    assert (await kept.asks(GET)).body == b"ok"
    authority.issue("new.example")
    lab.plane.certificates.use({tls: load_server_tls(tls)}, 0.0)
    lab.plane.reactor.beat.stir()
    await lab.until(lambda: lab.front.tls is lab.plane.certificates.served[tls])
    with pytest.raises(trio.BrokenResourceError) as caught:
        await connects_by_tls(lab, authority.client())
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    fresh = await connects_by_tls(lab, authority.client(), name="new.example")
    assert (await fresh.asks(GET)).body == b"ok"
    assert (await kept.asks(GET)).body == b"ok"


async def test_a_snapshot_may_begin_and_end_tls(lab: Lab, authority: Authority) -> None:
    endpoint, tls = await lab.endpoint(), authority.tls()
    lab.background.start_soon(endpoint.answers_all, OK)
    listener = Listener(free_address())
    plain = l7(endpoint, listener=listener)
    await lab.serves(plain)
    before = await lab.connects()
    assert (await before.asks(GET)).body == b"ok"
    lab.plane.apply(l7(endpoint, listener=listener, tls=tls, revision=2))
    secured = await connects_by_tls(lab, authority.client())
    assert (await secured.asks(GET)).body == b"ok"
    assert (await before.asks(GET)).body == b"ok"
    lab.plane.apply(attrs.evolve(plain, revision=3))
    after = await lab.connects()
    for client in (after, secured, before):
        assert (await client.asks(GET)).body == b"ok"


async def test_each_listener_speaks_tls_of_its_own_or_none(lab: Lab, authority: Authority) -> None:
    endpoint, shop, other = await lab.endpoint(), authority.tls(), authority.issue("other.example", file="other")
    lab.background.start_soon(endpoint.answers_all, OK)
    plain, secured, renamed = (free_address() for _ in range(3))
    listeners = (
        Listener(plain),
        Listener(secured, tls=shop),
        Listener(renamed, tls=ListenerTls((other,))),
    )
    await lab.serves(attrs.evolve(l7(endpoint), listeners=listeners))
    for client in (
        await lab.connects(plain),
        await connects_by_tls(lab, authority.client(), secured),
        await connects_by_tls(lab, authority.client(), renamed, "other.example"),
    ):
        assert (await client.asks(GET)).body == b"ok"
    with pytest.raises(trio.BrokenResourceError):
        await connects_by_tls(lab, authority.client(), renamed)


async def test_an_l4_tier_ends_tls_at_the_listeners_that_have_it(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    plain, secured = free_address(), free_address()
    listeners = (Listener(plain), Listener(secured, tls=authority.tls()))
    await lab.serves(attrs.evolve(l4(endpoint), listeners=listeners))
    for client in (await lab.connects(plain), await connects_by_tls(lab, authority.client(), secured)):
        voice = await endpoint.accepts()
        await client.says(b"hello")
        await voice.hears(b"hello")


async def test_a_listener_takes_other_certificates_without_losing_connections(lab: Lab, authority: Authority) -> None:
    endpoint, listener = await lab.endpoint(), Listener(free_address(), tls=authority.tls())
    lab.background.start_soon(endpoint.answers_all, OK)
    await lab.serves(l7(endpoint, listener=listener))
    kept = await connects_by_tls(lab, authority.client())
    assert (await kept.asks(GET)).body == b"ok"
    other = ListenerTls((authority.issue("other.example", file="other"),))
    lab.plane.apply(l7(endpoint, listener=attrs.evolve(listener, tls=other), revision=2))
    fresh = await connects_by_tls(lab, authority.client(), name="other.example")
    for client in (kept, fresh):
        assert (await client.asks(GET)).body == b"ok"


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_full_node_says_so_where_clients_speak_no_tls(lab: Lab, authority: Authority, speaks: bool) -> None:
    """One that speaks TLS would take the answer for a broken handshake."""
    endpoint = await lab.endpoint()
    plain, secured = Listener(free_address()), Listener(free_address(), tls=authority.tls())
    limits = attrs.evolve(Limits(), connections=1)
    await lab.serves(attrs.evolve(l7(endpoint, limits=limits), listeners=(plain, secured)))
    busy = await lab.connects(plain.address)
    await busy.says(GET)
    await endpoint.accepts()
    client = await lab.connects((secured if speaks else plain).address)
    if speaks:
        await client.hears_no_word()
    else:
        assert (await client.hears_message()).status == 503


async def test_a_snapshot_whose_certificate_cannot_be_read_is_refused(lab: Lab, authority: Authority) -> None:
    endpoint, tls = await lab.endpoint(), authority.tls()
    await lab.serves(l7(endpoint))
    os.unlink(tls.certificates[0].certificate)
    with pytest.raises(Refused, match="No such file"):
        lab.plane.apply(l7(endpoint, tls=tls, revision=2))


def shows(context: ssl.SSLContext, authority: Authority) -> ssl.SSLContext:
    """A client with a certificate of its own."""
    files = authority.issue("alice.example", file="alice", common_name="alice, of the shop")
    context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize("has_id", [False, True])
async def test_endpoints_learn_of_the_certificate_that_a_client_showed(
    lab: Lab, authority: Authority, has_id: bool
) -> None:
    """Also where a trusted client sends the id of its request."""
    endpoint = await lab.endpoint()
    tls = authority.tls(client_ca=str(authority.folder / "ca.pem"))
    trusted = ("127.0.0.0/8",) if has_id else ()
    await lab.serves(l7(endpoint, tls=tls, trusted_peers=trusted))
    client = await connects_by_tls(lab, shows(authority.client(), authority))
    await client.says(GET[:-2] + (b"X-Request-Id: 0123456789abcdef\r\n" if has_id else b"") + b"\r\n")
    voice = await endpoint.accepts()
    head = await voice.hears_head()
    assert re.fullmatch(
        r'Hash=[0-9a-f]{64};Subject="CN=alice\\\\, of the shop.*";DNS=alice.example', head["x-forwarded-client-cert"]
    )
    assert head["x-forwarded-for"] == "127.0.0.1"
    assert len(head["x-request-id"]) >= 8


async def test_nobody_poses_as_one_who_showed_a_certificate(lab: Lab, authority: Authority) -> None:
    endpoint, ca = await lab.endpoint(), str(authority.folder / "ca.pem")
    tls = authority.tls(client_ca=ca, client_certificates=ClientCertificates.OPTIONAL)
    await lab.serves(l7(endpoint, tls=tls))
    client = await connects_by_tls(lab, authority.client())
    await client.says(GET[:-2] + b"X-Forwarded-Client-Cert: Hash=0\r\n\r\n")
    voice = await endpoint.accepts()
    assert "x-forwarded-client-cert" not in await voice.hears_head()


@pytest.mark.parametrize("shown", ["none", "of another authority"])
async def test_a_client_without_a_certificate_of_the_authority_is_refused(
    lab: Lab, authority: Authority, tmp_path: Path, shown: str
) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, tls=authority.tls(client_ca=str(authority.folder / "ca.pem"))))
    context = authority.client()
    if shown != "none":
        shows(context, Authority(tmp_path))
    with pytest.raises((trio.BrokenResourceError, AssertionError, Reset)):  # noqa: PT012 (in TLS 1.3 it learns it later)
        client = await connects_by_tls(lab, context)
        await client.asks(GET)
    await endpoint.is_left_alone()
    await lab.until(lambda: lab.plane.load().connections == 0)


async def test_a_request_for_a_host_of_another_certificate_is_421(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    pairs = authority.issue(NAME, "www.shop.example"), authority.issue("*.other.example", file="other")
    await lab.serves(l7(endpoint, tls=ListenerTls(pairs)))
    for name, host, status in (
        (NAME, b"shop.example", 200),
        (NAME, b"www.shop.example:443", 200),
        (NAME, b"unknown.example", 200),
        (NAME, b"a.other.example", 421),
        ("a.other.example", b"b.other.example", 200),
        ("a.other.example", b"shop.example", 421),
    ):
        client = await connects_by_tls(lab, authority.client(), name=name)
        answer = await client.asks(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        assert answer.status == status, (name, host)


@attrs.define
class Told:
    """An l7 node below l4 nodes of which the first ends TLS."""

    lab: Lab
    endpoint: FakeEndpoint

    async def serves(self, tls: ListenerTls, *ways: Forwarding) -> None:
        """`ways`: how the l4 nodes pass connections on, the first one first."""
        at = await self.lab.serves(l7(self.endpoint, listener=INNER))
        for number, way in enumerate(reversed(ways)):
            last = number == len(ways) - 1
            more = {"tls": tls} if last else {"listener": INNER}
            begun = self.lab.log.count("handoff_began")
            at = await self.lab.serves(l4(below(at, self.lab.plane.name), forward=way, **more))
            if way is Forwarding.HANDOFF:
                await self.lab.until(lambda begun=begun: self.lab.log.count("handoff_began") >= begun + 2)


RELAYED, HANDED = (Forwarding.RELAY,), (Forwarding.RELAY, Forwarding.HANDOFF)


@pytest.fixture
async def told(lab: Lab) -> Told:
    return Told(lab, await lab.endpoint())


@pytest.mark.parametrize("ways", [RELAYED, HANDED, (Forwarding.RELAY, Forwarding.RELAY)])
async def test_below_a_tier_that_ends_tls_a_request_for_a_host_of_another_certificate_is_421(
    lab: Lab, authority: Authority, told: Told, ways: tuple[Forwarding, ...]
) -> None:
    lab.background.start_soon(told.endpoint.answers_all, OK)
    pairs = authority.issue(NAME), authority.issue("*.other.example", file="other")
    await told.serves(ListenerTls(pairs), *ways)
    for name, host, status in (
        (NAME, b"unknown.example", 200),
        (NAME, b"a.other.example", 421),
        ("a.other.example", b"b.other.example", 200),
        ("a.other.example", b"shop.example", 421),
    ):
        client = await connects_by_tls(lab, authority.client(), name=name)
        answer = await client.asks(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        assert answer.status == status, (name, host)


@pytest.mark.parametrize("ways", [RELAYED, HANDED])
async def test_below_a_tier_that_ends_tls_endpoints_learn_of_the_certificate_that_a_client_showed(
    lab: Lab, authority: Authority, told: Told, ways: tuple[Forwarding, ...]
) -> None:
    await told.serves(authority.tls(client_ca=str(authority.folder / "ca.pem")), *ways)
    client = await connects_by_tls(lab, shows(authority.client(), authority))
    await client.says(GET[:-2] + b"X-Forwarded-Client-Cert: Hash=0\r\n\r\n")
    voice = await told.endpoint.accepts()
    head = await voice.hears_head()
    assert re.fullmatch(
        r'Hash=[0-9a-f]{64};Subject="CN=alice\\\\, of the shop.*";DNS=alice.example', head["x-forwarded-client-cert"]
    )
    assert (head["x-forwarded-for"], head["x-forwarded-proto"]) == ("127.0.0.1", "https")


async def test_what_a_balancer_outside_tells_of_a_certificate_is_not_believed(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    at = await lab.serves(l7(endpoint, listener=INNER))
    outside = Listener(Address("127.0.0.1", 0), announced_from=("127.0.0.0/8",))
    await lab.serves(l4(below(at, lab.plane.name), listener=outside))
    tlvs = encode_tlv(SSL_TLV, ssl_value()) + encode_tlv(CLIENT_CERTIFICATE, b"Hash=0") + encode_tlv(SHOWN, b"0\na\nb")
    client = await lab.connects()
    await client.says(encode_v2(("192.0.2.7", 1), ("192.0.2.1", 443), tlvs) + GET)
    head = await (await endpoint.accepts()).hears_head()
    assert "x-forwarded-client-cert" not in head
    assert head["x-forwarded-for"] == "192.0.2.7"


async def test_a_protocol_that_an_l4_tier_agreed_on_is_spoken_below(lab: Lab, authority: Authority, told: Told) -> None:
    await told.serves(authority.tls(alpn=(Alpn.HTTP_2,)), *RELAYED)
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await connects_by_tls(lab, context)
    assert client.stream.ssl.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]
    await client.says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    frame = await client.hears_count(9)
    assert frame[3] == 4, "it answers with SETTINGS"


async def test_tls_on_a_plain_port_is_logged_and_answered(lab: Lab, authority: Authority) -> None:
    await lab.serves(l7(await lab.endpoint()))
    client = await lab.connects()
    await client.says(b"\x16\x03\x01\x02\x00\x01\x00")
    answer = await client.hears_message()
    assert answer.status == 400
    assert b"http://" in answer.body
    ((_, fields),) = [each for each in lab.log.events if each[0] == "tls_on_plain_port"]
    assert fields["client"] == "127.0.0.1"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_speaks_http2_where_it_is_offered(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    await lab.serves(l7(endpoint, tls=authority.tls("localhost", alpn=tuple(Alpn))))
    ca, url = str(authority.folder / "ca.pem"), f"https://localhost:{lab.at.port}/"
    command = ["curl", "-sS", "--cacert", ca, "-w", " %{http_version}", url, url]
    with trio.fail_after(30):
        done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == b"ok 2ok 2"


async def test_where_http2_was_agreed_on_nothing_else_is_spoken(lab: Lab, authority: Authority) -> None:
    await lab.serves(l7(await lab.endpoint(), tls=authority.tls(alpn=tuple(Alpn))))
    context = authority.client()
    context.set_alpn_protocols(["h2"])
    client = await connects_by_tls(lab, context)
    settings = await client.hears_count(9)
    assert settings[3] == SETTINGS_TYPE, "without having waited for the client"
    await client.hears_count(int.from_bytes(settings[:3]))
    await client.says(GET)
    rest = await client.hears_rest()
    at = rest.index(bytes((GOAWAY,)) + bytes(5))
    assert int.from_bytes(rest[at + 10 : at + 14]) == PROTOCOL_ERROR


async def test_requests_over_http2_may_come_with_the_end_of_the_handshake(lab: Lab, authority: Authority) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello\n")),), tls=authority.tls(alpn=tuple(Alpn))))
    context = authority.client()
    context.set_alpn_protocols(["h2"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    voice = await lab.connects()
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    await voice.says(outgoing.read())
    while True:
        incoming.write(await voice.hears_some())
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            continue
    engine = h2.connection.H2Connection()
    engine.initiate_connection()
    engine.send_headers(1, [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/")], True)
    tls.write(engine.data_to_send())
    await voice.says(outgoing.read())
    body = b""
    while body != b"hello\n":
        incoming.write(await voice.hears_some())
        while True:
            try:
                data = tls.read(65536)
            except ssl.SSLWantReadError:
                break
            for event in engine.receive_data(data):
                body += event.data if isinstance(event, h2.events.DataReceived) else b""
