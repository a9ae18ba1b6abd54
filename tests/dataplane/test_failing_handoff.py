"""A handler of a handoff that fails, at the parent or at the child, costs no other connection, and no count."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, INNER, FakeEndpoint, Lab, below, l4, l7
from tests.dataplane.test_failing_handlers import connected, fails_once, in_order, methods, named, until_end_or
from tierlb.dataplane.handoff import taker
from tierlb.dataplane.l4 import given, giver, handoff, returns, shared_queue
from tierlb.model.topology import Forwarding, Timeouts
from tierlb.net.asked import asked

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKS = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SHORT = Timeouts(head=1.0, idle=1.0, connect=5.0, response=1.0, stream=1.0)
LEFT_OUT = {
    "Handoff.lacks": "called for reports, which have a barrier",
    **dict.fromkeys(("Handoff.__init__", "Handoff.follow"), "a snapshot that cannot be applied is refused"),
    **dict.fromkeys(("Given.begin", "Given.over", "Waiting.__init__", "Handed.over", "Taker.ended"), "bookkeeping"),
    "Taker._take": "there is a barrier around each connection in it",
}
HANDLERS = in_order(
    each
    for each in methods(
        handoff.Handoff,
        giver.Giver,
        given.Given,
        given.Waiting,
        returns.Returns,
        shared_queue.SharedQueue,
        taker.Taker,
        taker.Handed,
        taker.Introduced,
    )
    if f"{each[0].__name__}.{each[1]}" not in LEFT_OUT
)


ONLY_AT_THE_END = ("Handoff.close", "Handoff.cut", "Taker._end_queue", "Taker._part", "Taker.close")
"""First called when the node ends."""
IN_TRAFFIC = [each for each in HANDLERS if f"{each[0].__name__}.{each[1]}" not in ONLY_AT_THE_END]
AT_THE_END = [each for each in HANDLERS if each[0] not in (taker.Taker, taker.Handed, taker.Introduced)]
ENDS = ("the child drains", "the child breaks off", "the tier relays", "the drain of the edge is over", "the edge ends")


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """Whose nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path
    return lab


async def one_after_the_other(lab: Lab, times: int) -> None:
    for _ in range(times):
        async with connected(lab) as stream:
            for _ in range(2):
                await stream.send_all(ASKS)
                if not (await until_end_or(stream, b"ok")).endswith(b"ok"):
                    break


async def traffic(lab: Lab) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one_after_the_other, lab, 3)


@pytest.mark.parametrize("at_call", [1, 2, 3])
@pytest.mark.parametrize(("owner", "name"), IN_TRAFFIC, ids=named)
async def test_no_failure_of_a_handoff_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at_call: int
) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    at = await lab.serves(l7(endpoint, listener=INNER, timeouts=SHORT))
    calls = fails_once(monkeypatch, owner, name, at_call=at_call, after=False)
    await lab.serves(l4(below(at, "node-1"), timeouts=SHORT))
    web, edge = lab.planes
    with trio.fail_after(DEADLINE_S):
        await traffic(lab)
        for plane in (web, edge):
            await lab.until(lambda plane=plane: plane.load().connections == 0)
    for plane in (edge, web):
        load = plane.load()
        assert (load.connections, load.in_flight, [host.in_flight for host in load.hosts]) == (0, 0, [0])
    assert lab.front.counters.handed == lab.front.connections.hold.items.__len__() == 0
    noted = sum(plane.errors.counts["connection"] for plane in lab.planes)
    assert noted >= (1 if calls[0] >= at_call else 0)
    lab.log.events.clear()
    with trio.fail_after(DEADLINE_S):
        async with connected(lab) as stream:
            await stream.send_all(ASKS)
            assert b"ok" in await until_end_or(stream, b"ok")


def sockets_but_those_of(endpoint: FakeEndpoint) -> int:
    """How many this process holds. Connections to the endpoint are kept for the next request."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                count += endpoint.address.port not in asked(int(name), ports_of)
    return count


def ports_of(sock: socket.socket) -> list[int]:
    """At both ends, none if it is no connection over TCP."""
    try:
        return [each[1] for each in (sock.getsockname(), sock.getpeername()) if isinstance(each, tuple)]
    except OSError:
        return []


async def ends(lab: Lab, how: str) -> None:
    """What the edge handed over, or its end towards the child, is over."""
    web, edge = lab.planes
    (way,) = (each for each in lab.front.forwarders if isinstance(each, handoff.Handoff))
    if how == "the child drains":
        web.listening.handoffs.drain()
    elif how == "the child breaks off":
        for each in list(web.listening.handoffs.takers.open):
            each.close()
    elif how == "the tier relays":
        for forward in (Forwarding.RELAY, Forwarding.AUTO):
            snapshot = attrs.evolve(edge.serving.snapshot, forward=forward)  # type: ignore[attr-defined]
            edge.apply(snapshot)
    elif how == "the drain of the edge is over":
        for to_child in way.givers.values():
            to_child.given.apart = True
        with edge.errors.barrier("connection"):
            lab.front.cut()
    else:
        with edge.errors.barrier("connection"):
            way.close()


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(("owner", "name"), AT_THE_END, ids=named)
async def test_no_failure_at_the_end_of_a_handoff_leaves_anything_open(
    lab: Lab, owner: Any, name: str, how: str
) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    at = await lab.serves(l7(endpoint, listener=INNER, timeouts=SHORT))
    await lab.serves(l4(below(at, "node-1"), timeouts=SHORT))
    web, edge = lab.planes
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    with trio.fail_after(DEADLINE_S):
        before = sockets_but_those_of(endpoint)
        clients = [await lab.connects() for _ in range(3)]
        for client in clients[:2]:
            await client.asks(ASKS)
        with pytest.MonkeyPatch.context() as patched:
            fails_once(patched, owner, name, at_call=1, after=False)
            for client in [await lab.connects() for _ in range(2)]:
                client.says_now(ASKS)
                clients.append(client)
            await ends(lab, how)
            for client in clients:
                await client.leaves()
            for plane in (edge, web):
                await lab.until(lambda plane=plane: plane.load().connections == 0)
                await lab.until(lambda plane=plane: plane.load().in_flight == 0)
                await lab.until(lambda plane=plane: [host.in_flight for host in plane.load().hosts] == [0])
        assert lab.front.counters.handed == 0
        await lab.until(lambda: lab.front.drained)
        await lab.until(lambda: sockets_but_those_of(endpoint) <= before)
    lab.log.events.clear()
