"""Connections that end politely, so that their clients come back through a parent to a better place."""

import math
from functools import partial

import pytest

from tests.dataplane.conftest import (
    ANY_PORT,
    INNER,
    Clock,
    Lab,
    Voice,
    l4_parent,
    l7,
    l7_parent,
)
from tests.dataplane.l7.conversations import introduced
from tierlb.balance.drain import GRACE_S, SPREAD_S
from tierlb.balance.guidance import Reason
from tierlb.dataplane.l7.pooled import IDLE_S
from tierlb.dataplane.l7.relocation import AGE_JITTER, LONGEST_AGE_S
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.topology import Admin, Timeouts

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENT = Timeouts(idle=1e6)


async def is_closed_with_its_answer(client: Voice, voice: Voice) -> bool:
    """Ask again, and whether the answer says goodbye and the end follows it."""
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK)
    answer = await client.hears_message()
    assert answer.status == 200
    if "connection" not in answer:
        return False
    assert answer["connection"] == "close"
    await client.hears_end()
    return True


async def stays_open(client: Voice, voice: Voice, clock: Clock, seconds: float) -> None:
    """Time passes, with a request now and then, so that the connection to the endpoint is not idle for too long."""
    steps = math.ceil(seconds / (IDLE_S / 2))
    for _ in range(steps):
        clock.now += seconds / steps
        assert not await is_closed_with_its_answer(client, voice)


async def test_a_connection_that_an_l4_parent_placed_ends_at_its_age(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(), timeouts=PATIENT)
    await stays_open(client, voice, clock, LONGEST_AGE_S * (1 - AGE_JITTER) - 1)
    clock.now += LONGEST_AGE_S * 2 * AGE_JITTER + 2
    assert await is_closed_with_its_answer(client, voice)


@pytest.mark.parametrize("parent", [b"", l7_parent()], ids=["a client", "an l7 parent"])
async def test_other_connections_are_kept_whatever_their_age(lab: Lab, clock: Clock, parent: bytes) -> None:
    client, voice = await introduced(lab, parent, timeouts=PATIENT) if parent else await direct(lab, timeouts=PATIENT)
    await stays_open(client, voice, clock, 3 * LONGEST_AGE_S)


async def direct(lab: Lab, **options: object) -> tuple[Voice, Voice]:
    """As `introduced`, for a client that comes without a parent."""
    client, endpoint = await lab.converses(**options)
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    return client, voice


async def test_a_connection_that_a_former_parent_placed_ends_soon_and_politely(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(name="edge-1", boot_id="b1"), timeouts=PATIENT)
    (endpoint,) = lab.endpoints
    again = partial(l7, endpoint, listener=INNER, timeouts=PATIENT)
    lab.plane.apply(again(revision=2, parents=("edge-1/b1", "edge-1/b2")))
    clock.now += SPREAD_S
    assert not await is_closed_with_its_answer(client, voice)
    lab.plane.apply(again(revision=3, parents=("edge-1/b2",)))
    clock.now += SPREAD_S
    assert await is_closed_with_its_answer(client, voice)


async def test_a_former_node_further_above_counts_as_well(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(boot_id="b1", way=b"top-1/b0"), timeouts=PATIENT)
    again = partial(l7, *lab.endpoints, listener=INNER, timeouts=PATIENT)
    lab.plane.apply(again(revision=2, parents=("edge-1/b1", "top-1/b0")))
    clock.now += SPREAD_S
    assert not await is_closed_with_its_answer(client, voice)
    lab.plane.apply(again(revision=3, parents=("edge-1/b1",)))
    clock.now += SPREAD_S
    assert await is_closed_with_its_answer(client, voice)


async def test_what_a_former_parent_still_places_ends_with_its_first_answer(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(boot_id="b2"), timeouts=PATIENT, parents=("edge-1/b1", "edge-1/b2"))
    again = partial(l7, *lab.endpoints, listener=INNER, timeouts=PATIENT)
    lab.plane.apply(again(revision=2, parents=("edge-1/b2",)))
    late = await lab.connects()
    await late.says(l4_parent(boot_id="b1"))
    assert await is_closed_with_its_answer(late, voice)
    assert not await is_closed_with_its_answer(client, voice)
    lab.plane.apply(again(revision=3, parents=("edge-1/b1", "edge-1/b2")))
    back = await lab.connects()
    await back.says(l4_parent(boot_id="b1"))
    assert not await is_closed_with_its_answer(back, voice)


async def test_a_parent_that_the_snapshot_does_not_know_yet_may_place_connections(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent(boot_id="new"), timeouts=PATIENT, parents=("edge-1/b1",))
    assert not await is_closed_with_its_answer(client, voice)


async def test_a_connection_of_a_former_parent_on_which_nothing_is_asked_ends_too(lab: Lab, clock: Clock) -> None:
    client, _ = await introduced(lab, l4_parent(), timeouts=PATIENT)
    lab.plane.apply(l7(*lab.endpoints, listener=INNER, timeouts=PATIENT, revision=2))
    clock.now += SPREAD_S + GRACE_S + 0.5
    await client.hears_end()


