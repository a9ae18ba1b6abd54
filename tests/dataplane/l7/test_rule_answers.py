"""Answers of the node itself."""

import pytest

from tests.dataplane.conftest import Lab, l7
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Rule
from tierlb.model.topology import Match, Redirect, Respond

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_request_that_no_route_matches_is_404(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(path="/here"), Respond()),)))
    client = await lab.connects()
    answer = await client.asks(GET)
    assert (answer.status, answer.body) == (404, b"node-1: no route matches this request\n")
    assert (await client.asks(GET.replace(b"/ ", b"/here "))).status == 200


async def test_respond_says_what_the_file_says(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(418, "té\n", "text/x-tea")),)))
    answer = await (await lab.connects()).asks(GET)
    assert (answer.status, answer["content-type"], answer.body) == (418, "text/x-tea", "té\n".encode())


async def test_respond_to_head_has_a_length_and_no_body(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello")),)))
    client = await lab.connects()
    await client.says(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    assert (await client.hears_message(bodiless=True))["content-length"] == "5"
    assert (await client.hears_message()).body == b"hello"


async def test_respond_to_a_request_with_a_body_closes(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello")),)))
    client = await lab.connects()
    answer = await client.asks(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" + GET)
    assert (answer["connection"], answer.body) == ("close", b"hello")
    await client.hears_end()


async def test_redirect_fills_in_the_request(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Redirect("https://{host}{path}?{query}&via={scheme}", 307)),)))
    answer = await (await lab.connects()).asks(b"GET /x/y?a=b HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert (answer.status, answer["location"]) == (307, "https://example.org/x/y?a=b&via=http")


async def test_a_redirect_believes_the_scheme_of_a_trusted_peer(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Redirect("{scheme}://{hostname}/new")),), trusted_peers=("127.0.0.0/8",)))
    client = await lab.connects()
    answer = await client.asks(b"GET /old?a HTTP/1.1\r\nHost: a:81\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert answer["location"] == "https://a/new?a"
    assert "date" in answer


async def test_what_a_request_holds_is_not_filled_in_twice(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Redirect("https://other{path}?{query}")),)))
    answer = await (await lab.connects()).asks(b"GET /{query}?secret HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer["location"] == "https://other/{query}?secret"


@pytest.mark.parametrize(("port", "shown"), [(443, ""), (8443, ":8443")])
async def test_a_listener_sends_all_to_https_whatever_the_routes(lab: Lab, port: int, shown: str) -> None:
    listener = Listener(Address("127.0.0.1", 0), redirect_https=port)
    await lab.serves(l7(rules=(Rule(Match(path="/here"), Respond()),), listener=listener))
    client = await lab.connects()
    for target, location in [(b"/here", "/here"), (b"/x/y?a=b", "/x/y?a=b")]:
        answer = await client.asks(b"GET %b HTTP/1.1\r\nHost: a.example:8080\r\n\r\n" % target)
        assert (answer.status, answer["location"]) == (308, f"https://a.example{shown}{location}")
    assert (await (await lab.connects()).asks(b"GET / HTTP/1.0\r\n\r\n")).status == 400
