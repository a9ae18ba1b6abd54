"""The l7 front: rules that answer here, splits, trust, request ids, draining, snapshots that change."""

import collections
from functools import partial

import attrs
import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, INNER, Clock, Lab, l7, l7_parent, send
from tests.dataplane.l7.conversations import drains
from tierlb.balance.drain import GRACE_S, SPREAD_S
from tierlb.balance.kind_places import MOST_KINDS, OTHER_KINDS
from tierlb.balance.kinds import KEPT_FROM, KIND_SWEEP_S
from tierlb.dataplane.draining import DRAIN_CHECK_S
from tierlb.model.snapshot import Rule
from tierlb.model.topology import DRAIN_S, Admin, Match, Orca, Redirect, Respond, Timeouts
from tierlb.net.asked import asked
from tierlb.net.beat import BEAT_S
from tierlb.net.peer_liveness import LOOK_S
from tierlb.wire.orca import OrcaBook

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = ("127.0.0.0/8",)
POST_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
PATIENT = Timeouts(*[1000.0] * 5)
HELLO = (Rule(Match(), Respond(200, "hello\n")),)


async def test_a_kind_whose_place_was_given_away_is_not_taken_for_another(lab: Lab) -> None:
    """Neither while it is under way nor when it comes again, though its head is remembered."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    client, kinds = await lab.connects(), lab.front.registry.kinds
    await client.says(GET)
    voice = await endpoint.accepts()
    for _ in range(3):
        await voice.hears_head()
        await voice.says(OK)
        await client.hears_message()
        await client.says(GET)
    await voice.hears_head()
    assert lab.front.config.books[0].known
    (exchange,) = [each.downstream.exchange for each in lab.front.clients]
    before, now = exchange.ticket.kind.number, lab.front.reactor.now
    for key in range(MOST_KINDS - 2):
        kinds.judge({kinds.number(key): [0.01] * KEPT_FROM})
    assert kinds.number("waits for a place") == OTHER_KINDS
    kinds.learn(now + KIND_SWEEP_S)
    assert before != exchange.ticket.kind.number == OTHER_KINDS
    assert lab.front.config.books[0].plan(GET).kind.number == before


# Who the client is.

CLAIMS = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: shop\r\nX-Request-Id: given\r\nForwarded: for=192.0.2.3\r\n\r\n"
)


async def test_the_request_says_through_whom_it_came(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET.replace(b"\r\n\r\n", b"\r\nVia: 1.0 before\r\n\r\n"))
    request = await (await endpoint.accepts()).hears_head()
    assert sorted(request.all("via")) == ["1.0 before", "1.1 tierlb"]


async def test_what_concerns_one_hop_does_not_pass_either_way(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"TE: gzip\r\nProxy-Connection: keep-alive\r\nX-End: 2\r\n\r\n"
    )
    voice = await endpoint.accepts()
    request = await voice.hears_head()
    assert [name for name in ("connection", "x-hop", "keep-alive", "te", "proxy-connection") if name in request] == []
    assert request["x-end"] == "2"
    await voice.says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"X-End: 2\r\n\r\n"
    )
    answer = await client.hears_message()
    assert [name for name in ("connection", "x-hop", "keep-alive") if name in answer] == []
    assert answer["x-end"] == "2"


# Its own load, for a parent that reads ORCA.


@pytest.mark.parametrize("form", Orca)
async def test_a_node_says_its_load_with_each_answer_where_the_snapshot_says_so(
    lab: Lab, clock: Clock, form: Orca
) -> None:
    client, endpoint = await lab.converses(orca=form)
    voice = None
    for _ in range(30):
        await client.says(GET)
        voice = voice or await endpoint.accepts()
        await voice.hears_head()
        clock.now += 0.05
        lab.ticks()
        await voice.says(OK.replace(b"\r\n\r\n", b"\r\nEndpoint-Load-Metrics: TEXT rps_fractional=7\r\n\r\n"))
        answer = await client.hears_message()
    said = answer["endpoint-load-metrics"]
    assert said.startswith(form.value.upper() + " ")
    report = OrcaBook().read(said.encode())
    assert report is not None
    assert report.rps == pytest.approx(20, rel=0.1)
    assert report.busy > 0


SAID = b"endpoint-load-metrics: TEXT rps_fractional=1.0\r\n"


async def test_answers_of_its_own_say_the_load_too(lab: Lab, clock: Clock, at_once: None) -> None:
    rules = (
        Rule(Match(path="/respond"), Respond(200, "hello")),
        Rule(Match(path="/redirect"), Redirect("https://{host}/")),
        Rule(Match(path="/nobody"), send()),
    )
    await lab.serves(l7(rules=rules))
    lab.ticks()
    lab.front.load_field = SAID
    client = await lab.connects()
    for path, status in [(b"/respond", 200), (b"/redirect", 308), (b"/nobody", 503), (b"/unknown", 404)]:
        answer = await client.asks(GET.replace(b"/ ", path + b" "))
        assert (answer.status, answer["endpoint-load-metrics"]) == (status, "TEXT rps_fractional=1.0")


async def test_without_the_snapshots_word_no_load_is_said(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.ticks()
    await voice.says(OK)
    assert "endpoint-load-metrics" not in await client.hears_message()


# Draining.


async def test_drain_closes_idle_connections_and_ends_the_run(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    lab.plane.drain()
    await client.hears_end()
    await voice.hears_end()


async def test_drain_finishes_what_is_under_way_and_says_close(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.plane.drain()
    await client.hears_nothing()
    await voice.says(OK)
    answer = await client.hears_message()
    assert (answer["connection"], answer.body) == ("close", b"ok")
    await client.hears_end()


async def test_drain_closes_behind_an_answer_whose_head_had_promised_to_stay(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK[:-1])
    assert "connection" not in await client.hears_head()
    lab.plane.drain()
    await voice.says(OK[-1:])
    assert await client.hears_rest() == b"ok"


async def test_a_request_without_an_answer_at_the_deadline_gets_one(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT)
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await drains(lab, clock, 0.9 * DRAIN_S)
    await client.hears_nothing()
    clock.now += 0.2 * DRAIN_S
    answer = await client.hears_message()
    assert (answer.status, answer["connection"], answer["retry-after"]) == (503, "close", "1")
    await client.hears_end()
    await voice.hears_end()
    assert ("drain_deadline_reached", {"requests": 1, "tunnels": 0, "connections": 0}) in lab.log.events


async def test_a_head_that_has_only_begun_at_the_deadline_is_answered(lab: Lab, clock: Clock) -> None:
    client, _ = await lab.converses(timeouts=PATIENT)
    await client.says(GET[:9])
    await lab.until(lambda: any(each.in_head for each in lab.front.clients))
    await drains(lab, clock)
    assert (await client.hears_message()).status == 503


async def test_a_body_that_is_still_coming_at_the_deadline_is_answered(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT, drain_s=LOOK_S / 2)
    await client.says(POST_HEAD % 10, b"12345")
    await (await endpoint.accepts()).hears_up_to(b"12345")
    await drains(lab, clock, LOOK_S / 2)
    assert (await client.hears_message()).status == 503


@pytest.mark.parametrize(
    ("version", "head", "ends"),
    [
        (b"1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "short"),
        (b"1.1", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "short"),
        (b"1.0", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "reset"),
        (b"1.0", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "short"),
    ],
)
async def test_an_answer_that_is_cut_at_the_deadline_does_not_look_whole(
    lab: Lab, clock: Clock, version: bytes, head: bytes, ends: str
) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT)
    await client.says(GET.replace(b"1.1", version))
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(head + b"half")
    await client.hears_up_to(b"half")
    await drains(lab, clock)
    if ends == "reset":
        await client.hears_reset()
    else:
        assert await client.hears_rest() in (b"", b"\r\n")
    assert lab.host(endpoint).errors == 0


async def test_the_drain_time_runs_from_the_first_word_and_is_not_begun_anew_by_sigterm(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT)
    await client.says(GET)
    await (await endpoint.accepts()).hears_head()
    lab.plane.apply(l7(endpoint, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += 0.6 * DRAIN_S
    lab.plane.drain()
    await client.hears_nothing()
    clock.now += 0.5 * DRAIN_S
    assert (await client.hears_message()).status == 503


async def test_a_node_that_stays_drained_cuts_what_is_left_at_the_deadline_and_runs_on(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT)
    await client.says(GET)
    await (await endpoint.accepts()).hears_head()
    lab.plane.apply(l7(endpoint, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    clock.now += DRAIN_S
    assert (await client.hears_message()).status == 503
    assert lab.plane.load().in_flight == 0
    lab.plane.apply(l7(endpoint, timeouts=PATIENT, revision=3))
    again = await lab.connects()
    await again.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    clock.now += DRAIN_S
    await trio.sleep(6 * BEAT_S)
    await voice.says(OK)
    answer = await again.hears_message()
    assert (answer.status, "connection" in answer) == (200, False)


async def test_what_parents_send_to_a_drained_node_after_its_deadline_has_as_long_again(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, timeouts=PATIENT, listener=INNER))
    lab.plane.apply(l7(endpoint, timeouts=PATIENT, listener=INNER, revision=2, admin=Admin.DRAIN))
    for _ in range(2):
        parent = await lab.connects()
        await parent.says(l7_parent(), GET)
        await (await endpoint.accepts()).hears_head()
        clock.now += 0.6 * DRAIN_S
        await trio.sleep(6 * BEAT_S)
        await parent.hears_nothing()
        clock.now += 0.6 * DRAIN_S
        assert (await parent.hears_message()).status == 503


@pytest.mark.parametrize("word", ["snapshot", "SIGTERM"])
async def test_the_drain_time_is_the_tiers(lab: Lab, clock: Clock, word: str) -> None:
    client, endpoint = await lab.converses(timeouts=PATIENT, drain_s=7.0)
    await client.says(GET)
    await (await endpoint.accepts()).hears_head()
    if word == "SIGTERM":
        lab.plane.drain()
    else:
        lab.plane.apply(l7(endpoint, timeouts=PATIENT, drain_s=7.0, revision=2, admin=Admin.DRAIN))
    clock.now += 6.9
    await trio.sleep(6 * BEAT_S)
    await client.hears_nothing()
    clock.now += 0.2
    assert (await client.hears_message()).status == 503


async def test_kept_connections_of_a_drained_node_end_spread_and_a_moment_after_their_last_word(
    lab: Lab, clock: Clock
) -> None:
    """They do not all come back at once, and a request that is on its way is still answered."""
    endpoint = await lab.endpoint()
    await lab.serves(l7(rules=HELLO, timeouts=PATIENT))
    clients = [await lab.connects() for _ in range(8)]
    for client in clients:
        await client.asks(GET)
    lab.plane.apply(l7(rules=HELLO, timeouts=PATIENT, revision=2, admin=Admin.DRAIN))
    planned = {each: each.lifetime.expires for each in lab.front.clients}
    ends = sorted(at - clock.now for at in planned.values())
    assert 0 < ends[0] < ends[-1] <= SPREAD_S
    assert ends[-1] - ends[0] > SPREAD_S / 4
    lab.plane.drain()
    assert {each: each.lifetime.expires for each in lab.front.clients} == planned, "SIGTERM ends them no sooner"
    clock.now += ends[0] / 2
    assert "connection" not in await clients[0].asks(GET)
    (asker,) = [each for each in planned if asked(each.fd, lambda sock: sock.getpeername()) == clients[0].name]
    assert asker.deadline == pytest.approx(asker.lifetime.expires + GRACE_S)
    (first, *_) = sorted(lab.front.clients, key=lambda each: each.lifetime.expires)
    clock.now = first.lifetime.expires + 0.9 * GRACE_S
    await trio.sleep(6 * BEAT_S)
    assert first in lab.front.clients
    clock.now = 1000.0 + SPREAD_S + GRACE_S
    for client in clients:
        await client.hears_end()
    endpoint.falls()


async def test_clients_have_a_moment_to_take_the_last_answers(
    lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is closed with the rest of a request unread is reset, and the reset may overtake the answer."""
    monkeypatch.setattr("tierlb.dataplane.draining.LAST_ANSWERS_S", DEADLINE_S)
    client, endpoint = await lab.converses(timeouts=PATIENT, drain_s=LOOK_S / 2)
    await client.says(POST_HEAD % 100_000, b"12345")
    await (await endpoint.accepts()).hears_up_to(b"12345")
    await drains(lab, clock, LOOK_S / 2)
    await lab.until(lambda: [each.lingering for each in lab.front.clients] == [True])
    for _ in range(5):
        await client.says(b"6" * 1000)
        await trio.sleep(2 * DRAIN_CHECK_S)
    assert (await client.hears_message()).status == 503


