"""The child's end of a handoff: whom it believes, what it takes, what it gives back, what it reports."""

import socket
from typing import Any

import pytest
import trio

from tests.dataplane.conftest import INNER, Clock, FakeEndpoint, Lab, l4, l7
from tests.dataplane.handing import FakeParent, no_packet_from, voice_of
from tierlb.dataplane.handoff import taker
from tierlb.dataplane.handoff.taker import INTRODUCTION_S
from tierlb.model.topology import Limits
from tierlb.net.meeting_place import network_here
from tierlb.wire.handoff import BACK, DRAINS, MAX_ENTRIES, SHORTAGE, UNWELCOME, WELCOME, decode_entries, read_numbers
from tierlb.wire.proxy_protocol import EXPLAINED, VIA, encode_tlv

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKS = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def child(lab: Lab, **options: Any) -> FakeEndpoint:
    """An l7 node before an endpoint that answers."""
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    await lab.serves(l7(endpoint, listener=INNER, **options))
    return endpoint


async def welcome(lab: Lab, **options: Any) -> FakeParent:
    await child(lab, **options)
    return await FakeParent.of(lab).is_welcome()


async def test_what_is_handed_over_is_served_and_its_end_reported(lab: Lab) -> None:
    parent = await welcome(lab)
    parent.gives(7, 9)
    for number in (7, 9):
        assert (await parent.given[number].asks(ASKS)).body == b"ok"
    load, echo = lab.plane.load(), lab.plane.echo("edge-1")
    assert (load.connections, load.items, echo.connections, echo.arrivals) == (2, 2, 2, 2)
    await parent.given[9].leaves()
    assert await parent.hears_ends() == (9,)
    await parent.given[7].leaves()
    assert await parent.hears_ends() == (7,)
    assert lab.plane.echo("edge-1").connections == 0


async def test_what_a_parent_in_another_network_handed_over_ends_with_it(lab: Lab) -> None:
    await child(lab)
    parents = [await FakeParent.of(lab).is_welcome(network) for network in (b"", b"that of another container")]
    for parent in parents:
        parent.gives(1, 2)
        for client in parent.given.values():
            assert (await client.asks(ASKS)).body == b"ok"
        await parent.given[2].leaves()
        assert await parent.hears_ends() == (2,)
        parent.dies()
    await parents[1].given[1].hears_end()
    assert (await parents[0].given[1].asks(ASKS)).body == b"ok"


@pytest.mark.parametrize("how", ["a report finds it gone", "it does not read", "garbage"])
async def test_what_is_lent_ends_however_the_child_parts_with_the_parent(lab: Lab, how: str) -> None:
    await child(lab)
    parent = await FakeParent.of(lab).is_welcome(b"that of another container")
    parent.gives(1)
    assert (await parent.given[1].asks(ASKS)).body == b"ok"
    (end,) = lab.handoffs.takers.open
    if how == "garbage":
        parent.out.send(b"garbage")
    elif how == "it does not read":
        for number in range(10**6, 10**6 + taker.MOST_UNREPORTED + 1):
            end.ended(number)
    else:
        parent.dies()
        end.ended(2)
        end.report()
        assert end.control is None
    await parent.given[1].hears_end()


async def test_a_parent_learns_whether_it_is_in_the_same_network(lab: Lab) -> None:
    await child(lab)
    here = FakeParent.of(lab)
    here.introduces_itself(network=network_here())
    assert (await here.hears()).data == WELCOME


async def test_ends_of_one_turn_are_reported_together(lab: Lab) -> None:
    parent = await welcome(lab)
    parent.gives(*range(10))
    await lab.until(lambda: lab.plane.load().connections == 10)
    for client in list(lab.front.clients):
        client.close()
    assert sorted(await parent.hears_ends()) == list(range(10))


async def test_the_client_is_who_the_parent_says(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, listener=INNER))
    parent = await FakeParent.of(lab).is_welcome()
    parent.gives(1, source=("2001:db8::7", 99))
    await parent.given[1].says(ASKS)
    message = await (await endpoint.accepts()).hears_message()
    assert message["x-forwarded-for"] == "2001:db8::7"


async def test_the_way_and_the_choices_above_come_with_a_connection(lab: Lab) -> None:
    parent = await welcome(lab)
    parent.gives(1, tlvs=encode_tlv(VIA, b"top-1/a\nroot-1/b") + encode_tlv(EXPLAINED, b"one\ntwo"))
    await lab.until(lambda: lab.front.clients)
    (client,) = lab.front.clients
    assert client.downstream.identity.processes == ("edge-1/boot", "top-1/a", "root-1/b")
    assert client.downstream.identity.explained == (b"one", b"two")
    assert client.lifetime.movable


