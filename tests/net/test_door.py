"""Strangers are bounded, and nobody who is known or new has to wait for them."""

import subprocess
import sys

import attrs
import pytest
import trio

from tierlb.net import door as door_module
from tierlb.net.door import Door

DEADLINE_S = 60.0


@attrs.define
class House:
    """A door that says hello to whoever says so; `known` are those who said "settle"."""

    port: int
    crashes: list
    dropped: list
    door: Door | None = None
    streams: list = attrs.field(factory=list)

    async def come(self, host="127.0.0.1"):
        self.streams.append(await trio.open_tcp_stream("127.0.0.1", self.port, local_address=host))
        return self.streams[-1]

    def leave(self):
        for stream in self.streams:
            stream.socket.close()


async def attend(visit):
    async with visit.stream as stream:
        while word := await stream.receive_some(100):
            match word:
                case b"settle":
                    visit.settle()
                case b"unsettle":
                    visit.unsettle()
                case b"crash":
                    raise ValueError("a bug")
                case b"flood":
                    with trio.CancelScope(shield=True):
                        await stream.send_all(bytes(100_000_000))
            await stream.send_all(b"hello")


async def attend_quietly(visit):
    try:
        await attend(visit)
    except (trio.ClosedResourceError, trio.BrokenResourceError):
        return


@pytest.fixture
async def house(nursery):
    crashes, dropped = [], []
    door = Door(crashes.append, dropped.append, most_strangers=3)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(door.serve, listeners, attend_quietly)
    house = House(listeners[0].socket.getsockname()[1], crashes, dropped, door)
    yield house
    house.leave()


async def hello(stream, word=b"hi"):
    with trio.fail_after(DEADLINE_S):
        await stream.send_all(word)
        return await stream.receive_some(100)


async def is_over(stream):
    with trio.fail_after(DEADLINE_S):
        try:
            return await stream.receive_some(100) == b""
        except trio.BrokenResourceError:
            return True


async def test_the_oldest_stranger_gives_way(house):
    streams = [await house.come() for _ in range(3)]
    for stream in streams:
        assert await hello(stream) == b"hello"
    late = await house.come()
    assert await hello(late) == b"hello"
    assert await is_over(streams[0])
    assert await hello(streams[1]) == b"hello"
    assert house.dropped == ["127.0.0.1"]


async def test_who_is_known_never_gives_way_until_it_is_a_stranger_again(house):
    known = await house.come()
    assert await hello(known, b"settle") == b"hello"
    for _ in range(10):
        assert await hello(await house.come()) == b"hello"
    assert await hello(known, b"unsettle") == b"hello"
    for _ in range(3):
        assert await hello(await house.come()) == b"hello"
    assert await is_over(known)


async def test_an_address_with_many_strangers_does_not_push_out_those_of_others(house):
    other = await house.come("127.0.0.2")
    assert await hello(other) == b"hello"
    for _ in range(20):
        assert await hello(await house.come()) == b"hello"
    assert await hello(other) == b"hello"
    assert set(house.dropped) == {"127.0.0.1"}


async def test_an_error_of_one_connection_ends_only_that(house):
    other, bad = await house.come(), await house.come()
    assert await hello(other) == b"hello"
    assert await hello(bad, b"crash") == b""
    assert await hello(other) == b"hello"
    assert [str(error) for error in house.crashes] == ["a bug"]


async def test_one_that_does_not_read_gives_way_too(house):
    slow = await house.come()
    await slow.send_all(b"flood")
    with trio.fail_after(DEADLINE_S):
        assert await slow.receive_some(1)
        first = next(iter(house.door.strangers))
        for _ in range(3):
            assert await hello(await house.come()) == b"hello"
        while first.stream.socket.fileno() >= 0:  # noqa: ASYNC110 (the kernel's buffers are in between)
            await trio.sleep(0.005)
    assert house.crashes == []


async def test_places_are_free_again_when_strangers_left(house):
    for _ in range(5):
        async with await house.come() as stream:
            assert await hello(stream) == b"hello"
    with trio.fail_after(DEADLINE_S):
        while house.door.strangers:  # noqa: ASYNC110
            await trio.sleep(0.005)
    assert house.dropped == []


async def test_an_error_is_raised_where_nobody_takes_it():
    door = Door()
    with pytest.raises(ExceptionGroup):  # noqa: PT012 (the nursery is what raises)
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(door.serve, listeners, attend)
            async with await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1]) as stream:
                await hello(stream, b"crash")


NO_DESCRIPTORS = """
import os, resource, sys
import trio
from tierlb.net import door as door_module
from tierlb.net.door import Door

async def attend(visit):
    async with visit.stream as stream:
        while word := await stream.receive_some(100):
            if word == b"settle":
                visit.settle()
            await stream.send_all(b"hello")

async def quietly(visit):
    try:
        await attend(visit)
    except (trio.ClosedResourceError, trio.BrokenResourceError):
        pass

async def main():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Door().serve, listeners, quietly)
        await trio.testing.wait_all_tasks_blocked()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = []
        try:
            while True: held.append(os.dup(0))
        except OSError: pass
        for _ in range(int(sys.argv[1])): os.close(held.pop())
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.sleep_forever()

import trio.testing
trio.run(main)
"""


@pytest.mark.parametrize(("free", "word"), [(10, b"hi"), (0, b"settle")], ids=["strangers hold all", "none is left"])
async def test_whoever_comes_is_served_when_descriptors_have_run_out(free, word):
    """In a process of its own. In the second case only the reserve is left, of which the first comers use some."""
    argv = [sys.executable, "-c", NO_DESCRIPTORS, str(free)]
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            line = b""
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
            house = House(int(line), [], [])
            for _ in range(40 if free else 0):
                await house.come()
            for _ in range(3):
                assert await hello(await house.come(), word) == b"hello"
            house.leave()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def test_a_visit_ends_when_its_time_is_over_even_if_its_task_shields_itself(house, monkeypatch):
    monkeypatch.setattr(door_module, "SWEEP_EVERY_S", 0.01)
    slow, other = await house.come(), await house.come()
    await slow.send_all(b"flood")
    assert await hello(other) == b"hello"
    with trio.fail_after(DEADLINE_S):
        assert await slow.receive_some(1)
        first = next(iter(house.door.visits & set(list(house.door.strangers)[:1])))
        first.allow(0.05)
        while first in house.door.visits:  # noqa: ASYNC110
            await trio.sleep(0.005)
    assert await hello(other) == b"hello"
