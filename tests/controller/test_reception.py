"""A controller's control port, in and out of its turn, over real websockets."""

import pytest
import trio

from tests.joining import admit
from tierlb.controller.reception import STARTING, Reception
from tierlb.model.address import Address
from tierlb.net.websocket import Disconnected, connect, serve
from tierlb.wire.frames import PROTOCOL_VERSION, Hello, Welcome, decode_frame, encode_frame

HELLO = encode_frame(Hello(PROTOCOL_VERSION, "web-1", "web", "one", 7))


@pytest.fixture
async def port(nursery):
    reception = Reception()
    address = await nursery.start(serve, reception.attend, admit, Address("127.0.0.1", 0))
    return reception, f"ws://{address}"


async def hear_all(channel):
    while True:
        await channel.receive()


async def test_who_comes_while_nobody_is_active_is_told_so(port):
    reception, url = port
    with trio.fail_after(10):
        async with connect(url, "secret") as channel:
            with pytest.raises(Disconnected, match=STARTING):
                await channel.receive()
        reception.close(lambda: "other is active")
        async with connect(url, "secret") as channel:
            with pytest.raises(Disconnected, match="other is active"):
                await channel.receive()


async def test_an_active_controller_takes_nodes_in_until_its_turn_is_over(port, controller, nursery):
    reception, url = port
    nursery.start_soon(controller.run)
    reception.open(controller)
    with trio.fail_after(10):
        async with connect(url, "secret") as channel:
            await channel.send(HELLO)
            assert isinstance(decode_frame(await channel.receive()), Welcome)
            reception.close(lambda: "another one took over")
            with pytest.raises(Disconnected, match="another one took over"):
                await hear_all(channel)
    assert controller.registry.records["web-1"].link is None


def test_whoever_asks_plainly_learns_whether_it_may_be_joined(controller):
    reception = Reception()
    assert reception.unready() == STARTING
    reception.open(controller)
    assert reception.unready() == ""
    reception.close(lambda: "other is active")
    assert reception.unready() == "other is active"