async def test_a_tunnel_is_over_when_it_ends_and_not_when_it_begins(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, listener=INNER))
    parent = await FakeParent.of(lab).is_welcome()
    parent.gives(1)
    await parent.given[1].says(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_message()
    await voice.says(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    await parent.given[1].hears_head()
    await no_packet_from(parent.control)
    assert lab.plane.load().tunnels == 1
    await parent.given[1].leaves()
    await voice.leaves()
    assert await parent.hears_ends() == (1,)


@pytest.mark.parametrize("who", ["a stranger", "no PROXY header"])
async def test_who_is_no_parent_is_refused_with_the_reason(lab: Lab, who: str) -> None:
    await child(lab)
    parent = FakeParent.of(lab)
    if who == "a stranger":
        parent.introduces_itself(key=b"guessed")
        reason = b"it does not know the key of this cluster"
    else:
        parent.says(b"GET / HTTP/1.1\r\n\r\n", parent.copy.fileno())
        reason = b"it sent no PROXY header"
    assert (await parent.hears()).data == UNWELCOME + reason
    assert (await parent.hears()).data == b""
    assert lab.log.count("handoff_refused") == 1


async def test_a_parent_that_does_not_say_who_it_is_is_left_in_time(lab: Lab, clock: Clock) -> None:
    await child(lab)
    parent = FakeParent.of(lab)
    await no_packet_from(parent.control)
    clock.now += INTRODUCTION_S + 1
    assert (await parent.hears()).data == b""


async def test_what_the_queue_of_a_dead_parent_holds_is_served(lab: Lab) -> None:
    parent = await welcome(lab)
    parent.gives(1)
    parent.gives(2)
    parent.dies()
    for number in (1, 2):
        assert (await parent.given[number].asks(ASKS)).body == b"ok"
    await parent.given[1].leaves()
    await lab.until(lambda: lab.plane.load().connections == 1)
    assert not any(sock.queue for sock in lab.handoffs.takers.open)


async def test_a_full_node_gives_back_what_it_has_no_room_for(lab: Lab) -> None:
    parent = await welcome(lab, limits=Limits(connections=1))
    parent.gives(1)
    await parent.given[1].says(ASKS[:-2])
    await lab.until(lambda: lab.plane.load().connections == 1)
    parent.gives(2, 3)
    back = await parent.hears()
    assert back.data[:1] == BACK
    assert [entry.number for entry in decode_entries(back.data, 1)] == [2, 3]
    assert lab.plane.load().turned_away == 0
    for number, descriptor in zip((2, 3), back.descriptors, strict=True):
        voice = voice_of(descriptor)
        await voice.says(b"still open")
        await parent.given[number].hears(b"still open")
        voice.stream.socket.close()


async def test_what_no_other_node_has_room_for_either_is_answered(lab: Lab) -> None:
    parent = await welcome(lab, limits=Limits(connections=1))
    parent.gives(1)
    await parent.given[1].says(ASKS[:-2])
    await lab.until(lambda: lab.plane.load().connections == 1)
    parent.gives(2, is_last=True)
    answer = await parent.given[2].asks(ASKS)
    assert (answer.status, "retry-after" in answer) == (503, True)
    assert await parent.hears_ends() == (2,)
    assert lab.plane.load().turned_away == 1


async def short(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeParent, list[int]]:
    """A node without descriptors for what its parent gave it, and how many it looked for each time."""
    parent = await welcome(lab)
    monkeypatch.setattr(lab.handoffs.takers, "roomy_below", 0)
    asked: list[int] = []
    monkeypatch.setattr(taker, "has_room_for", lambda count, like: asked.append(count) or False)
    parent.gives(1)
    assert (await parent.hears()).data == SHORTAGE
    return parent, asked


async def test_a_node_without_descriptors_reads_nothing_that_it_could_not_take(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not read the parent can read itself."""
    parent, asked = await short(lab, monkeypatch)
    parent.copy.recv(1, socket.MSG_PEEK)
    assert asked == [MAX_ENTRIES]
    monkeypatch.setattr(taker, "has_room_for", lambda count, like: True)
    assert (await parent.given[1].asks(ASKS)).body == b"ok"


async def test_a_node_without_descriptors_rests_though_its_parent_is_gone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, asked = await short(lab, monkeypatch)
    parent.dies()
    await lab.until(lambda: len(asked) > 1)
    (end,) = lab.handoffs.takers.open
    assert end.control is None
    end.drain()
    await trio.sleep(0.05)
    assert len(asked) < 9
    monkeypatch.setattr(taker, "has_room_for", lambda count, like: True)
    assert (await parent.given[1].asks(ASKS)).body == b"ok"
    await lab.until(lambda: end.queue is None)


async def test_a_node_that_drains_leaves_the_queue_to_its_parent_and_ends_what_it_has(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, listener=INNER))
    parent = await FakeParent.of(lab).is_welcome()
    parent.gives(1)
    await parent.given[1].says(ASKS)
    voice = await endpoint.accepts()
    await voice.hears_message()
    lab.plane.drain()
    parent.gives(2)
    assert (await parent.hears()).data == DRAINS
    await no_packet_from(parent.control)
    parent.copy.recv(1, socket.MSG_PEEK)
    await voice.says(OK)
    assert (await parent.given[1].hears_message()).body == b"ok"
    assert await parent.hears_ends() == (1,)


async def test_a_parent_that_identifies_itself_to_a_node_that_drains_is_not_welcome(lab: Lab) -> None:
    await child(lab)
    parent = FakeParent.of(lab)
    await lab.until(lambda: lab.handoffs.takers.open)
    lab.handoffs.drain()
    await no_packet_from(parent.control)
    parent.introduces_itself()
    assert [(await parent.hears()).data for _ in range(2)] == [DRAINS, b""]
    assert not lab.handoffs.takers.open


async def test_ends_wait_for_a_parent_that_does_not_read(lab: Lab) -> None:
    parent = await welcome(lab)
    numbers = [number * MAX_ENTRIES for number in range(40)]
    for first in numbers:
        parent.gives(first)
        await lab.until(lambda: lab.front.clients)
        await parent.given.pop(first).leaves()
        await lab.until(lambda: not lab.front.clients)
    (end,) = lab.handoffs.takers.open
    full = list(range(10**6, 10**6 + 60_000))
    for number in full:
        end.ended(number)
    end.report()
    assert end.unreported
    heard: list[int] = []
    while len(heard) < len(numbers) + len(full):
        heard += await parent.hears_ends()
    assert heard == numbers + full


async def test_that_a_node_drains_is_said_when_the_parent_reads_again(lab: Lab) -> None:
    parent = await welcome(lab)
    parent.gives(10**6)
    await parent.given[10**6].says(ASKS[:-2])
    await lab.until(lambda: lab.plane.load().connections == 1)
    (end,) = lab.handoffs.takers.open
    ends = list(range(60_000))
    for number in ends:
        end.ended(number)
    end.report()
    assert end.unreported
    lab.plane.drain()
    heard: list[int] = []
    drains = 0
    while len(heard) < len(ends) or not drains:
        message = (await parent.hears()).data
        if message == DRAINS:
            drains += 1
        else:
            heard += read_numbers(message)
    assert (heard, drains) == (ends, 1)


async def test_garbage_ends_the_conversation_and_no_connection(lab: Lab) -> None:
    parent = await welcome(lab)
    parent.gives(1)
    assert (await parent.given[1].asks(ASKS)).body == b"ok"
    parent.out.send(b"garbage")
    assert (await parent.hears()).data == b""
    assert (await parent.given[1].asks(ASKS)).body == b"ok"


async def test_a_connection_that_cannot_be_taken_is_closed_and_those_behind_it_are_taken(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await welcome(lab)
    original, calls = lab.plane.serving.take, [0]

    def fails_once(*what: Any, is_last: bool) -> bool:
        calls[0] += 1
        if calls[0] == 1:
            raise RuntimeError("injected")
        return original(*what, is_last=is_last)

    monkeypatch.setattr(lab.plane.serving, "take", fails_once)
    parent.gives(1, 2)
    assert (await parent.given[2].asks(ASKS)).body == b"ok"
    await parent.given[1].hears_end()
    assert await parent.hears_ends() == (1,)
    assert lab.plane.errors.counts["connection"] == 1
    lab.log.events.clear()


async def test_an_l4_node_gives_on_what_it_was_handed(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, listener=INNER))
    parent = await FakeParent.of(lab).is_welcome()
    parent.gives(5)
    voice = await endpoint.accepts()
    await parent.given[5].says(b"hello")
    await voice.hears(b"hello")
    assert (lab.plane.load().connections, lab.plane.echo("edge-1").connections) == (1, 1)
    await voice.leaves()
    await parent.given[5].leaves()
    assert await parent.hears_ends() == (5,)
    assert lab.plane.load().connections == 0


async def test_an_l4_node_without_a_host_reports_what_it_dropped(lab: Lab, at_once: None) -> None:
    await lab.serves(l4(listener=INNER))
    parent = await FakeParent.of(lab).is_welcome()
    parent.gives(5)
    await parent.given[5].hears_end()
    assert await parent.hears_ends() == (5,)
