"""A rule that denies `/admin` holds for every spelling, before a real nginx, a real Apache and a WSGI application.

Each server keeps a secret under `/admin`. That the spellings matter is shown by asking the servers themselves first.
"""

import contextlib
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
import pytest
import trio

from scripts.benchmarks.cluster import free_address, running_cluster
from tests.processes import running

pytestmark = pytest.mark.needs("nginx", "apache2")

DEADLINE_S = 60.0
SECRET = b"the secret of "
SERVERS = ("nginx", "apache", "wsgi")
MODULES = Path("/usr/lib/apache2/modules")

TOPOLOGY = """\
cluster: paths
admin: {{listen: {admin}}}
tiers:
  prefix:
    kind: l7
    listen: "{prefix}"
    routes: [{{match: {{path_prefix: /admin}}, respond: {{status: 403}}}}, {servers}]
  exact:
    kind: l7
    listen: "{exact}"
    routes: [{{match: {{path: /admin}}, respond: {{status: 403}}}}, {servers}]
  allow:
    kind: l7
    listen: "{allow}"
    routes: [{{match: {{path: /admin}}, respond: {{status: 403}}}}, {allowed}, {{respond: {{status: 403}}}}]
  as-sent:
    kind: l7
    listen: "{as_sent}"
    paths: as-sent
    routes: [{{match: {{path: /admin}}, respond: {{status: 403}}}}, {servers}]
  upper: {{kind: l7, listen: "{upper}", to: prefix}}
pools: {{{pools}}}
"""
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen {address};
    location / {{ return 200 "public"; }}
    location = /admin {{ return 200 "the secret of nginx"; }}
    location /admin/ {{ return 200 "the secret of nginx, below"; }}
  }}
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


def ask(address: str, target: bytes, host: str) -> Answer:
    """One request with the target byte by byte as given."""
    name, _, port = address.rpartition(":")
    with socket.create_connection((name, int(port)), DEADLINE_S) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (target, host.encode()))
        said = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), body)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """As lenient as applications are: decodes once more, takes backslashes for slashes, drops parameters and what
    follows NUL, resolves dot segments."""
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
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, address=at["nginx"]))
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


@attrs.frozen
class Site:
    servers: dict[str, str]
    tiers: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("paths")
    tiers = {name: free_address() for name in ("prefix", "exact", "allow", "as-sent", "upper")}
    admin = free_address()
    with serving(folder) as servers:
        routes = [f"{{match: {{host: {name}}}, to: {name}}}" for name in servers]
        allowed = [f"{{match: {{host: {name}, path_prefix: /public}}, to: {name}}}" for name in servers]
        text = TOPOLOGY.format(
            admin=admin,
            servers=", ".join(routes),
            allowed=", ".join(allowed),
            pools=", ".join(f'{name}: {{endpoints: ["{address}"]}}' for name, address in servers.items()),
            as_sent=tiers["as-sent"],
            **tiers,
        )
        with running_cluster(text, admin, folder):
            yield Site(servers, tiers)