@pytest.mark.parametrize(
    "parent", [b"", l4_parent(), l7_parent()], ids=["a client", "through an l4 parent", "an l7 parent"]
)
@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINTENANCE])
async def test_in_drain_all_connections_end_soon_and_politely(
    lab: Lab, clock: Clock, parent: bytes, admin: Admin
) -> None:
    client, voice = await introduced(lab, parent, timeouts=PATIENT) if parent else await direct(lab, timeouts=PATIENT)
    drained = {"parents": ("edge-1/boot",), "admin": admin}
    listener = INNER if parent else ANY_PORT
    lab.plane.apply(l7(*lab.endpoints, listener=listener, timeouts=PATIENT, revision=2, **drained))
    clock.now += SPREAD_S
    assert await is_closed_with_its_answer(client, voice)


async def test_in_drain_a_connection_on_which_nothing_is_asked_ends_after_a_moment(lab: Lab, clock: Clock) -> None:
    client, _ = await direct(lab, timeouts=PATIENT)
    lab.plane.apply(l7(*lab.endpoints, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += SPREAD_S + GRACE_S + 0.5
    await client.hears_end()


async def test_an_answer_that_had_promised_to_stay_is_followed_by_a_moment_for_one_more(lab: Lab, clock: Clock) -> None:
    client, voice = await direct(lab, timeouts=PATIENT)
    await client.says(GET)
    await voice.hears_head()
    await voice.says(OK[:-1])
    assert "connection" not in await client.hears_head()
    lab.plane.apply(l7(*lab.endpoints, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += SPREAD_S
    await voice.says(OK[-1:])
    await client.hears(b"ok")
    await client.hears_nothing()
    assert await is_closed_with_its_answer(client, voice)


@pytest.mark.parametrize("parent", [b"", l7_parent()], ids=["a client", "an l7 parent"])
async def test_whoever_is_a_parent_now_other_connections_stay(lab: Lab, clock: Clock, parent: bytes) -> None:
    client, voice = await introduced(lab, parent, timeouts=PATIENT) if parent else await direct(lab, timeouts=PATIENT)
    listener = INNER if parent else ANY_PORT
    lab.plane.apply(l7(*lab.endpoints, listener=listener, timeouts=PATIENT, revision=2, parents=("edge-2/b",)))
    clock.now += 10 * SPREAD_S
    lab.plane.reactor.wheel.advance(clock.now)
    assert not await is_closed_with_its_answer(client, voice)


def grows_hot(lab: Lab, clock: Clock) -> None:
    """The node is at 90 %, its siblings at 30 %, and a second passes."""
    lab.upkeep.account.subtree = lambda now, draining, unfound: SubtreeLoad(utilisation=0.9)
    lab.plane.note_guidance("edge-1", Guidance(0.3))
    for _ in range(2):
        clock.now += 1.0
        lab.ticks()


async def test_a_node_hotter_than_its_siblings_closes_a_few_connections_politely(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent())
    clients = [client]
    for _ in range(9):
        clients.append(await lab.connects())
        await clients[-1].says(l4_parent())
        assert not await is_closed_with_its_answer(clients[-1], voice)
    grows_hot(lab, clock)
    owed = int(lab.front.relocation.closing.rate_per_s)
    assert 0 < owed < len(clients)
    closed = [await is_closed_with_its_answer(client, voice) for client in clients]
    assert closed == [True] * owed + [False] * (len(clients) - owed)
    assert lab.front.relocation.movable == len(clients) - owed


async def test_a_slow_node_closes_those_first_that_wait_and_ask_most_and_keeps_one(lab: Lab, clock: Clock) -> None:
    first, endpoint = await lab.converses(listener=INNER)
    await first.says(l4_parent() + GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await first.hears_message()
    second = await lab.connects()
    await second.says(l4_parent())
    for _ in range(3):
        assert not await is_closed_with_its_answer(second, voice)
    lab.front.relocation.closing.set_rate(clock.now, 1.0, Reason.SLOW)
    clock.now += 10.0
    lab.front.move(clock.now)
    assert not await is_closed_with_its_answer(first, voice), "it did not wait, so it was not chosen"
    for client in (first, second):
        await client.says(GET)
    heads = [voice, await endpoint.accepts()]
    for each in heads:
        await each.hears_head()
    lab.front.relocation.closing.set_rate(clock.now, 100.0, Reason.SLOW)
    clock.now += 1.0
    lab.front.move(clock.now)
    for each in heads:
        await each.says(OK)
    answers = [await client.hears_message() for client in (first, second)]
    assert ["connection" in answer for answer in answers] == [False, True]


async def test_a_node_as_hot_as_its_siblings_closes_nothing(lab: Lab, clock: Clock) -> None:
    client, voice = await introduced(lab, l4_parent())
    grows_hot(lab, clock)
    lab.plane.note_guidance("edge-1", Guidance(0.95, all_hot=True))
    clock.now += 1.0
    lab.ticks()
    clock.now += IDLE_S / 2
    assert not await is_closed_with_its_answer(client, voice)


@pytest.mark.parametrize("parent", [b"", l7_parent()], ids=["a client", "an l7 parent"])
async def test_a_hot_node_leaves_connections_alone_that_nobody_would_place_better(
    lab: Lab, clock: Clock, parent: bytes
) -> None:
    client, voice = await introduced(lab, parent) if parent else await direct(lab)
    for _ in range(10):
        grows_hot(lab, clock)
    assert lab.front.relocation.movable == 0
    lab.front.relocation.closing.set_rate(clock.now, 100.0)
    clock.now += 1.0
    assert not await is_closed_with_its_answer(client, voice)
