"""The app through httpx in process, and once on a real socket."""

import socket
from functools import partial

import httpx
import pytest
import trio
import trio.testing
import trustme
from click import ClickException

from tests.admin.conftest import TOKEN, status_after_a_connection_that_failed
from tierlb.admin.app import serve_admin
from tierlb.admin.operations import operations
from tierlb.channel.durable import StoreError
from tierlb.cli.client import AdminAccess, exchange
from tierlb.controller.observer import Observer
from tierlb.model.tls import AdminTls
from tierlb.net.self_connect import LINGER_ZERO
from tierlb.net.tls import admin_context

SCALE = {"edit": {"verb": "scale", "replicas": {"web": 3}}}


def changing(shop):
    return [each for each in operations(shop.changes.controller, shop.changes) if each.method != "GET"]


async def test_whoever_has_no_token_changes_nothing(shop):
    asked = [each for each in changing(shop) if each.path != "/v1/explain"]
    assert len(asked) == 5
    for each in asked:
        for token in ("", "wrong"):
            async with shop.client(token=token) as http:
                answer = await http.post(each.path, json=each.body.EXAMPLE)
            assert (answer.status_code, answer.json()["kind"]) == (401, "access"), each.path
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (shop.changes.history.active, shop.changes.runner.progress) == (1, None)


async def test_reading_needs_no_token(shop, autojump_clock):
    for path in ("/v1/status", "/v1/topology", "/v1/history", "/v1/history/1", "/v1/progress", "/v1/openapi.json"):
        assert (await shop.get(path)).status_code == 200, path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_is_for_reading_cannot_be_written(shop, method):
    async with shop.client() as http:
        answer = await http.request(method, "/v1/status")
    assert answer.status_code == 405
    assert answer.json()["error"] == "Method Not Allowed: see /v1/openapi.json"
    assert "GET" in answer.headers["allow"]


async def test_changes_are_no_reading(shop):
    for each in changing(shop):
        assert (await shop.get(each.path)).status_code == 405


async def test_what_there_is_not_is_told_in_the_same_form(shop):
    answer = await shop.get("/v1/nothing")
    assert (answer.status_code, answer.json()["kind"]) == (404, "request")


async def test_every_error_has_its_status(held):
    held.store.problem = StoreError("no room")
    assert (await held.post("/v1/edit", SCALE)).status_code == 503
    held.store.problem = None
    assert (await held.post("/v1/edit", SCALE)).status_code == 202
    answer = await held.post("/v1/edit", SCALE)
    assert (answer.status_code, answer.json()["change"]["revision"]) == (409, 2)


async def test_it_is_served_on_the_socket_it_was_given(shop, nursery):
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    with trio.fail_after(10):
        await nursery.start(serve_admin, bound, shop.changes.controller.observer, shop.changes, TOKEN)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/v1/topology")).json()["cluster"] == "shop"
            answer = await http.post("/v1/edit", json=SCALE, headers={"authorization": f"Bearer {TOKEN}"})
            assert answer.status_code == 202


async def test_an_error_of_one_request_is_answered_counted_and_the_end_of_no_other(shop, monkeypatch):
    def fail(self, ttl_s):
        raise ZeroDivisionError

    monkeypatch.setattr(Observer, "explain", fail)
    answer = await shop.post("/v1/explain", None)
    assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
    assert (await shop.get("/v1/topology")).status_code == 200
    assert shop.changes.controller.errors.counts == {"admin request": 1}


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault_of_the_program(shop, nursery, how):
    bound = socket.create_server(("127.0.0.1", 0))
    head = f"POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    fields = "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with trio.fail_after(30):
        await nursery.start(serve_admin, bound, shop.changes.controller, shop.changes, TOKEN)
        async with await trio.open_tcp_stream("127.0.0.1", bound.getsockname()[1]) as stream:
            await stream.send_all((head + fields).encode())
            await trio.testing.wait_all_tasks_blocked(0.05)
            if how == "end":
                await stream.send_eof()
                assert b" 400 " in await stream.receive_some()
            else:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert shop.changes.controller.errors.counts == {}


async def test_a_connection_on_which_the_program_fails_ends_no_other(shop, nursery, monkeypatch):
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/topology"

    with trio.fail_after(10):
        await nursery.start(serve_admin, bound, shop.changes.controller.observer, shop.changes, TOKEN)
        assert await status_after_a_connection_that_failed(url, monkeypatch) == 200
    assert shop.changes.controller.errors.counts == {"admin connection": 1}


@pytest.fixture
def certified(tmp_path):
    """Files of the API's certificate, and of who signed it."""
    ca = trustme.CA()
    issued = ca.issue_cert("lb.internal", "127.0.0.1")
    files = {name: tmp_path / name for name in ("ca.pem", "api.pem", "api.key")}
    ca.cert_pem.write_to_path(str(files["ca.pem"]))
    issued.cert_chain_pems[0].write_to_path(str(files["api.pem"]))
    issued.private_key_pem.write_to_path(str(files["api.key"]))
    return files


async def test_with_tls_commands_reach_it_by_https_if_they_know_who_signed_its_certificate(shop, nursery, certified):
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{bound.getsockname()[1]}"
    tls = admin_context(AdminTls(str(certified["api.pem"]), str(certified["api.key"])))
    token = certified["ca.pem"].with_name("token")
    token.write_text(TOKEN)
    token.chmod(0o600)
    with trio.fail_after(30):
        await nursery.start(serve_admin, bound, shop.changes.controller.observer, shop.changes, TOKEN, tls)
        ask = partial(exchange, AdminAccess(url, token, certified["ca.pem"]))
        status, body = await trio.to_thread.run_sync(ask, "GET", "/v1/topology")
        assert (status, b'"shop"' in body) == (200, True)
        assert (await trio.to_thread.run_sync(ask, "POST", "/v1/explain"))[0] == 200
        with pytest.raises(ClickException, match=r"is not trusted .* name its CA with --ca"):
            await trio.to_thread.run_sync(exchange, AdminAccess(url), "GET", "/v1/topology")
        with pytest.raises(ClickException, match="no cluster answers"):
            await trio.to_thread.run_sync(exchange, url.replace("https", "http"), "GET", "/v1/topology")