def spellings() -> list[bytes]:
    """Of `/admin` and of what is below it."""
    names = [b"admin", b"%61dmin", b"%61%64%6D%69%6E", b"%61%64%6d%69%6e", b"adm%69n", b"%2561dmin", b"%252561dmin"]
    names += [b"admin;a=b", b"admin;", b"%61dmin;a=%2F..", b"admin%3Ba=b", b"admin%00", b"admin%00.html", b"admin%3F"]
    names += [b"admin%23", b"admin%20", b"admin.", b"admin%0a", b"adm%09in", b"admin%2e", b"admin%5c", b"%EF%BD%81dmin"]
    ways = [b"/", b"//", b"///", b"/./", b"/.//", b"/%2e/", b"/x/../", b"/x/%2e%2e/", b"/x/.%2E/", b"/x//../", b"/../"]
    ways += [b"/x/y/../../", b"/public/../", b"/;/", b"/;a=b/", b"/.;/", b"/x/..;/", b"/x/..;a=b/", b"/x/..%3B/"]
    ways += [b"/x%2F..%2F", b"/..%2F", b"/%2F", b"/x/..%2f", b"/x%5C..%5C", b"/x\\..\\", b"/\\", b"/%5C", b"/x/..\\"]
    ways += [b"/x/%252e%252e/", b"/x%252F..%252F", b"/..%c0%af", b"/x/%c0%ae%c0%ae/", b"/x/%e0%80%ae./", b"/%00/"]
    ways += [b"/x/..%00/", b"/x/..%0d/", b"/public/..%252f", b"/public%2f../", b"/public;/..;/", b"/x/%25%32%65./"]
    ways += [
        b"/public/..;/",
        b"/public/..%2f",
        b"/public/..%5c",
        b"/public\\..\\",
        b"http://a/",
        b"http://a//",
        b"HTTP://a/./",
    ]
    endings = [
        b"",
        b"/",
        b"/.",
        b"/x",
        b"//x",
        b"/x/..",
        b"/./x",
        b"%2Fx",
        b"%2f",
        b"\\x",
        b"%5Cx",
        b"?x",
        b";a/x",
        b"/;a",
    ]
    found = [way + b"admin" + ending for way in ways for ending in endings]
    found += [way + name for way in ways[::2] for name in names]
    found += [b"/" + name + ending for name in names for ending in endings]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("server", SERVERS)
def test_spellings_reach_the_secret_of_an_unguarded_server(guarded: Site, server: str) -> None:
    plain = {b"/admin", b"/%61dmin", b"/x/../admin", b"//admin", b"/./admin", b"/x/%2e%2e/admin", b"/admin/x"}
    assert plain <= set(spellings())
    for target in plain:
        assert ask(guarded.servers[server], target, server).body.startswith(SECRET), target
    assert ask(guarded.servers[server], b"/public/x", server).body == b"public"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("tier", ["prefix", "allow"])
def test_no_spelling_passes_by_a_rule_for_what_is_below_a_path(guarded: Site, tier: str, server: str) -> None:
    passed = [t for t in spellings() if SECRET in ask(guarded.tiers[tier], t, server).body]
    assert passed == []
    assert ask(guarded.tiers[tier], b"/public/x", server) == Answer(200, b"public")
    assert ask(guarded.tiers[tier], b"/x/..//admin", server).status == 403


@pytest.mark.parametrize("server", SERVERS)
def test_no_spelling_passes_by_a_rule_for_one_path(guarded: Site, server: str) -> None:
    """What is below the path, and the path with a slash behind it, are other paths."""
    secret = SECRET + server.encode()
    assert ask(guarded.servers[server], b"/admin", server).body == secret
    assert [t for t in spellings() if ask(guarded.tiers["exact"], t, server).body == secret] == []
    assert ask(guarded.tiers["exact"], b"/public/x", server) == Answer(200, b"public")
    assert ask(guarded.tiers["exact"], b"//admin?x", server).status == 403
    assert ask(guarded.tiers["exact"], b"/admin/x", server).body == secret + b", below"


@pytest.mark.parametrize("server", SERVERS)
def test_a_tier_above_changes_nothing(guarded: Site, server: str) -> None:
    assert [t for t in spellings()[::20] if SECRET in ask(guarded.tiers["upper"], t, server).body] == []
    assert ask(guarded.tiers["upper"], b"/public/x", server) == Answer(200, b"public")


def test_as_sent_forwards_what_came(guarded: Site) -> None:
    """Then it is for the operator to know how the servers behind read paths."""
    assert ask(guarded.tiers["as-sent"], b"//admin", "wsgi").body == b"the secret of wsgi"
    assert ask(guarded.tiers["as-sent"], b"/admin", "wsgi").status == 403
