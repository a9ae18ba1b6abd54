"""Which requests are heard."""

import pytest
import trio

from tests.dashboard.conftest import TOKEN
from tierlb.dashboard.access import demand_token, host_name
from tierlb.dashboard.operations import LEARN_S
from tierlb.dashboard.refusals import Refused


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("LOCALHOST", 200),
        ("[::1]", 200),
        ("10.0.0.5", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::2]", 421),
    ],
)
async def test_only_loopback_names_and_the_listen_address_are_served(shop, host, code):
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
    demand_token(given, TOKEN)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é"]
)
def test_anything_else_is_not(given):
    with pytest.raises(Refused) as refused:
        demand_token(given, TOKEN)
    assert refused.value.status == 401
    assert "admin-token" in str(refused.value)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "name"),
    [("a:1", "a"), ("A", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", "")],
)
def test_the_host_is_read_without_port_and_brackets(header, name):
    assert host_name(header) == name
