"""How far OPTIONS and TRACE go."""

import pytest

from tests.dataplane.conftest import Lab, l7
from tierlb.dataplane.l7.max_forwards import LARGEST, FinalRecipient, forwards_left, one_hop_less
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond
from tierlb.wire.head_values import RequestHead
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import parse_request_head


def head(method: str, *fields: bytes) -> RequestHead:
    return parse_request_head(b"\r\n".join([b"%b /x?y HTTP/1.1" % method.encode(), b"Host: a", *fields, b"", b""]))


LEFT = [
    ("OPTIONS", (), None),
    ("GET", (b"Max-Forwards: 0",), None),
    ("GET", (b"Max-Forwards: many",), None),
    ("OPTIONS", (b"Max-Forwards: 0",), 0),
    ("TRACE", (b"max-forwards: 003",), 3),
    ("TRACE", (b"Max-Forwards: 5", b"max-forwards: 5"), 5),
    ("TRACE", (b"Max-Forwards: " + b"9" * 500,), LARGEST),
]


@pytest.mark.parametrize(("method", "fields", "left"), LEFT)
def test_how_many_hops_are_left(method: str, fields: tuple[bytes, ...], left: int | None) -> None:
    assert forwards_left(head(method, *fields)) == left


@pytest.mark.parametrize(
    "fields",
    [(b"Max-Forwards: -1",), (b"Max-Forwards:",), (b"Max-Forwards: \xb2",), (b"Max-Forwards: 1", b"Max-Forwards: 2")],
)
def test_a_bound_that_is_no_number_is_refused(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(BadHead) as caught:
        forwards_left(head("TRACE", *fields))
    assert caught.value.status == 400


def test_one_hop_less_is_sent_on() -> None:
    sent = one_hop_less(head("OPTIONS", b"max-forwards: 3", b"X: 1"), 3)
    assert sent.headers == ((b"Host", b"a"), (b"X", b"1"), (b"Max-Forwards", b"2"))


def test_a_trace_is_answered_with_what_came_but_no_secrets() -> None:
    fields = (b"Cookie: s", b"Authorization: s", b"Proxy-Authorization: s", b"X: 1", b"Max-Forwards: 0")
    answer = FinalRecipient().answer(head("TRACE", *fields))
    assert answer.content_type == "message/http"
    assert answer.body == "TRACE /x?y HTTP/1.1\r\nHost: a\r\nX: 1\r\nMax-Forwards: 0\r\n\r\n"


async def test_at_0_the_node_answers_and_the_endpoint_gets_nothing(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    for method in (b"OPTIONS", b"TRACE"):
        answer = await client.asks(b"%b /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" % method)
        assert answer.status == 200
        assert (b"TRACE /x" in answer.body) == (method == b"TRACE")
    await client.says(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\n\r\n")
    request = await (await endpoint.accepts()).hears_head()
    assert (request.first, request["max-forwards"]) == ("OPTIONS /x HTTP/1.1", "1")


async def test_a_route_that_answers_here_answers_whatever_the_bound(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(403)),)))
    client = await lab.connects()
    assert (await client.asks(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")).status == 403
