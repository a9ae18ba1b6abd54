"""Nodes that speak TLS with endpoints: requests, health checks, and endpoints that cannot prove themselves."""

import ssl
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.certificates import NAME, Authority, SecuredStream, connects_by_tls
from tests.dataplane.conftest import FakeEndpoint, Lab, Voice, l4, l7
from tierlb.dataplane.upstream.health import check_once
from tierlb.model.listener import ProxyVersion
from tierlb.model.snapshot import PoolSettings
from tierlb.model.tls import ListenerTls, PoolTls
from tierlb.model.topology import HealthCheck, Timeouts
from tierlb.net.client_tls import ClientTls
from tierlb.net.file_stamp import LOOK_EVERY_S

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server(authority: Authority, *names: str, **settings: Any) -> ssl.SSLContext:
    files = authority.issue(*names)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


async def accepts(endpoint: FakeEndpoint, context: ssl.SSLContext) -> Voice:
    """The next connection, as a server that speaks TLS."""
    voice = await endpoint.accepts()
    under = voice.stream
    secured = trio.SSLStream(under, context, server_side=True)
    with trio.fail_after(30):
        await secured.do_handshake()
    voice.stream = SecuredStream(secured, under)  # type: ignore[assignment]
    return voice


def speaks(authority: Authority, **more: Any) -> PoolTls:
    """What the node is to speak with endpoints."""
    return PoolTls(**{"ca": str(authority.folder / "ca.pem"), "server_name": NAME, **more})


async def serves(lab: Lab, tls: PoolTls, **more: Any) -> tuple[FakeEndpoint, Voice]:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, pools=(PoolSettings("app", tls=tls),), **more))
    return endpoint, await lab.connects()


async def test_requests_go_over_tls_and_connections_are_kept(lab: Lab, authority: Authority) -> None:
    endpoint, client = await serves(lab, speaks(authority))
    await client.says(GET)
    voice = await accepts(endpoint, server(authority))
    for _ in range(3):
        assert (await voice.hears_head()).first == "GET / HTTP/1.1"
        await voice.says(OK)
        assert (await client.hears_message()).body == b"ok"
        await client.says(GET)


async def test_a_large_body_goes_both_ways(lab: Lab, authority: Authority) -> None:
    much = bytes(range(256)) * 8 * 1024
    endpoint, client = await serves(lab, speaks(authority))
    lab.background.start_soon(
        client.says, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(much) + much
    )
    voice = await accepts(endpoint, server(authority))
    await voice.hears_head()
    assert await voice.hears_count(len(much)) == much
    lab.background.start_soon(voice.says, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(much) + much)
    assert (await client.hears_message()).body == much


async def test_a_tunnel_goes_on_over_tls(lab: Lab, authority: Authority) -> None:
    endpoint, client = await serves(lab, speaks(authority))
    await client.says(UPGRADE)
    voice = await accepts(endpoint, server(authority))
    await voice.hears_head()
    await voice.says(SWITCH + b"right behind the 101")
    assert (await client.hears_message(bodiless=True)).status == 101
    await client.hears(b"right behind the 101")
    await client.says(b"to the host")
    await voice.hears(b"to the host")


@pytest.mark.parametrize("wrong", ["another name", "another authority", "expired", "no TLS"])
async def test_an_endpoint_that_cannot_prove_itself_gets_no_request(
    lab: Lab, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "other").mkdir()
    of = Authority(tmp_path / "other") if wrong == "another authority" else authority
    names = ("other.example",) if wrong == "another name" else ()
    context = server(of, *names)
    if wrong == "expired":
        files = of.issue(days=1, since=-10)
        context.load_cert_chain(files.certificate, files.key)
    endpoint, client = await serves(lab, speaks(authority))
    await client.says(GET)
    if wrong == "no TLS":
        voice = await endpoint.accepts()
        await voice.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    else:
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 (in TLS 1.3 it learns it later)
            voice = await accepts(endpoint, context)
            await voice.hears_head()
    answer = await client.hears_message()
    assert answer.status == 502
    assert lab.log.count("endpoint_handshake_failed") == 1


