"""Real servers that speak HTTP/2 over TLS: nginx, HAProxy, node and Hypercorn; nginx also as one that does not."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from scripts.benchmarks.cluster import free_address
from tests.certificates import Authority
from tests.clients.servers import NGINX_HTTP, wait_for
from tests.processes import running
from tierlb.model.address import Address, parse_address

SERVERS = {
    "nginx": ["nginx", "-p", "{folder}", "-c", "{folder}/nginx.conf"],
    "haproxy": ["haproxy", "-db", "-f", "{folder}/haproxy.cfg"],
    "node": ["node", "{folder}/server.js"],
    "hypercorn": [
        *(sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--workers", "0", "--bind", "{hypercorn}"),
        *("--certfile", "{folder}/shop.pem", "--keyfile", "{folder}/shop.key", "--log-level", "critical"),
        "tests.dataplane.l7.http2_servers:application",
    ],
}
NGINX = NGINX_HTTP.replace(
    "{servers}",
    """\
  ssl_certificate {folder}/shop.pem;
  ssl_certificate_key {folder}/shop.key;
  server {{ listen {nginx} ssl http2; location / {{ return 200 "$server_protocol"; }} }}
  server {{ listen {plain} ssl; location / {{ return 200 "$server_protocol"; }} }}
""",
)
HAPROXY = """\
global
  maxconn 100
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 30s
frontend f
  bind {haproxy} ssl crt {folder}/both.pem alpn h2,http/1.1
  http-request return status 200 content-type text/plain lf-string "HTTP/%[req.ver]"
"""
NODE = """\
const http2 = require("http2"), fs = require("fs");
const files = {{ key: fs.readFileSync("{folder}/shop.key"), cert: fs.readFileSync("{folder}/shop.pem") }};
const server = http2.createSecureServer({{ ...files, allowHTTP1: true }}, (request, response) => {{
  if (request.method == "POST") request.pipe(response);
  else response.end("HTTP/" + request.httpVersion);
}});
const [host, port] = "{node}".split(":");
server.listen(Number(port), host);
"""


async def application(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """For Hypercorn: the protocol, or the body that came."""
    while scope["type"] == "lifespan":
        await send({"type": f"{(await receive())['type']}.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = scope["method"] == "POST"
    if not more:
        await send({"type": "http.response.body", "body": f"HTTP/{scope['http_version']}".encode(), "more_body": True})
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@attrs.frozen
class Http2Servers:
    """Those that are installed, by name, and `plain`, without HTTP/2. Their certificates are of `authority`."""

    authority: Authority
    at: dict[str, Address]


@contextlib.contextmanager
def http2_servers(folder: Path) -> Iterator[Http2Servers]:
    """Run them."""
    authority = Authority(folder)
    issued = authority.issue()
    (folder / "both.pem").write_bytes(b"".join(Path(f).read_bytes() for f in attrs.astuple(issued)))
    at = {name: free_address() for name in (*SERVERS, "plain")}
    for name, text in (("nginx.conf", NGINX), ("haproxy.cfg", HAPROXY), ("server.js", NODE)):
        (folder / name).write_text(text.format(folder=folder, **at))
    with contextlib.ExitStack() as stack:
        for name, argv in SERVERS.items():
            if shutil.which(argv[0]) is None:
                del at[name]
                continue
            stack.enter_context(running([part.format(folder=folder, **at) for part in argv], folder / f"{name}.log"))
        if "nginx" not in at:
            del at["plain"]
        for address in at.values():
            wait_for(address)
        yield Http2Servers(authority, {name: parse_address(address) for name, address in at.items()})
