"""What comes before the first host of a destination waits for it; what comes when hosts are gone does not."""

import pytest
import trio

from tests.dataplane.conftest import INNER, Clock, FakeEndpoint, Lab, l4, l4_parent, l7, send
from tests.dataplane.l7.test_explained import ASKING, explains, lines
from tierlb.dataplane import hold
from tierlb.dataplane.hold import STARTING_S, Hold
from tierlb.dataplane.l7.front import L7Front
from tierlb.model.snapshot import Destination, HostSpec, Rule, Send, Snapshot
from tierlb.model.topology import Match

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any test lasts, so what is answered was not answered because the time was over."""
    monkeypatch.setattr(hold, "HOLD_S", 600.0)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "HOLD_S", 0.05)


def held_by(lab: Lab) -> Hold:
    front = lab.front
    return front.exchanges.hold if isinstance(front, L7Front) else front.connections.hold


async def until_held(lab: Lab, count: int = 1) -> None:
    await lab.until(lambda: len(held_by(lab).items) == count)


async def test_a_connection_waits_for_the_first_host(lab: Lab) -> None:
    await lab.serves(l4())
    clients = [await lab.connects() for _ in range(3)]
    await clients[0].says(b"hello")
    await until_held(lab, 3)
    assert lab.front.counters.connections == 3, "the cap on connections bounds what is held"
    assert lab.log.events.count(("clients_held", {"waiting_for": "app", "at_most_s": 600.0})) == 1
    endpoint = await lab.endpoint()
    lab.plane.apply(l4(endpoint, revision=2))
    voices = [await endpoint.accepts() for _ in clients]
    await clients[1].says(b"hello")
    await clients[2].says(b"hello")
    for voice in voices:
        await voice.hears(b"hello")
    assert not held_by(lab).items


async def test_a_request_waits_for_the_first_host_with_its_body(lab: Lab) -> None:
    await lab.serves(l7())
    asking, sending = await lab.connects(), await lab.connects()
    await asking.says(GET)
    await sending.says(POST % 100_000, b"x" * 40_000)
    await until_held(lab, 2)
    endpoint = await lab.endpoint()
    lab.plane.apply(l7(endpoint, revision=2))
    for _ in range(2):
        voice = await endpoint.accepts()
        head = await voice.hears_head()
        if head.first.startswith("POST"):
            await sending.says(b"x" * 60_000)
            assert await voice.hears_count(100_000) == b"x" * 100_000
        await voice.says(OK)
    assert [(await client.hears_message()).status for client in (asking, sending)] == [200, 200]
    assert (lab.front.counters.errors, lab.front.counters.tallies.total().in_flight) == (0, 0)


@pytest.mark.parametrize("request_head", [GET, ASKING])
async def test_a_request_that_was_held_stays_within_the_split_of_its_own_rule(lab: Lab, request_head: bytes) -> None:
    """Another rule splits traffic between the same destination and one that this request must not reach."""
    other = await lab.endpoint(target="other")

    def revision(number: int, *endpoints: FakeEndpoint) -> Snapshot:
        app, apart = send(*endpoints).destinations[0], Destination(1, ("other",), (other.spec,))
        rules = (Rule(Match(path="/both"), Send((app, apart))), Rule(Match(), Send((app,))))
        return l7(rules=rules, revision=number)

    await lab.serves(revision(1))
    explains(lab)
    client = await lab.connects()
    await client.says(request_head)
    await until_held(lab)
    lab.plane.apply(revision(2, await lab.nobody()))
    assert (await client.hears_message()).status == 502
    await other.is_left_alone()


async def test_a_request_that_was_held_may_go_to_all_shares_of_its_own_rule(lab: Lab) -> None:
    """Another rule, which comes first, has one of these destinations alone."""
    other = await lab.endpoint(target="other")

    def revision(number: int, *endpoints: FakeEndpoint, apart: tuple[HostSpec, ...] = ()) -> Snapshot:
        (app,) = send(*endpoints).destinations
        split = Send((app, Destination(0.001, ("other",), apart)))
        return l7(rules=(Rule(Match(path="/app"), Send((app,))), Rule(Match(), split)), revision=number)

    await lab.serves(revision(1))
    client = await lab.connects()
    await client.says(GET)
    await until_held(lab)
    lab.plane.apply(revision(2, await lab.nobody(), apart=(other.spec,)))
    voice = await other.accepts()
    await voice.hears_head()
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


async def test_a_connection_that_waited_in_vain_is_closed(lab: Lab, impatience: None) -> None:
    await lab.serves(l4())
    await (await lab.connects()).hears_end()
    assert (lab.plane.load().errors, lab.front.counters.connections) == (1, 0)


async def test_a_request_that_waited_in_vain_is_503(lab: Lab, impatience: None) -> None:
    await lab.serves(l7())
    client = await lab.connects()
    answer = await client.asks(GET)
    assert (answer.status, answer["retry-after"]) == (503, "1")
    assert (await client.asks(GET)).status == 503, "the connection stays"


async def test_where_hosts_were_nobody_waits(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    lab.plane.apply(l7(revision=2))
    assert (await (await lab.connects()).asks(GET)).status == 503


async def test_where_hosts_cannot_be_reached_nobody_waits(lab: Lab) -> None:
    await lab.serves(l7(await lab.nobody()))
    assert (await (await lab.connects()).asks(GET)).status == 502
    await lab.serves(l4(await lab.nobody()))
    await (await lab.connects()).hears_end()


async def test_a_destination_that_stays_empty_is_not_waited_for(lab: Lab, clock: Clock) -> None:
    await lab.serves(l7())
    clock.now += STARTING_S + 1
    lab.ticks()
    assert (await (await lab.connects()).asks(GET)).status == 503


async def test_a_destination_that_comes_later_has_its_time_from_then_on(lab: Lab, clock: Clock) -> None:
    await lab.serves(l7(rules=(Rule(Match(path="/none"), l7().rules[0].action),)))
    clock.now += STARTING_S + 1
    lab.ticks()
    (destination,) = l7().rules[0].action.destinations
    held_by(lab).note([destination])
    assert not held_by(lab).applies(destination, clock.now)
    other = type(destination)(1, ("other",), ())
    held_by(lab).note([other])
    assert held_by(lab).applies(other, clock.now)


async def test_a_client_that_leaves_while_it_is_held_is_forgotten(lab: Lab) -> None:
    await lab.serves(l7())
    client = await lab.connects()
    await client.says(GET)
    await until_held(lab)
    client.resets()
    await lab.until(lambda: lab.front.counters.connections == 0)
    endpoint = await lab.endpoint()
    lab.plane.apply(l7(endpoint, revision=2))
    await lab.until(lambda: not held_by(lab).items)
    await endpoint.is_left_alone()
    assert lab.front.counters.tallies.total().in_flight == 0


async def test_a_connection_that_is_held_when_the_node_drains_is_still_passed_on(lab: Lab) -> None:
    await lab.serves(l4())
    client = await lab.connects()
    await client.says(b"1")
    await until_held(lab)
    lab.plane.drain()
    assert not lab.front.drained
    endpoint = await lab.endpoint()
    lab.plane.apply(l4(endpoint, revision=2))
    await (await endpoint.accepts()).hears(b"1")


@pytest.mark.parametrize("kind", [l4, l7])
async def test_what_is_held_ends_with_the_node(lab: Lab, kind: object) -> None:
    async with trio.open_nursery() as nursery:
        lab.nursery = nursery
        await lab.serves(kind())  # type: ignore[operator]
        client = await lab.connects()
        await client.says(GET)
        await until_held(lab)
        nursery.cancel_scope.cancel()
    await client.hears_no_word()


async def test_a_connection_of_a_parent_waits_too(lab: Lab) -> None:
    await lab.serves(l4(listener=INNER))
    client = await lab.connects()
    await client.says(l4_parent(), b"hello")
    await until_held(lab)
    endpoint = await lab.endpoint()
    lab.plane.apply(l4(endpoint, listener=INNER, revision=2))
    await (await endpoint.accepts()).hears(b"hello")


async def test_an_explanation_tells_the_choice_that_was_made_in_the_end(lab: Lab) -> None:
    await lab.serves(l7())
    explains(lab)
    client = await lab.connects()
    await client.says(ASKING)
    await until_held(lab)
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    lab.plane.apply(l7(endpoint, revision=2))
    (line,) = lines(await client.hears_message())
    assert line["chose"] == endpoint.spec.name