async def test_without_verify_any_certificate_is_taken(lab: Lab, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    endpoint, client = await serves(lab, speaks(authority, verify=False))
    await client.says(GET)
    voice = await accepts(endpoint, server(Authority(tmp_path / "other"), "unknown.example"))
    await voice.hears_head()


async def test_the_nodes_own_certificate_is_shown(lab: Lab, authority: Authority) -> None:
    own = authority.issue("node.example", file="node")
    endpoint, client = await serves(lab, speaks(authority, certificate=own.certificate, key=own.key))
    await client.says(GET)
    context = server(authority, verify_mode=ssl.CERT_REQUIRED)
    context.load_verify_locations(authority.folder / "ca.pem")
    voice = await accepts(endpoint, context)
    await voice.hears_head()
    shown = voice.stream.ssl.getpeercert()  # type: ignore[attr-defined]
    assert ("DNS", "node.example") in shown["subjectAltName"]


async def test_a_handshake_has_the_connect_timeout(lab: Lab, authority: Authority) -> None:
    endpoint, client = await serves(lab, speaks(authority), timeouts=attrs.evolve(Timeouts(), connect=0.3))
    await client.says(GET)
    await endpoint.accepts()
    assert (await client.hears_message()).status == 504


@pytest.mark.parametrize("path", [None, "/healthz"])
@pytest.mark.parametrize("right", [True, False])
async def test_health_checks_speak_tls(
    lab: Lab, authority: Authority, nursery: trio.Nursery, path: str | None, right: bool
) -> None:
    endpoint = await lab.endpoint()
    context = server(authority, NAME if right else "other.example")

    async def serve() -> None:
        try:
            voice = await accepts(endpoint, context)
            if path:
                await voice.hears_head()
                await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except (trio.BrokenResourceError, AssertionError):
            assert not right

    nursery.start_soon(serve)
    check = HealthCheck(path=path, timeout_s=20.0, interval_s=30.0)
    result = await check_once(endpoint.address, check, ClientTls(speaks(authority)))
    assert result.good is right
    assert right or "TLS handshake failed" in result.reason


async def test_the_checks_of_a_node_speak_what_its_pool_speaks(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    pool = PoolSettings("app", HealthCheck(path="/healthz", interval_s=0.1, timeout_s=20.0), tls=speaks(authority))
    await lab.serves(l7(endpoint, pools=(pool,)))
    voice = await accepts(endpoint, server(authority))
    assert (await voice.hears_head()).first == "GET /healthz HTTP/1.1"


@pytest.mark.parametrize("before", ["plain", "another"])
async def test_connections_of_other_settings_are_not_kept(lab: Lab, authority: Authority, before: str) -> None:
    old = None if before == "plain" else speaks(authority, verify=False)
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, pools=(PoolSettings("app", tls=old),)))
    client, busy = await lab.connects(), await lab.connects()
    voices = []
    for each in (client, busy):
        await each.says(GET)
        voices.append(await endpoint.accepts() if old is None else await accepts(endpoint, server(authority)))
        await voices[-1].hears_head()
    await voices[0].says(OK)
    await client.hears_message()
    lab.plane.apply(l7(endpoint, pools=(PoolSettings("app", tls=speaks(authority)),), revision=2))
    await voices[0].hears_end()
    await voices[1].says(OK)  # its request was under way
    await busy.hears_message()
    await voices[1].hears_end()
    await client.says(GET)
    await (await accepts(endpoint, server(authority))).hears_head()


