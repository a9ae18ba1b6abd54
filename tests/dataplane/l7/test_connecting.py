"""Endpoints that agree on HTTP/2 or HTTP/1.1 in the handshake of TLS (ALPN), or must agree on HTTP/2."""

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
import trio

from tests.certificates import NAME, Authority
from tests.dataplane.conftest import FakeEndpoint, Lab, Voice, below, l7
from tests.dataplane.l7.http2 import Http2Host
from tests.dataplane.l7.http2_servers import Http2Servers, http2_servers
from tests.dataplane.upstream.test_endpoint_tls import accepts, server
from tierlb.dataplane.upstream.endpoint_tls import EndpointTls
from tierlb.dataplane.upstream.health import check_once
from tierlb.model.address import Address
from tierlb.model.snapshot import HostSpec, PoolSettings
from tierlb.model.tls import PoolTls
from tierlb.model.topology import HealthCheck, Kind, Policy, PoolProtocol, Timeouts
from tierlb.net.client_tls import NO_HTTP_2, ClientTls

ASK = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
NO_APPLICATION_PROTOCOL = bytes((21, 3, 3, 0, 2, 2, 120))
"""A fatal alert (RFC 7301 §3.2), which the ssl module's servers do not send."""
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def offers(authority: Authority, *protocols: str) -> ssl.SSLContext:
    """What an endpoint speaks that agrees on one of these."""
    context = server(authority)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def pool(authority: Authority, protocol: PoolProtocol, **more: Any) -> PoolSettings:
    tls = PoolTls(ca=str(authority.folder / "ca.pem"), server_name=NAME)
    return PoolSettings("app", tls=tls, protocol=protocol, **more)


async def serves(lab: Lab, authority: Authority, protocol: PoolProtocol, **more: Any) -> FakeEndpoint:
    endpoint = await lab.endpoint(protocol=protocol)
    await lab.serves(l7(endpoint, pools=(pool(authority, protocol),), **more))
    return endpoint


async def asks(lab: Lab, number: int = 0) -> Voice:
    client = await lab.connects()
    await client.says(ASK % number)
    return client


async def accepts_http2(endpoint: FakeEndpoint, context: ssl.SSLContext) -> Http2Host:
    return await Http2Host(await accepts(endpoint, context)).begins()


@pytest.mark.parametrize("protocol", [PoolProtocol.H2, PoolProtocol.AUTO])
async def test_requests_share_a_connection_over_tls(lab: Lab, authority: Authority, protocol: PoolProtocol) -> None:
    endpoint = await serves(lab, authority, protocol)
    clients = [await asks(lab, number) for number in range(3)]
    host = await accepts_http2(endpoint, offers(authority, "h2", "http/1.1"))
    await host.hears_request(3)
    assert host.requests[1][b":scheme"] == b"https"
    for number, request in host.requests.items():
        await host.answers(number, request[b":path"], (b"content-length", b"2"))
    assert sorted([(await client.hears_message()).body for client in clients]) == [b"/0", b"/1", b"/2"]
    await endpoint.is_left_alone()


async def test_an_endpoint_without_http2_gets_requests_of_http1_each_on_its_connection(
    lab: Lab, authority: Authority
) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO)
    clients = [await asks(lab, number) for number in range(3)]
    context = offers(authority, "http/1.1")
    bodies = []
    for _ in clients:
        voice = await accepts(endpoint, context)
        head = await voice.hears_head()
        bodies.append(head.first)
        await voice.says(OK)
    assert sorted(bodies) == [f"GET /{number} HTTP/1.1" for number in range(3)]
    for client in clients:
        assert (await client.hears_message()).body == b"ok"
    host = lab.host(endpoint)
    assert len(host.idle) == 3
    await clients[0].says(ASK % 3)  # on a kept connection
    await lab.until(lambda: len(host.idle) == 2)
    await endpoint.is_left_alone()


@pytest.mark.parametrize("first", ["h2", "http/1.1"])
async def test_what_an_endpoint_agrees_on_may_change(lab: Lab, authority: Authority, first: str) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO)
    second = "http/1.1" if first == "h2" else "h2"
    for number, protocol in enumerate((first, second, first)):
        client = await asks(lab, number)
        voice = await accepts(endpoint, offers(authority, protocol))
        if protocol == "h2":
            host = await Http2Host(voice).begins()
            await host.answers(await host.hears_request())
        else:
            assert (await voice.hears_head()).first == f"GET /{number} HTTP/1.1"
            await voice.says(OK)
        assert (await client.hears_message()).body == b"ok"
        assert lab.host(endpoint).speaks_http1 is (protocol == "http/1.1")
        await voice.leaves()
        await lab.until(lambda: not lab.host(endpoint).idle)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
