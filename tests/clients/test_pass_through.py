"""TLS through l4 tiers to real servers, chosen by what real clients ask for, on the port that plain HTTP has too."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from tests.hellos import MANY_PROTOCOLS
from tests.processes import running

pytestmark = pytest.mark.needs("openssl", "nginx", "curl")

DEADLINE_S = 60.0

TOPOLOGY = """\
cluster: pass
admin: {{listen: {admin}}}
tiers:
  edge:
    kind: l4
    listen: "{listen}"
    replicas: 2
    routes:
      - match: {{sni: a.example.com}}
        to: openssl
      - match: {{sni: "*.b.example.com"}}
        to: mid
      - match: {{alpn: protocol-007}}
        to: mid
      - match: {{source: 127.0.0.1}}
        to: web
  mid:
    kind: l4
    routes:
      - match: {{sni: [y.b.example.com, long.example.com]}}
        to: openssl
      - to: nginx
  web: {{kind: l7, to: demo}}
pools:
  openssl: {{endpoints: ["{openssl}"]}}
  nginx: {{endpoints: ["{nginx}"]}}
  demo: {{run: {{command: "tierlb demo-backend --host {{host}} --port {{port}}"}}}}
"""
NGINX = """\
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  server {{
    listen {address} ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    location / {{ return 200 "nginx for $ssl_server_name\\n"; }}
  }}
}}
"""


@attrs.frozen
class PassThrough:
    """The cluster, and what its clients know."""

    cluster: Cluster
    host: str
    port: int
    ca: Path

    def curl(self, name: str, *options: str) -> str:
        """What a client gets for this name; it has to trust the certificate of whoever answers."""
        at = f"{name}:{self.port}"
        to = ["--resolve", f"{at}:{self.host}", "--cacert", str(self.ca), f"https://{at}/"]
        done = subprocess.run(["curl", "-sS", *options, *to], capture_output=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode(errors="replace")

    def openssl(self, *options: str, says: bytes = b"GET / HTTP/1.0\r\n\r\n") -> str:
        """What `openssl s_client` gets."""
        argv = ["openssl", "s_client", "-connect", f"{self.host}:{self.port}", "-CAfile", str(self.ca)]
        done = subprocess.run(
            [*argv, "-verify_return_error", "-quiet", "-ign_eof", *options],
            input=says,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PassThrough]:
    directory = tmp_path_factory.mktemp("pass")
    authority = trustme.CA()
    names = ["a.example.com", "*.b.example.com", "long.example.com"]
    pem, ca = directory / "server.pem", directory / "ca.pem"
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(ca)
    listen, admin, openssl, nginx = (free_address() for _ in range(4))
    conf = directory / "nginx.conf"
    conf.write_text(NGINX.format(directory=directory, address=nginx, pem=pem))
    server = ["openssl", "s_server", "-accept", openssl, "-cert", str(pem), "-key", str(pem), "-www", "-quiet"]
    text = TOPOLOGY.format(admin=admin, listen=listen, openssl=openssl, nginx=nginx)
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(server))
        stack.enter_context(running(["nginx", "-c", str(conf), "-e", str(directory / "error.log")]))
        cluster = stack.enter_context(running_cluster(text, admin, directory))
        host, _, port = listen.rpartition(":")
        yield PassThrough(cluster, host, int(port), ca)


def test_curl_reaches_the_server_of_the_name_that_it_asks_for(site: PassThrough) -> None:
    assert "s_server" in site.curl("a.example.com")
    assert site.curl("x.b.example.com") == "nginx for x.b.example.com\n"
    assert "s_server" in site.curl("y.b.example.com")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_does_likewise_with_each_version(site: PassThrough, version: str) -> None:
    assert "nginx for x.b.example.com" in site.openssl("-servername", "x.b.example.com", version)
    assert "s_server" in site.openssl("-servername", "a.example.com", version)


def test_a_hello_in_many_records_is_read_by_both_tiers(site: PassThrough) -> None:
    offered = ["-alpn", ",".join(MANY_PROTOCOLS), "-max_send_frag", "512"]
    assert "s_server" in site.openssl("-servername", "long.example.com", *offered)


def test_plain_http_on_the_same_port_goes_to_the_l7_tier(site: PassThrough) -> None:
    done = subprocess.run(
        ["curl", "-sS", "-w", "%{http_code}", "-o", "/dev/null", f"http://{site.host}:{site.port}/"],
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stdout == b"200"


async def test_many_clients_at_once_each_get_theirs(site: PassThrough) -> None:
    context = ssl.create_default_context(cafile=site.ca)
    got: list[str] = []

    async def ask(name: str, expected: str) -> None:
        stream = await trio.open_tcp_stream(site.host, site.port)
        tls = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
        async with stream:
            with trio.fail_after(DEADLINE_S):
                await tls.send_all(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join([piece async for piece in tls])
        assert expected in answer.decode(errors="replace")
        got.append(name)

    clients: Sequence[tuple[str, str]] = [("a.example.com", "s_server"), ("x.b.example.com", "nginx for x")]
    async with trio.open_nursery() as nursery:
        for name, expected in clients * 50:
            nursery.start_soon(ask, name, expected)
    assert len(got) == 100