async def test_drain_accepts_nobody(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    await (await endpoint.accepts()).hears_head()
    lab.plane.drain()
    await trio.sleep(0.3)
    with pytest.raises(OSError, match="all attempts to connect"):
        await lab.connects()


# Snapshots that change.


async def test_a_new_snapshot_counts_from_the_next_request_on(lab: Lab) -> None:
    client, old = await lab.converses()
    new = await lab.endpoint()
    await client.says(GET)
    voice = await old.accepts()
    await voice.hears_head()
    lab.plane.apply(l7(new, revision=2))
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    await voice.hears_end()
    await client.says(GET)
    newer = await new.accepts()
    await newer.hears_head()
    await newer.says(OK)
    assert (await client.hears_message()).status == 200


async def test_no_request_fails_while_snapshots_change(lab: Lab) -> None:
    endpoints = [await lab.endpoint() for _ in range(4)]
    for endpoint in endpoints:
        lab.background.start_soon(endpoint.answers_all, OK)
    await lab.serves(l7(*endpoints))
    stop = False
    answered = collections.Counter[int]()

    def more_than(number: int) -> bool:
        return answered.total() > number

    async def ask() -> None:
        client = await lab.connects()
        while not stop:
            answered[(await client.asks(GET)).status] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask)
        for revision in range(2, 60):
            lab.plane.apply(l7(*endpoints[revision % 3 : revision % 3 + 2], revision=revision))
            await lab.until(partial(more_than, answered.total() + 1))
        stop = True
    assert set(answered) == {200}


async def test_a_member_that_stays_keeps_its_connections_and_counts(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    await client.hears_message()
    lab.plane.apply(attrs.evolve(l7(endpoint), revision=2, trusted_peers=LOOPBACK))
    assert lab.plane.load().hosts[0].done == 1
    await client.says(CLAIMS)
    assert (await voice.hears_head())["x-forwarded-for"] == "127.0.0.1"
