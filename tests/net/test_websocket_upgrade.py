"""The parent's half of the upgrade without a server around it; test_websocket_server.py has it with one."""

import pytest
import trio
from trio.testing import memory_stream_pair

from tests.joining import admit, upgrade_request
from tierlb.net import websocket_upgrade
from tierlb.net.websocket_upgrade import NotUpgraded, ProvenPeer, accept_upgrade, accepted_stream


async def outcome_of(request, chunk=1_000_000):
    """What became of the request, and the answer."""
    child, parent = memory_stream_pair()
    found = ""
    async with trio.open_nursery() as nursery:

        async def ask():
            for at in range(0, len(request), chunk):
                await child.send_all(request[at : at + chunk])
            await child.send_eof()

        nursery.start_soon(ask)
        try:
            _, found = await accept_upgrade(parent, admit)
        except NotUpgraded as refused:
            found = str(refused)
        await parent.aclose()
    return found, b"".join([piece async for piece in child])


@pytest.fixture(autouse=True)
def peer(monkeypatch):
    monkeypatch.setattr(websocket_upgrade, "_peer_host", lambda stream: "192.0.2.1")


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize("token", ["secret", "secret of agents"])
async def test_a_credential_makes_a_caller(token, chunk):
    found, answer = await outcome_of(upgrade_request(token), chunk)
    assert found == ProvenPeer(admit(token), "192.0.2.1")
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"tierlb.v1" in answer


@pytest.mark.parametrize(
    ("request_", "reason", "answer"),
    [
        (upgrade_request("wrong"), "refused with 401", b"HTTP/1.1 401"),
        (upgrade_request().replace(b"Authorization", b"X-Other"), "refused with 401", b"HTTP/1.1 401"),
        (upgrade_request().replace(b"tierlb.v1", b"other.v9"), "refused with 400", b"HTTP/1.1 400"),
        (upgrade_request()[:50], "it closed the connection", b""),
        (b"", "it closed the connection", b""),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "", b""),
    ],
)
async def test_what_is_no_upgrade_of_a_child_is_refused(request_, reason, answer):
    found, answered = await outcome_of(request_)
    assert reason in found
    assert answered.startswith(answer)


async def test_a_request_that_does_not_come_is_not_waited_for(autojump_clock):
    _, parent = memory_stream_pair()
    with pytest.raises(NotUpgraded, match="in time"):
        await accept_upgrade(parent, admit)


async def test_a_peer_that_goes_away_is_no_error():
    child, parent = memory_stream_pair()
    await child.aclose()
    async with accepted_stream(parent, None) as stream:
        await stream.send_all(b"x")
