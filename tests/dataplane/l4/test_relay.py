"""An l4 node's conversation: connections given whole to one endpoint, unread."""

import hashlib
import socket

import pytest
import trio

from tests.dataplane.conftest import DATA_KEY, Clock, Lab, Voice, l4
from tests.dataplane.lacking import reaching_itself
from tierlb.model.topology import Timeouts
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, PROCESS

MIB = 1024 * 1024


async def relayed(lab: Lab, **options: object) -> tuple[Voice, Voice]:
    """A client, and the endpoint's end of its connection."""
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, **options))
    client = await lab.connects()
    return client, await endpoint.accepts()


async def test_both_sides_hear_each_other(lab: Lab) -> None:
    client, voice = await relayed(lab)
    await client.says(b"hello")
    await voice.hears(b"hello")
    await voice.says(b"welcome")
    await client.hears(b"welcome")


async def test_the_member_may_speak_first(lab: Lab) -> None:
    client, voice = await relayed(lab)
    await voice.says(b"220 ready\r\n")
    await client.hears(b"220 ready\r\n")


async def test_half_close_is_passed_on_to_the_member(lab: Lab) -> None:
    client, voice = await relayed(lab)
    await client.says(b"question")
    await client.ends()
    assert await voice.hears_rest() == b"question"
    await voice.says(b"answer")
    await voice.leaves()
    assert await client.hears_rest() == b"answer"
    await lab.until(lambda: lab.front.counters.connections == 0)


async def test_half_close_is_passed_on_to_the_client(lab: Lab) -> None:
    client, voice = await relayed(lab)
    await voice.says(b"all I know")
    await voice.ends()
    assert await client.hears_rest() == b"all I know"
    await client.says(b"thanks")
    await client.leaves()
    assert await voice.hears_rest() == b"thanks"
    await lab.until(lambda: lab.front.counters.connections == 0)


async def test_a_draining_node_ends_a_connection_with_its_member(lab: Lab) -> None:
    client, voice = await relayed(lab)
    lab.plane.drain()
    await voice.says(b"goodbye")
    await voice.ends()
    assert await client.hears_rest() == b"goodbye"
    await lab.until(lambda: lab.front.counters.connections == 0)


async def test_a_draining_node_lets_a_connection_live_that_its_member_keeps(lab: Lab) -> None:
    client, voice = await relayed(lab)
    lab.plane.drain()
    await client.says(b"still there?")
    await voice.hears(b"still there?")
    assert lab.front.counters.connections == 1


@pytest.mark.parametrize("who", ["client", "host"])
async def test_a_reset_is_passed_on(lab: Lab, who: str) -> None:
    client, voice = await relayed(lab)
    await client.says(b"x")
    await voice.hears(b"x")
    gone, left = (client, voice) if who == "client" else (voice, client)
    gone.resets()
    await left.hears_reset()
    assert lab.front.counters.connections == 0


async def test_a_member_that_does_not_accept_in_time_is_passed_over(lab: Lab) -> None:
    full, free = await lab.endpoint(backlog=0), await lab.endpoint()
    stuffing = [socket.socket() for _ in range(4)]
    for sock in stuffing:
        sock.setblocking(False)
        sock.connect_ex(full.address.sockaddr)
    await lab.serves(l4(full, free, timeouts=Timeouts(connect=0.1)))
    for _ in range(2):
        client = await lab.connects()
        await client.says(b"hello")
        await (await free.accepts()).hears(b"hello")
    assert lab.plane.load().hosts[0].failed
    for sock in stuffing:
        sock.close()


async def test_the_member_hears_who_the_client_is_with_its_first_bytes(lab: Lab) -> None:
    endpoint = await lab.endpoint(child=True)
    at = await lab.serves(l4(endpoint))
    clients = [await lab.connects(), await lab.connects()]
    voices = [await endpoint.accepts(), await endpoint.accepts()]
    headers = []
    for client in clients:
        await client.says(b"hello")
    for voice in voices:
        headers.append(await voice.hears_proxy_header())
        await voice.hears(b"hello")
    assert {header.source for header in headers} == {client.name for client in clients}
    assert {header.destination for header in headers} == {at.sockaddr}


async def test_a_child_hears_its_parents_name_and_process_and_the_clusters_key(lab: Lab) -> None:
    endpoint = await lab.endpoint(child=True)
    await lab.serves(l4(endpoint))
    await lab.connects()
    header = await (await endpoint.accepts()).hears_proxy_header()
    assert header.tlvs == {PARENT: b"node-1", DATA_KEY_TLV: DATA_KEY, PROCESS: b"boot-1"}


async def test_an_endpoint_hears_nothing_but_the_client(lab: Lab) -> None:
    client, voice = await relayed(lab)
    await client.says(b"x")
    assert await voice.hears_count(1) == b"x"


