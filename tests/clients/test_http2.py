"""Clients of HTTP/2 that know that it is spoken here, through edge and l7 tier: curl, nghttp, h2load, httpx."""

import json
import os
import re
import shutil
from pathlib import Path

import httpx
import pytest
import trio

from tests.clients.app import pattern
from tests.clients.conftest import Site

DEADLINE_S = 120.0
UPLOAD_BYTES = 20 * 1024 * 1024


async def run(*command: str) -> str:
    """It must end with 0; what it printed."""
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("latin-1")


async def curl(*arguments: str) -> str:
    return await run("curl", "--silent", "--show-error", "--http2-prior-knowledge", *arguments)


@pytest.mark.needs("curl")
async def test_curl_gets_an_answer_over_http_2(site: Site) -> None:
    got = await curl("--write-out", "\n%{http_code} %{http_version}", f"{site.url}/headers?a=1")
    body, _, written = got.rpartition("\n")
    assert written == "200 2"
    assert json.loads(body)["method"] == "GET"


@pytest.mark.needs("curl")
async def test_curl_uploads_and_downloads_megabytes(site: Site, tmp_path: Path) -> None:
    upload, download = tmp_path / "upload", tmp_path / "download"
    upload.write_bytes(pattern(UPLOAD_BYTES))
    said = json.loads(await curl("--data-binary", f"@{upload}", f"{site.url}/upload"))
    assert said["bytes"] == UPLOAD_BYTES
    await curl("--output", str(download), f"{site.url}/download/{UPLOAD_BYTES}")
    assert download.read_bytes() == pattern(UPLOAD_BYTES)


@pytest.mark.needs("curl")
async def test_curl_gets_the_head_of_an_answer_alone(site: Site) -> None:
    got = await curl("--head", f"{site.url}/download/1000000")
    assert got.startswith("HTTP/2 200")
    assert "content-length: 1000000" in got


@pytest.mark.needs("nghttp")
async def test_nghttp_gets_several_streams_of_one_connection(site: Site) -> None:
    urls = [f"{site.url}/download/{size}" for size in (10, 100_000, 1_000_000)]
    got = await run("nghttp", "--stat", "--null-out", *urls)
    assert len(re.findall(r" 200 ", got)) == 3


@pytest.mark.needs("h2load")
async def test_h2load_fails_no_request_over_many_streams(site: Site) -> None:
    """h2load opens no other connection behind a GOAWAY, so it runs again where a node gave its connections away."""
    for _ in range(4):
        got = await run("h2load", "-n", "4000", "-c", "8", "-m", "16", f"{site.url}/raw/one")
        assert "2xx, 0 3xx, 0 4xx, 0 5xx" in got
        if "4000 succeeded, 0 failed, 0 errored" in got:
            return
    raise AssertionError(got)


async def test_httpx_has_requests_at_once_on_one_connection(site: Site) -> None:
    statuses: list[int] = []
    async with httpx.AsyncClient(http1=False, http2=True, timeout=DEADLINE_S) as client:

        async def ask(size: int) -> None:
            got = await client.get(f"{site.url}/stream/{size}")
            assert got.http_version == "HTTP/2"
            assert got.content == pattern(size)
            statuses.append(got.status_code)

        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for size in range(1000, 300_000, 20_000):
                    nursery.start_soon(ask, size)
    assert statuses == [200] * 15


H2SPEC = shutil.which("h2spec") or os.environ.get("H2SPEC", "")


@pytest.mark.skipif(not H2SPEC, reason="NOT TESTED: h2spec is not installed (it is built from summerwind/h2spec)")
async def test_h2spec_finds_nothing(site: Site) -> None:
    host, port = site.sockaddr
    with trio.fail_after(DEADLINE_S):
        command = [H2SPEC, "-h", host, "-p", str(port), "-P", "/raw/one"]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    said = done.stdout.decode()
    failed = re.findall(r"^\s+× (.*)$", said.partition("Failures:")[2], re.MULTILINE)
    # A port that speaks HTTP/1 as well answers what is no preface in HTTP/1.
    assert failed == ["2: Sends invalid connection preface"], said[-3000:]
