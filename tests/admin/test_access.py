"""Which requests are heard."""

import pytest
import trio

from tests.admin.conftest import TOKEN
from tierlb.admin.access import Access, Hosts, demand_token, host_of_field
from tierlb.admin.operations import LEARN_S
from tierlb.admin.refusals import RequestRefused
from tierlb.net.http_server import HttpRequest


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("LOCALHOST", 200),
        ("[::1]", 200),
        ("10.0.0.5", 200),
        ("lb.internal", 200),
        ("LB.Internal", 200),
        ("evil.example", 421),
        ("lb.internal.evil.example", 421),
        ("evil-lb.internal", 421),
        ("10.0.0.6", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::2]", 421),
    ],
)
async def test_only_loopback_names_the_listen_address_and_those_of_the_file_are_served(shop, host, code):
    async with shop.client(host=host) as http:
        assert (await http.get("/v1/topology")).status_code == code


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:7900"}, 200),
        ({"origin": "HTTP://127.0.0.1:7900"}, 200),
        ({"origin": "http://localhost:7900"}, 403),
        ({"origin": "http://127.0.0.1:8080"}, 403),
        ({"origin": "https://127.0.0.1:7900"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
    ],
)
async def test_pages_of_another_origin_change_nothing(shop, origin, code, autojump_clock):
    started_s = trio.current_time()
    async with shop.client() as http:
        assert (await http.post("/v1/explain", headers=origin)).status_code == code
        assert (await http.get("/v1/topology", headers=origin)).status_code == 200
        answer = await http.post("/v1/restart", json={"tier": "web"}, headers=origin)
    assert answer.status_code == (202 if code == 200 else 403)
    assert (trio.current_time() - started_s >= LEARN_S) is (code == 200)


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_the_token_is_taken(given):
    demand_token(asked(("authorization", given)), TOKEN)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é"]
)
def test_anything_else_is_not(given):
    with pytest.raises(RequestRefused) as refused:
        demand_token(asked(("authorization", given)), TOKEN)
    assert refused.value.status == 401
    assert "admin-token" in str(refused.value)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a:1", "a"),
        ("A", "a"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        ("localhost.", ""),
        ("localhost.:80", ""),
        ("localhost:", ""),
        ("localhost:0", ""),
        ("localhost:65536", ""),
        ("localhost:80:80", ""),
        ("localhost:80.evil.example", ""),
        ("localhost:80@evil.example", ""),
        ("evil.example@localhost", ""),
        ("localhost/evil", ""),
        ("localhost evil", ""),
        (" localhost", ""),
        ("localhost,evil", ""),
        ("[::1", ""),
        ("[::1]evil", ""),
        ("[localhost]", ""),
        ("::1", ""),
        ("127.0.0.1.evil.example", "127.0.0.1.evil.example"),
    ],
)
def test_the_host_is_read_without_port_and_brackets(header, name):
    assert host_of_field(header) == name


def asked(*fields, client="127.0.0.1", server="127.0.0.1", method="GET", path="/v1/status", scheme="http"):
    """A request with these fields."""
    return HttpRequest(method, path, fields, client, server, scheme)


def status_of(request):
    """200 where the API itself would answer."""
    try:
        Access(Hosts("0.0.0.0", ("lb.internal",)), TOKEN).admit(request)
    except RequestRefused as refused:
        return refused.status
    return 200


HERE, REMOTE = ("host", "127.0.0.1:7900"), {"client": "10.0.0.9", "server": "10.0.0.5"}
TO_NAME, SHOWN = ("host", "lb.internal:7900"), ("authorization", f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (asked(HERE), 200),
        (asked(("host", "10.0.0.5:7900"), client="10.0.0.5", server="10.0.0.5"), 200),
        (asked(HERE, client="::1", server="::1"), 200),
        (asked(HERE, client="::ffff:127.0.0.1"), 200),
        (asked(TO_NAME, **REMOTE), 401),
        (asked(("host", "10.0.0.5"), **REMOTE), 401),
        (asked(TO_NAME, SHOWN, **REMOTE), 200),
        (asked(("host", "10.0.0.5"), SHOWN, **REMOTE), 200),
        (asked(TO_NAME, ("authorization", "Bearer guess"), **REMOTE), 401),
        (asked(TO_NAME, ("authorization", "Bearer "), **REMOTE), 401),
        (asked(("host", "evil.example"), SHOWN, **REMOTE), 421),
        (asked(("host", "10.0.0.6"), SHOWN, **REMOTE), 421),
        (asked(TO_NAME, path="/healthz", **REMOTE), 200),
        (asked(("host", "evil.example"), path="/healthz", **REMOTE), 421),
        (asked(HERE, ("x-forwarded-for", "203.0.113.9")), 401),
        (asked(HERE, ("forwarded", "for=203.0.113.9")), 401),
        (asked(HERE, ("via", "1.1 proxy"), SHOWN), 200),
        (asked(HERE, HERE), 421),
        (asked(HERE, ("host", "evil.example")), 421),
        (asked(), 421),
        (asked(HERE, client=""), 401),
    ],
)
def test_from_other_machines_everything_needs_the_token_and_a_host_that_means_here(request_, status):
    assert status_of(request_) == status


@pytest.mark.parametrize(("scheme", "status"), [("http", 403), ("https", 200)])
def test_with_tls_our_own_pages_are_those_of_https(scheme, status):
    request = asked(HERE, SHOWN, ("origin", "https://127.0.0.1:7900"), method="POST", scheme=scheme)
    assert status_of(request) == status


async def test_explanations_need_the_token_also_from_here(shop):
    async with shop.client(token="") as http:
        assert (await http.post("/v1/explain")).status_code == 401
        assert (await http.get("/v1/status")).status_code == 200


@pytest.mark.parametrize(("client", "names_nodes"), [("127.0.0.1", True), ("10.0.0.9", False)])
async def test_health_names_no_node_to_strangers(shop, client, names_nodes):
    async with shop.client(host="lb.internal", token="", address=client) as http:
        answer = await http.get("/healthz")
    assert (answer.status_code, answer.text.startswith("not serving\n")) == (503, True)
    assert ("web-1" in answer.text) is names_nodes
