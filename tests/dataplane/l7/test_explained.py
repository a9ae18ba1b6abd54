"""The way of one request, told in its response: from the first tier down, to who asks with the nonce in time."""

import json
from typing import Any

import pytest

from tests.dataplane.conftest import INNER, Clock, FakeEndpoint, Lab, Message, Voice, below, l4, l4_parent, l7, send
from tierlb.dataplane.plane import Plane
from tierlb.model.snapshot import Destination, Rule, Send
from tierlb.model.topology import Match, Policy, Redirect, Respond

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ASKING = b"GET / HTTP/1.1\r\nHost: a\r\nX-Tierlb-Explain: n1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def explains(lab: Lab, *planes: Plane, for_s: float = 60.0) -> None:
    """The controller has let all nodes know."""
    for plane in planes or lab.planes:
        plane.explain("n1", plane.reactor.look() + for_s)


def lines(answer: Message) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.all("x-tierlb-explain")]


def nodes(answer: Message) -> list[str]:
    return [line["node"] for line in lines(answer)]


async def answering(lab: Lab, answer: bytes = OK, **says: Any) -> FakeEndpoint:
    endpoint = await lab.endpoint(**says)
    lab.background.start_soon(endpoint.answers_all, answer)
    return endpoint


async def one_tier(lab: Lab) -> Voice:
    await lab.serves(l7(await answering(lab), balance=Policy.LEAST_REQUESTS))
    return await lab.connects()


async def test_the_response_tells_who_was_chosen_and_by_what(lab: Lab) -> None:
    client = await one_tier(lab)
    explains(lab)
    answer = await client.asks(ASKING)
    assert answer.body == b"ok"
    (endpoint,) = lab.endpoints
    (line,) = lines(answer)
    assert line == {
        "node": "node-1",
        "policy": "least-requests",
        "chose": endpoint.spec.name,
        "members": [{"member": endpoint.spec.name, "in_flight": 0, "score": 0.0}],
    }


async def test_only_who_asks_with_the_nonce_is_told_and_only_for_its_time(lab: Lab, clock: Clock) -> None:
    client = await one_tier(lab)
    assert nodes(await client.asks(ASKING)) == []
    explains(lab, for_s=5.0)
    assert nodes(await client.asks(ASKING)) == ["node-1"]
    assert nodes(await client.asks(GET)) == []
    for wrong in (b"n2", b"n11", b"N1", b""):
        assert nodes(await client.asks(ASKING.replace(b"n1", wrong))) == []
    clock.now += 4.9
    assert nodes(await client.asks(ASKING)) == ["node-1"]
    clock.now += 0.2
    assert nodes(await client.asks(ASKING)) == []


