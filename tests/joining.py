"""Credentials for tests: stand-ins where a test is not about them, and real ones for nodes in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tierlb.channel.admission import Admission
from tierlb.channel.controller_link import Identity
from tierlb.model.address import parse_address
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import SUBPROTOCOL

NODE_TOKEN, AGENT_TOKEN = "secret", "secret of agents"


def admit(text: str) -> Principal | None:
    """Lets whoever has one of the two be any node, or any agent."""
    return {NODE_TOKEN: Principal(Role.NODE), AGENT_TOKEN: Principal(Role.AGENT)}.get(text)


def upgrade_request(token: str = NODE_TOKEN) -> bytes:
    """What a child sends first, for tests that write the frames themselves."""
    return (
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


@asynccontextmanager
async def raw_websocket(url: str, token: str = NODE_TOKEN) -> AsyncIterator[trio.SocketStream]:
    """The bytes of a websocket that is open, without a library between."""
    address = parse_address(url.partition("//")[2])
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        await stream.send_all(upgrade_request(token))
        assert b"101" in await stream.receive_some(4096)
        yield stream


def identity_of(admission: Admission, name: str, url: str, **more: Any) -> Identity:
    """Of a node such as web-1 of the tier web."""
    tier = name.rpartition("-")[0]
    known: dict[str, Any] = {"boot_id": "boot", "pid": 7, "receptions": (admission.reception(tier, name),)}
    known["token"] = admission.credential(Principal(Role.NODE, tier, name))
    return Identity(name, tier, url, **{**known, **more})
