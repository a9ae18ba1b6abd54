"""The example of TLS as a real cluster, with curl and openssl as clients."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from scripts.benchmarks.http2_load import Record, client, tls_context
from tierlb.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "topology" / "tls" / "tls.yaml"
DEADLINE_S = 60.0
RENEWED_S = 5
"""Twice as long as a node takes to look at its files again."""
CLIENTS = 4
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@attrs.frozen
class Shop:
    """The example as it runs."""

    cluster: Cluster
    folder: Path
    listen: str
    redirecting: str

    @property
    def port(self) -> str:
        return self.listen.rpartition(":")[2]

    def run(self, *command: str, says: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=says, capture_output=True, timeout=DEADLINE_S, check=False)

    def curl(self, *options: str) -> str:
        done = self.run("curl", "-sS", "--cacert", str(self.folder / "ca.pem"), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    made = CliRunner().invoke(main, ["dev-certificate", "--output", str(folder)])
    assert made.exit_code == 0, made.output
    admin, listen, redirecting, own = (free_address() for _ in range(4))
    text = EXAMPLE.read_text().replace("127.0.0.1:8080", listen).replace("certificate.", f"{folder}/certificate.")
    text = f"admin: {{listen: {admin}}}\n{text}".replace("replicas: 2\n    listen:", "replicas: 1\n    listen:")
    text = text.replace("127.0.0.1:8081", redirecting).replace("127.0.0.1:8443", own)
    text = text.replace("redirect_https: 8443", f"redirect_https: {own.rpartition(':')[2]}")
    with running_cluster(text, admin, folder) as cluster:
        yield Shop(cluster, folder, listen, redirecting)


@needs_curl
def test_curl_gets_its_answer_over_tls_through_the_edge(shop: Shop) -> None:
    answer = shop.curl("-w", " %{http_code} %{ssl_verify_result}", f"https://localhost:{shop.port}/hello")
    assert answer.endswith(" 200 0")
    assert '["x-forwarded-proto", "https"]' in answer
    assert '"path": "/hello"' in answer


@needs_curl
def test_plain_http_is_told_to_use_https(shop: Shop) -> None:
    answer = shop.curl("-w", " %{http_code}", f"http://localhost:{shop.port}/")
    assert answer.endswith(" 400")
    assert "https://" in answer


@needs_curl
def test_a_listener_that_redirects_leads_to_one_with_tls_of_its_own(shop: Shop) -> None:
    port = shop.redirecting.rpartition(":")[2]
    said = "-w", " %{http_code} %{num_redirects} %{ssl_verify_result}", "--tls-max", "1.3"
    assert shop.curl("--location", *said, f"http://localhost:{port}/hello").endswith(" 200 1 0")


@needs_openssl
def test_openssl_finds_the_certificate_and_the_protocol(shop: Shop) -> None:
    authority = str(shop.folder / "ca.pem")
    client = ("openssl", "s_client", "-connect", shop.listen, "-CAfile", authority, "-verify_return_error")
    done = shop.run(*client, "-servername", "localhost", "-alpn", "h2,http/1.1", "-tls1_3")
    said = done.stdout.decode("latin-1")  # settings of HTTP/2 may be among it
    assert "Verify return code: 0 (ok)" in said, done.stderr
    assert "ALPN protocol: h2" in said
    assert re.search(r"New, TLSv1\.3, Cipher is TLS_", said)
    assert "Early data was not sent" in said


@needs_openssl
def test_openssl_goes_on_with_its_session(shop: Shop) -> None:
    """`-reconnect` connects five times more, to the one node that there is: each knows its own tickets."""
    done = shop.run("openssl", "s_client", "-connect", shop.listen, "-tls1_2", "-reconnect")
    assert b"Reused, TLSv1.2" in done.stdout


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(shop: Shop, version: str) -> None:
    done = shop.run("openssl", "s_client", "-connect", shop.listen, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert b"Cipher is (NONE)" in done.stdout


@needs_openssl
def test_renegotiation_is_refused(shop: Shop) -> None:
    says = b"R\n"
    done = shop.run("openssl", "s_client", "-connect", shop.listen, "-tls1_2", says=says)
    assert b"no renegotiation" in done.stderr


async def test_certificates_that_are_renewed_again_and_again_cost_no_request(shop: Shop) -> None:
    async with loaded(shop) as record:
        for _ in range(RENEWED_S):
            await trio.sleep(1.0)
            await trio.to_thread.run_sync(renew, shop.folder)
    assert record.reasons == []
    assert record.failed == 0
    assert len(record.status) > 100
    assert len(record.serials) > 1, "no renewed one was shown"


def renew(folder: Path) -> None:
    made = CliRunner().invoke(main, ["dev-certificate", "--output", str(folder)])
    assert made.exit_code == 0, made.output


async def test_requests_over_http2_come_through_all_changes(shop: Shop) -> None:
    async with loaded(shop) as record:
        for command in ("scale web=2", "drain web-2", "ready web-2", "restart web"):
            tierlb = [sys.executable, "-m", "tierlb", *command.split()]
            token = ["--token-file", str(shop.cluster.state / "admin-token")]
            done = await trio.run_process(
                [*tierlb, "--admin", f"http://{shop.cluster.admin}", *token],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    assert record.reasons == []
    assert record.failed == 0
    assert len(record.status) > 100


@contextlib.asynccontextmanager
async def loaded(shop: Shop) -> AsyncIterator[Record]:
    """Clients ask over HTTP/2 and TLS meanwhile."""
    record = Record()
    host, _, port = shop.listen.rpartition(":")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client, host, int(port), stop, record, tls_context())
        with trio.fail_after(DEADLINE_S):
            yield record
            stop.set()
