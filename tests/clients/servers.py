"""Real servers behind the cluster, each with something public and a secret under `/admin`: nginx, Apache, and a WSGI
application that is as lenient about paths as applications are."""

import contextlib
import json
import posixpath
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import attrs
import trio

from scripts.benchmarks.cluster import free_address
from tests.processes import running

DEADLINE_S = 60.0
MODULES = Path("/usr/lib/apache2/modules")
SERVERS = ("nginx", "apache", "wsgi")

NGINX_HTTP = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
{servers}
}}
"""
"""Of an nginx in a folder of its own, which stays in the foreground."""
NGINX = """\
  server {{
    listen {address};
    location / {{ return 200 "public"; }}
    location = /admin {{ return 200 "the secret of nginx"; }}
    location /admin/ {{ return 200 "the secret of nginx, below"; }}
  }}
"""
APACHE = """\
ServerRoot {folder}
ServerName apache
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
Listen {address}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
DocumentRoot {folder}/www
AllowEncodedSlashes On
AliasMatch ^/admin/ {folder}/www/below
<Directory {folder}/www>
  Require all granted
</Directory>
"""


@attrs.frozen
class Answer:
    status: int
    body: bytes


def ask(address: str, target: bytes, host: str, *fields: bytes) -> Answer:
    """One request with the target byte by byte as given."""
    lines = [b"GET %b HTTP/1.1" % target, b"Host: " + host.encode(), *fields, b"Connection: close", b"", b""]
    return say(address, b"\r\n".join(lines))


def say(address: str, data: bytes, *, ends: bool = False) -> Answer:
    """Bytes as given, half-closing behind them if it `ends`, and the whole of what comes back."""
    name, _, port = address.rpartition(":")
    with socket.create_connection((name, int(port)), DEADLINE_S) as sock:
        sock.sendall(data)
        if ends:
            sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), body)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """As lenient as applications are: decodes once more, takes backslashes for slashes, drops parameters and what
    follows NUL, resolves dot segments. At /environ it tells what it was given."""
    if environ["PATH_INFO"] == "/environ":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]
    path = unquote(environ["PATH_INFO"]).replace("\\", "/").partition("\x00")[0]
    path = re.sub("/+", "/", re.sub(";[^/]*", "", path))
    path = posixpath.normpath(path) + ("/" if path.endswith(("/", "/.", "/..")) else "")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/admin":
        return [b"the secret of wsgi"]
    return [b"the secret of wsgi, below" if path.startswith("/admin/") else b"public"]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """The three servers, by name."""
    at = {name: free_address() for name in SERVERS[:2]}
    files = folder / "www"
    (files / "public").mkdir(parents=True)
    (files / "admin").write_text("the secret of apache")
    (files / "below").write_text("the secret of apache, below")
    (files / "public" / "x").write_text("public")
    (folder / "nginx.conf").write_text(NGINX_HTTP.format(folder=folder, servers=NGINX.format(address=at["nginx"])))
    (folder / "apache.conf").write_text(APACHE.format(folder=folder, address=at["apache"], modules=MODULES))
    with (
        running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "log"),
        running(["apache2", "-X", "-f", str(folder / "apache.conf")], folder / "log"),
        make_server("127.0.0.1", 0, application, WSGIServer, Quiet) as wsgi,
    ):
        threading.Thread(target=wsgi.serve_forever, daemon=True).start()
        at["wsgi"] = f"127.0.0.1:{wsgi.server_port}"
        try:
            for address in at.values():
                wait_for(address)
            yield at
        finally:
            wsgi.shutdown()


def wait_for(address: str) -> None:
    host, _, port = address.rpartition(":")

    async def connect() -> None:
        with trio.fail_after(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError):
                    await (await trio.open_tcp_stream(host, int(port))).aclose()
                    return
                await trio.sleep(0.05)

    trio.run(connect)