async def test_where_http2_is_demanded_the_log_names_the_endpoint_and_the_key(
    lab: Lab, authority: Authority, protocols: tuple[str, ...]
) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.H2)
    client = await asks(lab)
    with pytest.raises((trio.BrokenResourceError, AssertionError)):
        await (await accepts(endpoint, offers(authority, *protocols))).hears_head()
    assert (await client.hears_message()).status == 502
    (event,) = [fields for name, fields in lab.log.events if name == "endpoint_handshake_failed"]
    assert event["host"] == endpoint.spec.name
    assert "protocol: h2" in event["reason"]


async def test_an_upgrade_goes_over_http1_also_where_requests_go_over_http2(lab: Lab, authority: Authority) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO)
    client = await asks(lab)
    host = await accepts_http2(endpoint, offers(authority, "h2", "http/1.1"))
    await host.answers(await host.hears_request())
    await client.hears_message()
    await client.says(UPGRADE)
    voice = await accepts(endpoint, offers(authority, "h2", "http/1.1"))
    assert (await voice.hears_head())["upgrade"] == "websocket"
    await voice.says(SWITCH + b"hello")
    assert (await client.hears_message(bodiless=True)).status == 101
    await client.hears(b"hello")
    assert [connection.closed for connection in lab.host(endpoint).idle] == [False]


async def test_an_endpoint_of_http2_alone_is_not_to_blame_for_an_upgrade(lab: Lab, authority: Authority) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO)
    for _ in range(6):
        client = await lab.connects()
        await client.says(UPGRADE)
        voice = await endpoint.accepts()
        await voice.hears_some()
        await voice.says(NO_APPLICATION_PROTOCOL)
        assert (await client.hears_message()).status == 502
    load = lab.plane.load()
    assert (load.rejected, load.errors, lab.host(endpoint).reach.failures) == (6, 0, 0)
    assert "endpoint_handshake_failed" not in [name for name, _ in lab.log.events]


async def test_a_body_waits_for_the_handshake_and_goes_by_either_protocol(lab: Lab, authority: Authority) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO)
    much = bytes(range(256)) * 1024
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(much)
    for protocol in ("http/1.1", "h2"):
        client = await lab.connects()
        lab.background.start_soon(client.says, post + much)
        voice = await accepts(endpoint, offers(authority, protocol))
        if protocol == "h2":
            host = await Http2Host(voice).begins()
            number = await host.hears_request()
            assert host.bodies[number] == much
            await host.answers(number)
        else:
            await voice.hears_head()
            assert await voice.hears_count(len(much)) == much
            await voice.says(OK)
        assert (await client.hears_message()).status == 200
        await voice.leaves()
        await lab.until(lambda: not lab.host(endpoint).idle)


async def test_the_handshake_has_the_connect_timeout(lab: Lab, authority: Authority) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO, timeouts=attrs.evolve(Timeouts(), connect=0.3))
    client = await asks(lab)
    await endpoint.accepts()
    assert (await client.hears_message()).status == 504


async def test_a_client_that_leaves_during_the_handshake_leaves_a_connection_for_others(
    lab: Lab, authority: Authority
) -> None:
    endpoint = await serves(lab, authority, PoolProtocol.AUTO)
    client = await asks(lab)
    await lab.until(lambda: bool(lab.host(endpoint).idle))
    client.resets()
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    await accepts(endpoint, offers(authority, "http/1.1"))
    await lab.until(lambda: lab.host(endpoint).speaks_http1 and len(lab.host(endpoint).idle) == 1)


@pytest.mark.parametrize("agreed", ["h2", "http/1.1"])
async def test_checks_by_path_go_by_the_protocol_that_is_agreed_on(lab: Lab, authority: Authority, agreed: str) -> None:
    endpoint = await lab.endpoint(protocol=PoolProtocol.AUTO)
    check = HealthCheck(path="/healthz", interval_s=0.1, timeout_s=20.0, protocol=PoolProtocol.AUTO)
    await lab.serves(l7(endpoint, pools=(pool(authority, PoolProtocol.AUTO, health=check),)))
    voice = await accepts(endpoint, offers(authority, agreed))
    if agreed == "h2":
        host = await Http2Host(voice).begins()
        number = await host.hears_request()
        assert (host.requests[number][b":path"], host.requests[number][b":scheme"]) == (b"/healthz", b"https")
    else:
        assert (await voice.hears_head()).first == "GET /healthz HTTP/1.1"


# Real servers.


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Servers]:
    with http2_servers(tmp_path_factory.mktemp("servers")) as found:
        yield found


