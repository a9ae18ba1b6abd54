"""A handler of a handoff that fails, at the parent or at the child, costs no other connection, and no count."""

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, INNER, Lab, below, l4, l7
from tests.dataplane.test_failing_handlers import connected, fails_once, in_order, methods, named, until_end_or
from tierlb.dataplane.handoff import taker
from tierlb.dataplane.l4 import given, giver, handoff, shared_queue
from tierlb.model.topology import Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKS = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SHORT = Timeouts(head=1.0, idle=1.0, connect=5.0, response=1.0, stream=1.0)
LEFT_OUT = {
    "Handoff.lacks": "called for reports, which have a barrier",
    **dict.fromkeys(
        ("Handoff.__init__", "Handoff.follow", "Handoff._forget_gone"), "a snapshot that cannot be applied is refused"
    ),
    **dict.fromkeys(("Given.begin", "Given.over", "Waiting.__init__", "Handed.over", "Taker.ended"), "bookkeeping"),
    "Taker._take": "there is a barrier around each connection in it",
    **dict.fromkeys(
        (
            "Giver._hang_up",
            "Giver._let_go",
            "Giver.close",
            "Giver.cut",
            "Handoff.close",
            "Handoff.cut",
            "SharedQueue.close",
            "Taker._end_queue",
            "Taker._part",
            "Taker.close",
        ),
        "first called when the node ends",
    ),
}
HANDLERS = in_order(
    each
    for each in methods(
        handoff.Handoff,
        giver.Giver,
        given.Given,
        given.Waiting,
        shared_queue.SharedQueue,
        taker.Taker,
        taker.Handed,
        taker.Introduced,
    )
    if f"{each[0].__name__}.{each[1]}" not in LEFT_OUT
)


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
@pytest.mark.parametrize(("owner", "name"), HANDLERS, ids=named)
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
