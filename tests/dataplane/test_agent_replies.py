"""A node's replies to agent checks: where the snapshot says, what holds, and for how long a drain is announced."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, Lab, l7
from tests.dataplane.named_endpoints import serving_endpoint
from tierlb.dataplane import agent_replies
from tierlb.model.address import Address
from tierlb.wire.agent_check import AGENT_NOTICE_S

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def ask(address: Address) -> bytes:
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*address.sockaddr) as stream:
            return b"".join([chunk async for chunk in stream])


async def answers(address: Address) -> bool:
    try:
        return bool(await ask(address))
    except OSError:
        return False


async def goes_down(address: Address) -> None:
    with trio.fail_after(DEADLINE_S):
        while await answers(address):  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)


async def comes_up(address: Address) -> None:
    with trio.fail_after(DEADLINE_S):
        while not await answers(address):  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)


@contextmanager
def reserved() -> Iterator[Address]:
    """A free port of which nobody else takes possession, nor meets himself there: bound, but nobody listens."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield Address(*sock.getsockname())


async def test_a_port_for_agent_checks_that_is_taken_is_said_and_tried_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_replies, "LISTEN_AGAIN_S", 0.01)
    served = await serving_endpoint(lab, b"a")
    with reserved() as address:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address.sockaddr)
            taken.listen()
            await lab.serves(l7(served.played, agent_check=address))
            await lab.until(lambda: lab.log.count("agent_check_listen_failed") >= 2)
            fields = lab.log.events[-1][1]
            assert (fields["address"], fields["reason"]) == (str(address), "Address already in use")
            assert (await (await lab.connects()).asks(GET)).body == b"a", "the traffic does not suffer"
        await comes_up(address)
        assert await ask(address) == b"ready up 100%\n"


async def test_a_node_answers_agent_checks_where_the_snapshot_says(lab: Lab) -> None:
    served = await serving_endpoint(lab, b"a")
    with reserved() as first, reserved() as second:
        await lab.serves(l7(served.played, agent_check=first))
        await comes_up(first)
        lab.plane.apply(l7(served.played, agent_check=second, revision=2))
        await comes_up(second)
        assert not await answers(first)
        lab.plane.apply(l7(served.played, revision=3))
        await goes_down(second)


async def test_agent_checks_are_told_what_holds(lab: Lab) -> None:
    served = await serving_endpoint(lab, b"a")
    with reserved() as address:
        await lab.serves(l7(served.played, agent_check=address))
        await comes_up(address)
        lab.host(served.played).checked(False)
        assert await ask(address) == b"ready down 100% #nothing below is ready\n"
        client = await lab.connects()
        await client.says(GET[:-4])
        await lab.until(lambda: any(each.in_head for each in lab.front.clients))
        lab.plane.drain()
        assert await ask(address) == b"drain 100%\n"


async def test_who_asks_hears_of_a_drain_before_it_begins(lab: Lab) -> None:
    served = await serving_endpoint(lab, b"a")
    with reserved() as address:
        await lab.serves(l7(served.played, agent_check=address))
        assert lab.upkeep.announce_drain(lab.plane.reactor.look()) == 0, "nobody has asked"
        await comes_up(address)
        assert lab.plane.announce_drain() == AGENT_NOTICE_S
        assert await ask(address) == b"drain 100%\n"
        assert lab.plane.subtree().draining
        client = await lab.connects()
        await client.says(GET)
        assert (await client.hears_message()).status == 200