async def serves_real(lab: Lab, servers: Http2Servers, protocol: PoolProtocol, *names: str) -> None:
    """A node in front of these servers."""
    for name in names:
        if name not in servers.at:
            pytest.skip(f"{name} is not installed")
    endpoints = [below(servers.at[name], name) for name in names]
    for endpoint in endpoints:
        endpoint.spec = HostSpec(f"app/{endpoint.address}", "app", endpoint.address, protocol=protocol)
    pools, timeouts = (pool(servers.authority, protocol),), attrs.evolve(Timeouts(), connect=30.0)
    await lab.serves(l7(*endpoints, pools=pools, balance=Policy.ROUND_ROBIN, timeouts=timeouts))


REAL = ["nginx", "haproxy", "node", "hypercorn"]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("protocol", [PoolProtocol.H2, PoolProtocol.AUTO])
async def test_a_real_server_answers_over_http2(
    lab: Lab, servers: Http2Servers, name: str, protocol: PoolProtocol
) -> None:
    await serves_real(lab, servers, protocol, name)
    clients = [await lab.connects() for _ in range(8)]
    for number in range(5):
        for client in clients:
            await client.says(ASK % number)
        for client in clients:
            answer = await client.hears_message()
            assert (answer.status, answer.body[:6]) == (200, b"HTTP/2")


@pytest.mark.parametrize("name", ["node", "hypercorn"])
async def test_a_real_server_gives_a_large_body_back(lab: Lab, servers: Http2Servers, name: str) -> None:
    await serves_real(lab, servers, PoolProtocol.H2, name)
    much = bytes(range(256)) * 4 * 1024
    client = await lab.connects()
    post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    lab.background.start_soon(client.says, post + b"%x\r\n%b\r\n0\r\n\r\n" % (len(much), much))
    assert (await client.hears_message()).body == much


async def test_a_pool_may_have_servers_with_and_without_http2(lab: Lab, servers: Http2Servers) -> None:
    await serves_real(lab, servers, PoolProtocol.AUTO, "nginx", "plain", "haproxy")
    client = await lab.connects()
    said = [(await client.asks(ASK % number)).body[:6] for number in range(9)]
    assert sorted(said) == [b"HTTP/1"] * 3 + [b"HTTP/2"] * 6


@pytest.mark.parametrize("name", REAL)
async def test_an_l4_tier_checks_its_endpoints_by_the_protocol_of_the_pool(servers: Http2Servers, name: str) -> None:
    if name not in servers.at:
        pytest.skip(f"{name} is not installed")
    tls = EndpointTls(None).prepare([pool(servers.authority, PoolProtocol.H2)], Kind.L4)["app"]
    check = HealthCheck(path="/healthz", timeout_s=30.0, interval_s=30.0, protocol=PoolProtocol.H2)
    assert (await check_once(servers.at[name], check, tls)).good


@pytest.mark.parametrize("name", [*REAL, "plain"])
async def test_real_servers_are_checked_by_the_protocol_of_their_pool(servers: Http2Servers, name: str) -> None:
    if name not in servers.at:
        pytest.skip(f"{name} is not installed")
    for protocol in (PoolProtocol.H2, PoolProtocol.AUTO):
        for path in (None, "/healthz"):
            check = HealthCheck(path=path, timeout_s=30.0, interval_s=30.0, protocol=protocol)
            tls = ClientTls(PoolTls(ca=str(servers.authority.folder / "ca.pem"), server_name=NAME), None, protocol)
            result = await check_once(servers.at[name], check, tls)
            refused = name == "plain" and protocol is PoolProtocol.H2
            assert (result.good, NO_HTTP_2 in result.reason) == (not refused, refused), result.reason


def credentials(authority: Authority) -> grpc.ServerCredentials:
    files = authority.issue()
    return grpc.ssl_server_credentials([(Path(files.key).read_bytes(), Path(files.certificate).read_bytes())])


async def test_calls_of_grpc_go_over_tls(lab: Lab, authority: Authority) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", {"Unary": echo}),))
    port = server.add_secure_port("127.0.0.1:0", credentials(authority))
    server.start()
    try:
        endpoint = below(Address("127.0.0.1", port), "grpc")
        endpoint.spec = HostSpec("app/grpc", "app", endpoint.address, protocol=PoolProtocol.H2)
        at = await lab.serves(l7(endpoint, pools=(pool(authority, PoolProtocol.H2),)))

        def calls() -> list[bytes]:
            with grpc.insecure_channel(str(at)) as channel:
                call = channel.unary_unary("/tests.Echo/Unary")
                return [call(b"%d" % number, timeout=30) for number in range(5)]

        assert await trio.to_thread.run_sync(calls) == [b"%d" % number for number in range(5)]
    finally:
        server.stop(None)