async def test_renewed_files_are_used_for_new_connections(lab: Lab, authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("node.example", file="node")
    endpoint, client = await serves(lab, speaks(authority, certificate=own.certificate, key=own.key))
    authority.issue("renewed.example", file="node")
    lab.plane.endpoint_tls.tick(1e9)
    await client.says(GET)
    context = server(authority, verify_mode=ssl.CERT_REQUIRED)
    context.load_verify_locations(authority.folder / "ca.pem")
    voice = await accepts(endpoint, context)
    await voice.hears_head()
    shown = voice.stream.ssl.getpeercert()  # type: ignore[attr-defined]
    assert ("DNS", "renewed.example") in shown["subjectAltName"]


async def test_a_node_tells_when_what_it_shows_expires(lab: Lab, authority: Authority) -> None:
    own = authority.issue("node.example", file="node", days=9, since=0)
    shown = authority.issue("shop.example", "www.shop.example", days=30, since=0)
    pool = PoolSettings("app", tls=speaks(authority, certificate=own.certificate, key=own.key))
    await lab.serves(l7(await lab.endpoint(), pools=(pool,), tls=ListenerTls((shown,))))
    found = lab.plane.row().own.certificates
    assert [(each.file, each.names, each.use) for each in found] == [
        (shown.certificate, ("shop.example", "www.shop.example"), "clients"),
        (own.certificate, ("node.example",), "pool app"),
    ]
    assert found[0].expires - found[1].expires == pytest.approx(21 * 86_400, abs=60)
    renewed = authority.issue("node.example", file="node", days=90, since=0)
    assert renewed.certificate == own.certificate
    lab.plane.endpoint_tls.tick(lab.plane.reactor.look() + LOOK_EVERY_S)
    assert lab.plane.row().own.certificates[1].expires - found[1].expires == pytest.approx(81 * 86_400, abs=60)


async def relays(lab: Lab, pool: PoolTls, *endpoints: FakeEndpoint, **more: Any) -> None:
    """An l4 node before the pool."""
    await lab.serves(l4(*endpoints, pools=(PoolSettings("app", tls=pool),), **more))


async def test_an_l4_node_relays_any_protocol_over_tls_and_offers_none(lab: Lab, authority: Authority) -> None:
    much = bytes(range(256)) * 8 * 1024
    endpoint, context = await lab.endpoint(), server(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    await relays(lab, speaks(authority), endpoint)
    client = await lab.connects()
    voice = await accepts(endpoint, context)
    assert voice.stream.ssl.selected_alpn_protocol() is None  # type: ignore[attr-defined]
    await voice.says(b"220 it speaks first")
    await client.hears(b"220 it speaks first")
    lab.background.start_soon(client.says, much)
    assert await voice.hears_count(len(much)) == much
    lab.background.start_soon(voice.says, much)
    assert await client.hears_count(len(much)) == much
    await client.ends()
    await voice.hears_end()
    await voice.leaves()
    await client.hears_end()
    assert lab.plane.load().connections == 0


async def test_an_l4_node_that_ends_tls_speaks_another_with_the_endpoint(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await relays(lab, speaks(authority), endpoint, tls=authority.tls())
    clients: list[Voice] = []

    async def connect() -> None:
        clients.append(await connects_by_tls(lab, authority.client()))

    lab.background.start_soon(connect)
    voice = await accepts(endpoint, server(authority))
    await lab.until(lambda: clients)
    await clients[0].says(b"hello")
    await voice.hears(b"hello")


async def test_an_endpoint_that_cannot_prove_itself_gets_no_connection_and_another_does(
    lab: Lab, authority: Authority
) -> None:
    wrong, right = await lab.endpoint(), await lab.endpoint()
    await relays(lab, speaks(authority), wrong, right)

    async def fail() -> None:
        with pytest.raises((trio.BrokenResourceError, AssertionError)):  # noqa: PT012 (in TLS 1.3 it learns it later)
            while True:
                await (await accepts(wrong, server(authority, "other.example"))).hears(b"h")

    lab.background.start_soon(fail)
    clients = [await lab.connects() for _ in range(2)]
    for client in clients:
        await client.says(b"hello")
    for _ in clients:
        voice = await accepts(right, server(authority))
        await voice.hears(b"hello")
    assert lab.log.count("endpoint_handshake_failed") == 1
    assert lab.host(wrong).reach.failures


async def test_the_header_of_a_pool_with_proxy_protocol_comes_before_tls(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint(announces=ProxyVersion.V2)
    await relays(lab, speaks(authority), endpoint)
    client = await lab.connects()
    voice = await endpoint.accepts()
    header = await voice.hears_proxy_header()
    assert header.source == client.name
    assert voice.ahead[:1] in (b"", b"\x16")
    assert (await voice.hears_count(1)) == b"\x16"
    assert lab.log.count("endpoint_handshake_failed") == 0


async def test_an_endpoint_that_does_not_shake_hands_is_given_up(lab: Lab, authority: Authority) -> None:
    endpoint = await lab.endpoint()
    await relays(lab, speaks(authority), endpoint, timeouts=Timeouts(connect=0.05))
    client = await lab.connects()
    await client.hears_no_word()
    await lab.until(lambda: lab.plane.load().connections == 0)
