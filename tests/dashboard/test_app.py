"""The app through httpx in process, and once through Hypercorn on a real socket."""

import socket

import attrs
import httpx
import pytest
import trio

from tierlb.controlplane.status import ClusterStatus, PoolStatus
from tierlb.dashboard.app import LEARN_S, host_name, make_app, serve_admin

STATUS = ClusterStatus("shop", 3, True, (), {}, {"app": PoolStatus(())})


@attrs.frozen
class Shop:
    """A controller that knows everything at once."""

    now: ClusterStatus = STATUS
    explained_s: list = attrs.field(factory=list)

    def status(self):
        return self.now

    async def observe(self):
        return attrs.evolve(self.now, revision=4)

    def explain(self, ttl_s):
        self.explained_s.append(ttl_s)
        return "n0nce"


def client(status=STATUS, host="127.0.0.1", shop=None):
    transport = httpx.ASGITransport(make_app(shop or Shop(status), "10.0.0.5"))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}:7900")


async def test_status_is_the_tree_as_json():
    async with client() as http:
        response = await http.get("/v1/status")
    assert response.status_code == 200
    assert response.json()["revision"] == 4, "it is what observe gives"
    assert response.json()["pools"] == {"app": {"endpoints": [], "agents": []}}


@pytest.mark.parametrize(("serving", "code"), [(True, 200), (False, 503)])
async def test_health_is_whether_the_tree_serves(serving, code):
    status = attrs.evolve(STATUS, serving=serving, missing=("web-1 has not joined",))
    async with client(status) as http:
        response = await http.get("/healthz")
    assert response.status_code == code
    assert ("web-1 has not joined" in response.text) is not serving


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
async def test_only_loopback_names_and_the_listen_address_are_served(host, code):
    async with client(host=host) as http:
        assert (await http.get("/healthz")).status_code == code


async def test_a_nonce_is_given_when_nodes_have_had_a_moment_to_learn_of_it(autojump_clock):
    shop = Shop()
    started_s = trio.current_time()
    async with client(shop=shop) as http:
        response = await http.post("/v1/explain")
    assert response.json() == {"nonce": "n0nce", "ttl_s": 10.0}
    assert shop.explained_s == [10.0]
    assert trio.current_time() - started_s == pytest.approx(LEARN_S)


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:7900"}, 200),
        ({"origin": "http://10.0.0.5:7900"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
    ],
)
async def test_pages_of_another_origin_change_nothing(origin, code, autojump_clock):
    shop = Shop()
    async with client(shop=shop) as http:
        assert (await http.post("/v1/explain", headers=origin)).status_code == code
        assert (await http.get("/v1/status", headers=origin)).status_code == 200
    assert bool(shop.explained_s) is (code == 200)


async def test_to_explain_is_no_reading():
    async with client() as http:
        assert (await http.get("/v1/explain")).status_code == 405


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_the_status_cannot_be_written(method):
    async with client() as http:
        assert (await http.request(method, "/v1/status")).status_code == 405


@pytest.mark.parametrize(
    ("header", "name"),
    [("a:1", "a"), ("A", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", "")],
)
def test_the_host_is_read_without_port_and_brackets(header, name):
    assert host_name(header) == name


async def test_it_is_served_on_the_socket_it_was_given(nursery):
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    with trio.fail_after(10):
        await nursery.start(serve_admin, bound, Shop())
        async with httpx.AsyncClient() as http:
            response = await http.get(f"http://127.0.0.1:{port}/v1/status")
    assert response.json()["cluster"] == "shop"
