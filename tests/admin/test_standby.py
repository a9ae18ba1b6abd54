"""The admin API of a controller on standby, on a real socket."""

import socket

import httpx
import pytest
import trio

from tests.admin.conftest import KeptLog, status_after_a_connection_that_failed
from tierlb.admin.standby import serve_standby
from tierlb.telemetry.internal_errors import InternalErrors


@pytest.fixture
def errors():
    return InternalErrors(KeptLog())


@pytest.fixture
async def url(nursery, errors):
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    await nursery.start(serve_standby, bound, lambda: "c1 is the active one", errors)
    return url


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/v1/status"), ("POST", "/v1/apply"), ("GET", "/"), ("GET", "/x/y")],
)
async def test_whatever_is_asked_it_says_who_is_active(url, method, path):
    with trio.fail_after(20):
        async with httpx.AsyncClient() as http:
            answer = await http.request(method, url + path)
    assert (answer.status_code, answer.json()["kind"]) == (503, "standby")
    assert answer.json()["error"] == "c1 is the active one"


async def test_pages_of_other_names_are_told_nothing(url):
    with trio.fail_after(20):
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{url}/v1/status", headers={"host": "evil.example"})
    assert "c1" not in answer.text
    assert answer.status_code in (400, 403, 421)


async def test_a_connection_on_which_the_program_fails_ends_no_other(url, errors, monkeypatch):
    with trio.fail_after(20):
        assert await status_after_a_connection_that_failed(url, monkeypatch) == 503
    assert errors.counts == {"admin connection": 1}
