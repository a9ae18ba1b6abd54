"""Connections of nodes above over TLS that do not get as far as a host. Those that do are in test_tier_tls."""

import ssl
from pathlib import Path

import attrs
import pytest
import trio

from tests.certificates import Authority, SecuredStream
from tests.dataplane.conftest import CLIENT, INNER, FakeEndpoint, Lab, Voice, l4, l4_parent
from tierlb.model.tls import Tls
from tierlb.net.cluster_tls import ClusterTls


@pytest.fixture
async def endpoint(lab: Lab, tmp_path: Path) -> FakeEndpoint:
    """Of a node of the tier mid, below the tier edge."""
    authority = Authority(tmp_path)
    authority.issue("edge", file="edge")
    files = authority.issue("mid", file="mid")
    lab.cluster_tls = ClusterTls(Tls(files.certificate, files.key, str(tmp_path / "ca.pem")), lab.log)
    endpoint = await lab.endpoint()
    await lab.serves(attrs.evolve(l4(endpoint, listener=INNER), tier="mid", parent_tiers=("edge",)))
    return endpoint


@pytest.fixture
async def parent(lab: Lab, tmp_path: Path, endpoint: FakeEndpoint) -> Voice:
    """A node of the tier edge, after its handshake."""
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "edge.pem", tmp_path / "edge.key")
    voice = await lab.connects()
    under = voice.stream
    secured = trio.SSLStream(under, context, server_hostname="mid")
    with trio.fail_after(30):
        await secured.do_handshake()
    voice.stream = SecuredStream(secured, under)  # type: ignore[assignment]
    return voice


def refusals(lab: Lab) -> list[str]:
    return [fields["reason"] for event, fields in lab.log.events if event == "parent_refused"]


async def test_the_header_may_come_in_pieces_and_bytes_behind_it_are_the_clients(
    lab: Lab, parent: Voice, endpoint: FakeEndpoint
) -> None:
    header = l4_parent(CLIENT)
    for at in range(len(header) - 1):
        await parent.says(header[at : at + 1])
    await parent.says(header[-1:] + b"hello")
    voice = await endpoint.accepts()
    await voice.hears(b"hello")
    await voice.says(b"and back")
    await parent.hears(b"and back")


async def test_a_probe_that_says_nothing_is_no_fault(lab: Lab, parent: Voice) -> None:
    await parent.leaves()
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert refusals(lab) == []


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (l4_parent(CLIENT, key=b"another key"), "it does not know the key of this cluster"),
        (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header where a parent sends one: no PROXY protocol signature"),
    ],
)
async def test_one_of_the_right_tier_without_a_proper_header_is_refused(
    lab: Lab, parent: Voice, says: bytes, reason: str
) -> None:
    await parent.says(says)
    await parent.hears_no_word()
    assert refusals(lab) == [reason]
    assert lab.plane.load().connections == 0


async def test_one_that_is_slow_is_refused(lab: Lab, parent: Voice) -> None:
    (securing,) = lab.front.connections.pending
    securing.on_deadline()
    assert refusals(lab) == ["its TLS handshake and PROXY header did not arrive in time"]
    await parent.hears_no_word()


async def test_one_that_owes_its_header_may_give_way(lab: Lab, parent: Voice) -> None:
    (securing,) = lab.front.may_give_way()
    assert securing.idle_since(lab.plane.reactor.now) <= lab.plane.reactor.now
    assert securing.give_way()
    await parent.hears_no_word()
    assert lab.plane.load().connections == 0
