"""curl through edge and l7 tier: every way it has of sending and receiving a message."""

import hashlib
import json
from pathlib import Path

import attrs
import pytest
import trio

from tests.clients.app import pattern
from tests.clients.conftest import Site

pytestmark = pytest.mark.needs("curl")

DEADLINE_S = 60.0
UPLOAD_BYTES = 20 * 1024 * 1024
WRITE_OUT = "\n%{http_code} %{http_version} %{num_connects} %{size_download}"


@attrs.frozen
class Curled:
    """What curl received: the body, and for the last transfer status, version, connects and bytes."""

    body: bytes
    status: int
    version: str
    connects: int
    received: int
    said: str


async def curl(*arguments: str, stdin: bytes = b"") -> Curled:
    """Run curl; it must end with 0."""
    command = ["curl", "--silent", "--show-error", "--http1.1", "--write-out", WRITE_OUT, *arguments]
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    body, _, written = done.stdout.rpartition(b"\n")
    status, version, connects, received = written.decode().split()
    return Curled(body, int(status), version, int(connects), int(received), done.stderr.decode())


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("curl") / "upload"
    path.write_bytes(pattern(UPLOAD_BYTES))
    return path


def as_received(body: bytes) -> dict[str, object]:
    """What the application says of an upload it got right."""
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


async def test_get_is_answered_over_http_1_1(site: Site) -> None:
    got = await curl(f"{site.url}/headers?a=1&b=%2F")
    assert (got.status, got.version) == (200, "1.1")
    assert json.loads(got.body)["method"] == "GET"


async def test_head_has_the_length_and_no_body(site: Site) -> None:
    got = await curl("--head", f"{site.url}/download/1000000")
    assert got.status == 200
    assert b"\r\ncontent-length: 1000000\r\n" in got.body.lower()
    assert got.body.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"], ids=["at once", "100-continue"])
async def test_a_file_is_uploaded_whole(site: Site, upload: Path, expect: str) -> None:
    got = await curl("--header", expect, "--data-binary", f"@{upload}", "--verbose", f"{site.url}/upload")
    said = json.loads(got.body)
    assert {key: said[key] for key in ("bytes", "sha256")} == as_received(pattern(UPLOAD_BYTES))
    assert said["framing"] == str(UPLOAD_BYTES)
    assert ("HTTP/1.1 100" in got.said) == expect.endswith("continue")


async def test_a_chunked_upload_from_standard_input_stays_chunked(site: Site) -> None:
    body = pattern(3_000_001)
    got = await curl("--upload-file", "-", f"{site.url}/upload", stdin=body)
    said = json.loads(got.body)
    assert {key: said[key] for key in ("bytes", "sha256")} == as_received(body)
    assert said["framing"] == "chunked"


@pytest.mark.parametrize("path", ["/download/5000000", "/stream/5000000"])
async def test_a_download_arrives_whole(site: Site, path: str) -> None:
    got = await curl(f"{site.url}{path}")
    assert got.received == 5_000_000
    assert got.body == pattern(5_000_000)


async def test_http_1_0_gets_an_unchunked_answer_that_ends_with_the_connection(site: Site) -> None:
    got = await curl("--http1.0", "--include", f"{site.url}/stream/300000")
    head, _, body = got.body.partition(b"\r\n\r\n")
    assert got.status == 200
    assert b"transfer-encoding" not in head.lower()
    assert body == pattern(300_000)


async def test_one_connection_carries_several_urls(site: Site) -> None:
    urls = [f"{site.url}/{path}" for path in ("headers", "download/10", "raw/one", "headers")]
    got = await curl(*urls)
    assert got.connects == 0
    assert got.status == 200


async def test_a_range_is_passed_on_and_answered_with_206(site: Site) -> None:
    got = await curl("--range", "1000-1999", f"{site.url}/download/100000")
    assert got.status == 206
    assert got.body == pattern(1000, 1000)


async def test_an_answer_of_404_by_the_application_is_passed_on(site: Site) -> None:
    got = await curl(f"{site.url}/nowhere")
    assert (got.status, got.body) == (404, b"Not Found")
