"""A full node: idle connections give way, other clients are told at once, and nothing waits in silence."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio

from tests.dataplane.conftest import INNER, Lab, Log, l4, l4_parent, l7
from tierlb.dataplane import connection_cap
from tierlb.dataplane.connection_cap import ConnectionCap
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l7 import client as client_module
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Limits, Match, Respond, Timeouts
from tierlb.net.wheel import NEVER

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connection:
    """One that is idle since some time."""

    def __init__(self, front: "PlayedFront", since: float) -> None:
        self.front = front
        self.since = since
        self.yields = True

    def idle_since(self, now: float) -> float:
        self.front.looks += 1
        return self.since

    def give_way(self) -> bool:
        if self.yields:
            self.front.connections.remove(self)
            self.front.gone.append(self.since)
            self.front.counters.connections -= 1
        return self.yields


class PlayedFront:
    def __init__(self) -> None:
        self.counters = Counters()
        self.full = False
        self.connections: list[Connection] = []
        self.gone: list[float] = []
        self.turned: list[bool] = []
        self.looks = 0

    def holds(self, *since: float) -> None:
        self.connections += [Connection(self, each) for each in since]
        self.counters.connections = len(self.connections)

    def may_give_way(self) -> Iterator[Connection]:
        return iter(list(self.connections))

    def turn_away(self, sock: Any, *, at_once: bool, secured: bool) -> None:
        self.turned.append(at_once)


@pytest.fixture
def front() -> PlayedFront:
    return PlayedFront()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def cap(front: PlayedFront, log: Log) -> Iterator[ConnectionCap]:
    cap = ConnectionCap(front, log, descriptors=1024)
    cap.configure(4)
    yield cap
    cap.close()


def test_below_the_cap_everybody_is_admitted_and_nobody_gives_way(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(1.0, 2.0, 3.0)
    assert cap.admit(10.0)
    assert (front.gone, front.looks) == ([], 0)


def test_at_the_cap_the_longest_idle_gives_way_first(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(3.0, 1.0, NEVER, 2.0)
    for expected in ([1.0], [1.0, 2.0], [1.0, 2.0, 3.0]):
        assert cap.admit(10.0)
        assert front.gone == expected
        front.holds(NEVER)
    assert not cap.admit(10.1)
    assert front.counters.gave_way == 3


def test_one_that_was_used_since_the_walk_stays(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(1.0, 2.0, 3.0, 4.0)
    assert cap.admit(10.0)
    front.holds(NEVER)
    front.connections[0].since = 9.0
    assert cap.admit(10.0)
    assert front.gone == [1.0, 3.0]


def test_where_all_that_the_last_walk_found_were_used_since_there_is_another_walk(
    cap: ConnectionCap, front: PlayedFront
) -> None:
    front.holds(1.0, 2.0, 3.0, 4.0)
    assert cap.admit(10.0)
    for connection in front.connections:
        connection.since = 10.0
    front.holds(NEVER)
    assert cap.admit(14.0)
    assert front.gone == [1.0, 10.0]


def test_what_a_walk_found_does_not_outlast_the_shortage(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(1.0, 2.0, 3.0, 4.0)
    assert cap.admit(10.0)
    assert front.full, "all of them ask now and then"
    for connection in front.connections[1:]:
        connection.since = NEVER
    front.holds(NEVER)
    cap.tick(10.0 + connection_cap.OVER_AFTER_S)
    assert cap.admit(30.0)
    assert front.gone == [1.0, 2.0]
    assert not front.full, "most are silent now"


def test_one_that_turns_out_to_be_in_use_stays(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(1.0, 2.0, NEVER, NEVER)
    front.connections[0].yields = False
    assert cap.admit(10.0)
    assert front.gone == [2.0]


def test_walks_are_spaced_by_what_they_cost(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(*[NEVER] * 1000)
    for number in range(100):
        assert not cap.admit(10.0 + number * 1e-5)
    assert front.looks == 1000
    assert not cap.admit(10.0 + 1000 * connection_cap.WALK_S_PER_CONNECTION)
    assert front.looks == 2000


def test_descriptors_lower_the_cap_and_it_is_said(front: PlayedFront, log: Log) -> None:
    cap = ConnectionCap(front, log, descriptors=1024)
    cap.configure(10_000)
    cap.configure(10_000)
    assert (cap.cap, log.count("connections_capped")) == (448, 1)
    assert "descriptors allow 448 connections" in cap.shortages()[0]
    cap.configure(400)
    assert (cap.cap, cap.shortages()) == (400, ())
    cap.close()


def test_sessions_that_take_one_descriptor_each_are_twice_as_many(front: PlayedFront, log: Log) -> None:
    cap = ConnectionCap(front, log, 1024, 1)
    cap.configure(10_000)
    assert cap.cap == 896
    cap.close()


def test_a_burst_is_logged_once_with_its_counts(cap: ConnectionCap, front: PlayedFront, log: Log) -> None:
    front.holds(1.0, NEVER, NEVER, NEVER)
    front.counters.tallies.outside.in_flight = 2
    with socket.socket() as sock:
        assert cap.admit(10.0)
        front.holds(NEVER)
        for number in range(50):
            assert not cap.admit(10.0 + number / 10)
            cap.turn_away(sock.fileno(), 10.0 + number / 10, secured=False)
            cap.tick(10.0 + number / 10)
    assert log.count("connections_full") == 1
    assert front.full
    assert cap.shortages() == ("full: 4 of 4 connections, 50 turned away, 1 idle ones closed",)
    cap.tick(15.0 + connection_cap.CLOSE_AFTER_S)
    assert not front.full
    cap.tick(15.0 + connection_cap.OVER_AFTER_S)
    cap.tick(30.0)
    assert log.count("connections_full_ended") == 1
    assert cap.shortages() == ()
    assert not cap.admit(40.0)
    assert log.count("connections_full") == 2


def test_where_most_connections_are_silent_answers_close_none(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(NEVER, NEVER, NEVER, NEVER)
    front.counters.tallies.outside.in_flight = 1
    assert not cap.admit(10.0)
    assert not front.full
    front.counters.tallies.outside.in_flight = 2
    assert not cap.admit(11.0)
    assert front.full


def test_where_most_connections_are_silent_those_used_lately_stay(cap: ConnectionCap, front: PlayedFront) -> None:
    front.holds(9.0, NEVER, NEVER, NEVER)
    assert not cap.admit(10.0)
    front.holds(7.0)
    assert cap.admit(11.0)
    assert front.gone == [7.0]


# With a node.


async def test_kept_connections_give_way_to_new_ones_in_order(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=2)))
    first, second = await lab.connects(), await lab.connects()
    for client in (first, second):
        assert (await client.asks(GET)).status == 200
    third = await lab.connects()
    await first.hears_end()
    load = lab.plane.load()
    assert (load.connections, load.gave_way, load.turned_away) == (2, 1, 0)
    for client in (second, third):
        answer = await client.asks(GET)
        assert (answer.status, answer["connection"]) == (200, "close")
        await client.hears_end()


async def test_a_kept_connection_on_which_a_request_has_come_does_not_give_way(lab: Lab) -> None:
    """The newcomer and the request are there in one batch, the newcomer first."""
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=2)))
    asking, idle = await lab.connects(), await lab.connects()
    for client in (asking, idle):
        assert (await client.asks(GET)).status == 200
    with socket.create_connection(lab.at.sockaddr):
        asking.says_now(GET)
        assert (await asking.hears_message()).status == 200
        await idle.hears_end()


async def test_while_all_are_busy_newcomers_get_503_at_once_and_answers_close(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, limits=Limits(connections=2)))
    busy = [await lab.connects() for _ in range(2)]
    for client in busy:
        await client.says(GET)
    voices = [await endpoint.accepts() for _ in busy]
    for _ in range(3):
        refused = await lab.connects()
        answer = await refused.hears_message()
        assert (answer.status, answer["retry-after"], answer["connection"]) == (503, "1", "close")
        await refused.hears_end()
    for voice in voices:
        await voice.hears_head()
        await voice.says(OK)
    for client in busy:
        answer = await client.hears_message()
        assert (answer.status, answer["connection"]) == (200, "close")
        await client.hears_end()
    load = lab.plane.load()
    assert (load.connections, load.rejected, load.turned_away) == (0, 3, 3)
    assert lab.log.count("connections_full") == 1
    assert "3 turned away" in load.shortages[0]


async def test_a_crowd_that_has_not_asked_yet_does_not_push_out_its_own_members(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=3)))
    crowd = [await lab.connects() for _ in range(3)]
    await lab.until(lambda: lab.plane.load().connections == 3)
    assert (await (await lab.connects()).hears_message()).status == 503
    for client in crowd:
        assert (await client.asks(GET)).status == 200


@pytest.mark.parametrize("first", [b"", b"GET / HT"])
async def test_who_is_silent_or_slow_for_long_gives_way(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(client_module, "SILENT_S", 0.05)
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=1)))
    slow = await lab.connects()
    await slow.says(first)
    await lab.until(lambda: lab.plane.load().connections == 1)
    await trio.sleep(0.2)
    assert (await (await lab.connects()).asks(GET)).status == 200
    if first:
        assert (await slow.hears_message()).status == 503
    await slow.hears_end()


async def test_an_l4_parent_of_nodes_closes_the_quiet_and_spares_who_waits_for_an_answer(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlb.dataplane.pipe.QUIET_S", 0.05)
    endpoint = await lab.endpoint(child=True)
    await lab.serves(l4(endpoint, limits=Limits(connections=2)))
    waits, quiet = await lab.connects(), await lab.connects()
    first, second = await endpoint.accepts(), await endpoint.accepts()
    for client, voice in ((waits, first), (quiet, second)):
        await voice.hears_proxy_header()
        await client.says(GET)
        await voice.hears_head()
        await trio.sleep(0.1)
    await second.says(OK)
    assert (await quiet.hears_message()).status == 200
    await trio.sleep(0.2)
    await lab.connects()
    await endpoint.accepts()
    await quiet.hears_end()
    await first.says(OK)
    assert (await waits.hears_message()).status == 200


async def test_a_pure_tcp_tier_closes_newcomers_and_nobody_else(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlb.dataplane.pipe.QUIET_S", 0.0)
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, limits=Limits(connections=1)))
    first = await lab.connects()
    voice = await endpoint.accepts()
    await (await lab.connects()).hears_end()
    await voice.says(b"still here")
    await first.hears(b"still here")
    assert lab.plane.load().turned_away == 1


async def test_at_a_pure_tcp_tier_a_connection_gives_way_if_neither_side_has_said_anything_for_long(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlb.dataplane.pipe.QUIET_S", 0.0)
    monkeypatch.setattr("tierlb.dataplane.pipe.UNUSED_S", 0.0)
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, limits=Limits(connections=3)))
    clients = [await lab.connects() for _ in range(3)]
    voices = [await endpoint.accepts() for _ in clients]
    await clients[0].says(b"asks")
    await voices[0].hears(b"asks")
    await voices[1].says(b"greets")
    await clients[1].hears(b"greets")
    late = await lab.connects()
    await clients[2].hears_end()
    await lab.connects()
    await late.hears_end()
    for client, voice in zip(clients[:2], voices[:2], strict=True):
        await voice.says(b"still here")
        await client.hears(b"still here")


async def test_an_unused_connection_on_which_bytes_have_just_come_does_not_give_way(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlb.dataplane.pipe.UNUSED_S", 0.0)
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, limits=Limits(connections=1)))
    client = await lab.connects()
    voice = await endpoint.accepts()
    with socket.create_connection(lab.at.sockaddr):
        client.says_now(b"asks")
        await voice.hears(b"asks")
        await lab.until(lambda: lab.plane.load().turned_away == 1)


async def test_clients_of_a_parent_are_turned_away_too(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(attrs.evolve(l7(endpoint, limits=Limits(connections=1)), listeners=(INNER,)))
    client = await lab.connects()
    await client.says(l4_parent() + GET)
    await endpoint.accepts()
    late = await lab.connects()
    assert (await late.hears_message()).status == 503


async def test_before_the_first_byte_the_time_for_a_head_runs(lab: Lab) -> None:
    await lab.serves(attrs.evolve(l7(rules=HELLO, timeouts=Timeouts(head=0.1)), listeners=(INNER,)))
    client = await lab.connects()
    await client.says(l4_parent())
    await client.hears_end()
    assert lab.front.counters.rejected == 0


OUT_OF_DESCRIPTORS = """
import resource, socket, trio
from tests.dataplane.conftest import Lab, l7
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond, Limits

GET = b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"

async def main():
    async with trio.open_nursery() as nursery:
        lab = Lab(nursery)
        await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello")),), limits=Limits(connections=50)))
        clients = [socket.create_connection(lab.at.sockaddr, 5) for _ in range(4)]
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                held.append(socket.socket())
        except OSError:
            pass
        answers = []
        for client in clients:
            client.setblocking(False)
            with trio.fail_after(20):
                await trio.lowlevel.wait_readable(client)
            answers.append(client.recv(1000).split()[1])
        held.clear()
        late = socket.create_connection(lab.at.sockaddr, 5)
        late.setblocking(False)
        late.send(GET)
        with trio.fail_after(20):
            await trio.lowlevel.wait_readable(late)
        print(*answers, late.recv(1000).split()[1], lab.plane.load().turned_away, lab.log.count("connections_full"))
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def test_out_of_descriptors_clients_are_told_and_served_again_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["b'503'"] * 4 + ["b'200'", "4", "1"], done.stderr