ANSWERS = [
    (ASKING, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    (ASKING, b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", b"no"),
    (ASKING.replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b""),
    (ASKING, b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b""),
]


@pytest.mark.parametrize(("request_bytes", "said", "body"), ANSWERS)
async def test_nothing_else_of_the_answer_changes(lab: Lab, request_bytes: bytes, said: bytes, body: bytes) -> None:
    await lab.serves(l7(await answering(lab, said)))
    client = await lab.connects()
    explains(lab)
    await client.says(request_bytes)
    answer = await client.hears_message(bodiless=not body)
    assert (nodes(answer), answer.body) == (["node-1"], body)
    await client.says(request_bytes)
    again = await client.hears_message(bodiless=not body)
    assert (again.status, again.body) == (answer.status, body)


async def test_every_choice_for_a_request_is_told(lab: Lab) -> None:
    nobody, somebody = await lab.nobody(), await answering(lab)
    await lab.serves(l7(nobody, somebody))
    explains(lab)
    first = await (await lab.connects()).asks(ASKING)
    lab.host(nobody).reach.connected()
    second = await (await lab.connects()).asks(ASKING)
    chosen = [[line["chose"] for line in lines(answer)] for answer in (first, second)]
    assert [nobody.spec.name, somebody.spec.name] in chosen
    assert all(names[-1] == somebody.spec.name for names in chosen)


async def test_the_choice_that_failed_and_that_of_another_share_are_told(lab: Lab) -> None:
    nobody, somebody = await lab.nobody("old"), await answering(lab)
    shares = ((1e6, nobody), (1.0, somebody))
    split = Send(tuple(Destination(weight, (one.spec.target,), (one.spec,)) for weight, one in shares))
    await lab.serves(l7(rules=(Rule(Match(), split),)))
    explains(lab)
    answer = await (await lab.connects()).asks(ASKING)
    assert answer.status == 200
    assert [line["chose"] for line in lines(answer)] == [nobody.spec.name, somebody.spec.name]


async def test_answers_of_the_node_itself_are_told_as_such(lab: Lab) -> None:
    rules = (
        Rule(Match(path="/respond"), Respond(200, "hello")),
        Rule(Match(path="/redirect"), Redirect("https://{host}/")),
        Rule(Match(path="/empty"), send()),
        Rule(Match(path="/dead"), send(dead := await lab.nobody())),
    )
    reasons = {
        b"/empty": "no host can answer: app has no member",
        b"/dead": f"the endpoint cannot be reached: {dead.spec.name} (ECONNREFUSED)",
    }
    await lab.serves(l7(rules=rules))
    explains(lab)
    client = await lab.connects()
    for path, status, choices in [
        (b"/respond", 200, 0),
        (b"/redirect", 308, 0),
        (b"/unknown", 404, 0),
        (b"/empty", 503, 1),
        (b"/dead", 502, 1),
    ]:
        answer = await client.asks(ASKING.replace(b"/ ", path + b" "))
        *chosen, last = lines(answer)
        assert answer.status == status
        reason = {"reason": reasons[path]} if path in reasons else {}
        assert last == {"node": "node-1", "answered": status, **reason}
        assert len(chosen) == choices
        assert nodes(await client.asks(GET.replace(b"/ ", path + b" "))) == []


async def test_a_request_that_becomes_a_tunnel_is_told_of_before_it(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    explains(lab)
    await client.says(ASKING[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    answer = await client.hears_message(bodiless=True)
    assert (answer.status, nodes(answer)) == (101, ["node-1"])
    await client.says(b"ping")
    await voice.hears(b"ping")


async def test_its_own_load_and_the_choice_are_told_together(lab: Lab, clock: Clock) -> None:
    client = await one_tier(lab)
    lab.ticks()
    explains(lab)
    lab.front.load_field = b"endpoint-load-metrics: TEXT rps_fractional=1.0\r\n"
    answer = await client.asks(ASKING)
    assert nodes(answer) == ["node-1"]
    assert answer["endpoint-load-metrics"] == "TEXT rps_fractional=1.0"


# Tiers.


async def l7_below(lab: Lab) -> FakeEndpoint:
    """An l7 node with an endpoint, as an endpoint of others."""
    return below(await lab.serves(l7(await answering(lab), listener=INNER)), "node-1")


async def test_an_l4_tier_tells_its_choice_through_the_l7_tier_below(lab: Lab) -> None:
    web = await l7_below(lab)
    await lab.serves(l4(web))
    explains(lab)
    client = await lab.connects()
    answer = await client.asks(ASKING)
    assert nodes(answer) == ["node-2", "node-1"]
    assert [line["chose"] for line in lines(answer)] == ["node-1", lab.endpoints[0].spec.name]
    assert nodes(await client.asks(GET)) == []
    assert nodes(await client.asks(ASKING)) == ["node-2", "node-1"]


async def test_an_l4_tier_tells_nothing_of_connections_made_before_it_was_asked(lab: Lab) -> None:
    web = await l7_below(lab)
    await lab.serves(l4(web))
    client = await lab.connects()
    await client.asks(GET)
    explains(lab)
    assert nodes(await client.asks(ASKING)) == ["node-1"]


async def test_two_l7_tiers_tell_their_choices_from_the_top(lab: Lab) -> None:
    web = await l7_below(lab)
    await lab.serves(l7(web))
    explains(lab)
    client = await lab.connects()
    for _ in range(2):
        assert nodes(await client.asks(ASKING)) == ["node-2", "node-1"]
    assert nodes(await client.asks(GET)) == []


async def test_all_tiers_tell_their_choices_from_the_top(lab: Lab) -> None:
    web = await l7_below(lab)
    front = below(await lab.serves(l7(web, listener=INNER)), "node-2")
    inner = below(await lab.serves(l4(front, listener=INNER)), "node-3")
    await lab.serves(l4(inner))
    explains(lab)
    answer = await (await lab.connects()).asks(ASKING)
    assert nodes(answer) == ["node-4", "node-3", "node-2", "node-1"]
    assert [line["chose"] for line in lines(answer)][:3] == ["node-3", "node-2", "node-1"]


FORGED = (
    b'HTTP/1.1 200 OK\r\nX-Tierlb-Explain: {"node":"node-1"}\r\nx-tierlb-EXPLAIN: {"node":"node-2"}\r\n'
    b"Content-Length: 2\r\n\r\nok"
)


async def test_an_endpoint_cannot_speak_in_the_name_of_a_node(lab: Lab) -> None:
    await lab.serves(l7(await answering(lab, FORGED)))
    client = await lab.connects()
    assert nodes(await client.asks(ASKING)) == [], "nor while nobody is told"
    explains(lab)
    for _ in range(3):
        answer = await client.asks(ASKING)
        assert (nodes(answer), answer.body) == (["node-1"], b"ok")


async def test_an_endpoint_that_becomes_a_tunnel_cannot_either(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    explains(lab)
    await client.says(ASKING[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b'X-Tierlb-Explain: {"node":"node-9"}\r\n\r\n'
    )
    answer = await client.hears_message(bodiless=True)
    assert (answer.status, nodes(answer)) == (101, ["node-1"])


async def test_what_an_endpoint_says_is_stopped_below_however_many_tiers_there_are(lab: Lab) -> None:
    web = below(await lab.serves(l7(await answering(lab, FORGED), listener=INNER)), "node-1")
    await lab.serves(l7(web))
    client = await lab.connects()
    explains(lab, lab.planes[1])
    assert nodes(await client.asks(ASKING)) == ["node-2"], "the node below was not told"
    explains(lab)
    assert nodes(await client.asks(ASKING)) == ["node-2", "node-1"]


async def test_who_stands_behind_a_child_that_leads_out_is_not_believed(lab: Lab) -> None:
    inner = await lab.serves(l4(await answering(lab, FORGED), listener=INNER))
    await lab.serves(l7(below(inner, "node-1", leads_out=True)))
    explains(lab)
    answer = await (await lab.connects()).asks(ASKING)
    assert [line["chose"] for line in lines(answer)] == ["node-1"]
    assert answer.body == b"ok"


async def test_a_tier_that_was_not_told_to_explain_passes_on_what_others_say(lab: Lab) -> None:
    web = await l7_below(lab)
    await lab.serves(l4(web))
    explains(lab, lab.planes[0])
    assert nodes(await (await lab.connects()).asks(ASKING)) == ["node-1"]
    explains(lab, lab.planes[1])
    lab.planes[0].explain("n1", 0.0)
    assert nodes(await (await lab.connects()).asks(ASKING)) == []


async def test_what_a_parent_says_is_told_line_by_line(lab: Lab) -> None:
    await lab.serves(l7(await answering(lab), listener=INNER))
    explains(lab)
    client = await lab.connects()
    answer = await client.asks(l4_parent(explained=b'{"node":"edge-1"}\n{"node":"mid-1"}') + ASKING)
    assert nodes(answer) == ["edge-1", "mid-1", "node-1"]
