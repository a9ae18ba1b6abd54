"""Connections to endpoints that want to know their clients: whose requests go on which."""

import attrs
import pytest

from tests.dataplane.conftest import INNER, FakeEndpoint, Lab, Voice, l7, l7_parent
from tierlb.model.listener import ProxyVersion
from tierlb.model.snapshot import PoolSettings
from tierlb.wire.proxy_protocol import ProxyHeader
from tierlb.wire.proxy_v1 import encode_v1

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
POOL = (PoolSettings("app", announces=ProxyVersion.V2),)


async def answered(client: Voice, voice: Voice) -> None:
    await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def announced(client: Voice, endpoint: FakeEndpoint) -> tuple[Voice, ProxyHeader]:
    """A request on a new connection to the endpoint."""
    await client.says(GET)
    voice = await endpoint.accepts()
    header = await voice.hears_proxy_header()
    await answered(client, voice)
    return voice, header


async def test_requests_of_one_client_share_a_connection_and_others_get_their_own(lab: Lab) -> None:
    endpoint = await lab.endpoint(announces=ProxyVersion.V2)
    await lab.serves(l7(endpoint, pools=POOL))
    one, other = await lab.connects(), await lab.connects()
    first, header = await announced(one, endpoint)
    assert (header.source, header.destination) == (one.name, lab.at.sockaddr)
    second, header = await announced(other, endpoint)
    assert header.source == other.name
    for client, voice in ((one, first), (other, second), (one, first)):
        await client.says(GET)
        await answered(client, voice)
    await endpoint.is_left_alone()


async def test_version_1_is_a_line(lab: Lab) -> None:
    endpoint = await lab.endpoint(announces=ProxyVersion.V1)
    await lab.serves(l7(endpoint, pools=POOL))
    client = await lab.connects()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears(encode_v1(client.name, lab.at.sockaddr))
    await answered(client, voice)


async def test_a_kept_connection_does_not_outlive_a_change_of_the_setting(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    client = await lab.connects()
    await client.says(GET)
    plain = await endpoint.accepts()
    await answered(client, plain)
    endpoint.spec = attrs.evolve(endpoint.spec, announces=ProxyVersion.V2)
    lab.plane.apply(l7(endpoint, pools=POOL, revision=2))
    await plain.hears_end()
    voice, header = await announced(client, endpoint)
    assert header.source == (client.name[0], 0)  # its port was of no use when it connected
    endpoint.spec = attrs.evolve(endpoint.spec, announces=None)
    lab.plane.apply(l7(endpoint, revision=3))
    await voice.hears_end()


@pytest.mark.parametrize(
    ("named", "source"),
    [(b"10.0.0.1, 192.0.2.7", ("192.0.2.7", 0)), (b"unknown", ("127.0.0.1", 0)), (b"::1", ("::1", 0))],
)
async def test_of_an_l7_parent_the_client_is_the_one_in_the_request(
    lab: Lab, named: bytes, source: tuple[str, int]
) -> None:
    endpoint = await lab.endpoint(announces=ProxyVersion.V2)
    await lab.serves(l7(endpoint, listener=INNER, pools=POOL))
    client = await lab.connects()
    await client.says(l7_parent() + GET[:-2] + b"X-Forwarded-For: %b\r\n\r\n" % named)
    voice = await endpoint.accepts()
    assert (await voice.hears_proxy_header()).source == source
    await answered(client, voice)
