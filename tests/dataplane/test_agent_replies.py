"""A node's replies to agent checks: where the snapshot says, what holds, and for how long a drain is announced."""

import socket

import pytest

from tests.dataplane.agent_checks import answers, ask, comes_up, goes_down, reserved
from tests.dataplane.conftest import Lab, l7
from tests.dataplane.named_endpoints import serving_endpoint
from tierlb.dataplane import agent_replies
from tierlb.wire.agent_check import AGENT_NOTICE_S

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


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