async def test_a_connection_on_which_nothing_moves_is_cut(lab: Lab) -> None:
    client, voice = await relayed(lab, timeouts=Timeouts(idle=0.1))
    await client.hears_reset()
    await voice.hears_reset()
    assert lab.front.counters.connections == 0


async def test_a_connection_on_which_something_moves_is_not_cut(lab: Lab, clock: Clock) -> None:
    client, voice = await relayed(lab, timeouts=Timeouts(idle=5.0))
    for _ in range(12):
        await voice.says(b".")
        await client.hears(b".")
        clock.now += 4.0
        lab.plane.reactor.wheel.advance(lab.plane.reactor.look())
    await client.says(b"still here")
    await voice.hears(b"still here")


# Bulk.


def block(number: int) -> bytes:
    return number.to_bytes(8) * (MIB // 8)


async def say_blocks(voice: Voice, count: int) -> None:
    with trio.fail_after(180):
        for number in range(count):
            await voice.stream.send_all(block(number))
        await voice.ends()


async def hear_digest(voice: Voice) -> tuple[int, bytes]:
    digest, heard = hashlib.blake2b(), 0
    with trio.fail_after(180):
        while more := await voice.stream.receive_some(MIB):
            digest.update(more)
            heard += len(more)
    return heard, digest.digest()


def digest_of(count: int) -> tuple[int, bytes]:
    digest = hashlib.blake2b()
    for number in range(count):
        digest.update(block(number))
    return count * MIB, digest.digest()


async def test_bulk_arrives_whole_both_ways_at_once(lab: Lab) -> None:
    client, voice = await relayed(lab)
    heard: dict[str, tuple[int, bytes]] = {}

    async def hear(name: str, by: Voice) -> None:
        heard[name] = await hear_digest(by)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_blocks, client, 256)
        nursery.start_soon(say_blocks, voice, 256)
        nursery.start_soon(hear, "client", client)
        nursery.start_soon(hear, "member", voice)
    assert heard == {"client": digest_of(256), "member": digest_of(256)}
    await lab.until(lambda: lab.front.counters.connections == 0)
    load = lab.plane.load()
    assert (load.bytes_in, load.bytes_out) == (256 * MIB, 256 * MIB)


async def test_a_slow_reader_slows_its_peer_down_and_the_node_holds_little(lab: Lab) -> None:
    client, voice = await relayed(lab)
    client.listens_little()
    lab.background.start_soon(say_blocks, voice, 64)
    (pipe,) = await one_pipe(lab)
    held, heard, digest = [], 0, hashlib.blake2b()
    with trio.fail_after(90):
        while more := await client.stream.receive_some(64 * 1024 if heard < MIB else MIB):
            heard += len(more)
            digest.update(more)
            held.append(pipe.upstream.held + sum(map(len, pipe.client.backlog or ())))
            if heard < MIB:
                await trio.sleep(0.002)
    assert (heard, digest.digest()) == digest_of(64)
    assert max(held) <= MIB
    assert any(held)


async def one_pipe(lab: Lab) -> list[object]:
    await lab.until(lambda: len(lab.front.connections.relayed) == 1)
    return list(lab.front.connections.relayed)  # type: ignore[no-any-return]


async def test_small_talk_goes_on_after_bulk(lab: Lab) -> None:
    client, voice = await relayed(lab)
    lab.background.start_soon(client.stream.send_all, bytes(32 * MIB))
    await voice.hears_count(32 * MIB)
    for _ in range(3):
        await client.says(b"more?")
        await voice.hears(b"more?")
        await voice.says(b"no")
        await client.hears(b"no")


async def test_what_is_under_way_survives_both_half_closes(lab: Lab) -> None:
    """The endpoint ends first, then the client, with megabytes still on their way to the endpoint."""
    client, voice = await relayed(lab)
    voice.listens_little()
    lab.background.start_soon(say_blocks, client, 16)
    await trio.sleep(0.1)
    await voice.ends()
    await client.hears_end()
    assert await hear_digest(voice) == digest_of(16)


async def test_the_last_words_of_a_member_that_refuses_the_rest_arrive(lab: Lab) -> None:
    client, voice = await relayed(lab)
    with trio.move_on_after(0.2):
        await client.stream.send_all(bytes(32 * MIB))
    await voice.says(b"no more of that")
    await voice.leaves()
    await client.hears(b"no more of that")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(60):
        await client.stream.send_all(bytes(64 * MIB))


# Ejection.


# What this machine lacks, and connections that reach nobody.


async def test_a_connect_that_reached_itself_is_refused_and_goes_elsewhere(lab: Lab) -> None:
    dead, alive = await lab.nobody(), await lab.endpoint()
    await lab.serves(l4(dead, alive))
    reaching_itself(lab, dead)
    for _ in range(3):
        client = await lab.connects()
        voice = await alive.accepts()
        await client.says(b"hello")
        await voice.hears(b"hello")
    assert [load.availability for load in lab.front.registry.loads()] == ["ejected", "available"]
