"""Conversations that tests of several modules of l7 begin with."""

import socket

import pytest
import trio
import trio.testing

from tests.dataplane.conftest import INNER, Clock, Lab, Voice, l4_parent, l7
from tierlb.model.topology import DRAIN_S, Timeouts
from tierlb.net.wheel import NEVER

PATIENT = Timeouts(response=1000.0, stream=1000.0, idle=1000.0)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def exchange(lab: Lab, request: bytes, answer: bytes) -> tuple[Voice, Voice]:
    """One request asked, heard by its endpoint and answered; the client has heard nothing yet."""
    client, endpoint = await lab.converses()
    await client.says(request)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(answer)
    return client, voice


def parked(lab: Lab) -> tuple[int, int, int, int, int]:
    """At endpoints, in what its parent is told of its own, in what all are told, in the node's own figures, and at its
    endpoints there."""
    load = lab.plane.load()
    at_members = sum(host.parked for host in lab.front.registry.hosts)
    tallies = lab.front.counters.tallies
    assert tallies.outside.parked == 0
    figures = (lab.plane.echo("edge-1").parked, lab.plane.subtree().parked, load.parked)
    return (at_members, *figures, sum(endpoint.parked for endpoint in load.hosts))


async def begins(lab: Lab, request: bytes, *, endpoints: int = 1, long: bool = False) -> tuple[Voice, Voice]:
    """A request from an l4 parent, heard by its endpoint. `long`: most of its kind are parked."""
    made = [await lab.endpoint() for _ in range(endpoints)]
    await lab.serves(l7(*made, listener=INNER, timeouts=PATIENT))
    kinds = lab.front.registry.kinds
    kinds.long[:] = [long] * len(kinds.long)
    client = await lab.connects()
    await client.says(l4_parent() + request)
    _, voice = await lab.accepts(*made)
    await voice.hears_head()
    return client, voice


def is_parked_by_a_tick(lab: Lab, clock: Clock) -> None:
    for host in lab.front.registry.hosts:
        host.estimate.speed.work.usual_s = 0.01
    clock.now += 1
    lab.ticks()
    assert parked(lab) == (1,) * 5


def backlog_bytes(lab: Lab) -> int:
    """What the node holds in its memory for all its clients and endpoints."""
    streams = [
        *lab.front.clients,
        *(c.downstream.exchange.connection for c in lab.front.clients if c.downstream.exchange),
    ]
    return sum(len(piece) for stream in streams if stream is not None for piece in stream.backlog or ())


async def say_much(voice: Voice, head: bytes, size: int) -> None:
    await voice.says(head)
    block = bytes(range(256)) * 4096
    with trio.fail_after(30):
        for _ in range(size // len(block)):
            await voice.stream.send_all(block)


class Looks:
    """Stands in for looking at a connection: counts, and finds what the test sets."""

    def __init__(self) -> None:
        self.count = 0
        self.found = NEVER

    def __call__(self, sock: socket.socket) -> float:
        self.count += 1
        return self.found


@pytest.fixture
def looks(lab: Lab) -> Looks:
    lab.next_look_s = looks = Looks()
    return looks


def passes(lab: Lab, clock: Clock, seconds: float) -> None:
    """So much time, without the reactor's having to wait for it."""
    clock.now += seconds
    lab.plane.reactor.wheel.advance(lab.plane.reactor.look())


async def introduced(lab: Lab, header: bytes, **options: object) -> tuple[Voice, Voice]:
    """A parent's connection that has served one request, and the endpoint's end of it."""
    client, endpoint = await lab.converses(listener=INNER, **options)
    await client.says(header + GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    return client, voice


async def drains(lab: Lab, clock: Clock, after_s: float = DRAIN_S) -> None:
    """The node is asked to end, and its drain time passes."""
    lab.plane.drain()
    clock.now += after_s
