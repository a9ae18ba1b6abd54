"""What clients and servers of other makes do at the edges of HTTP: old versions, checks, clients that give up."""

import contextlib
import csv
import json
import queue
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address, running_cluster
from tests.clients.servers import DEADLINE_S, ask, say, serving
from tests.processes import running

pytestmark = pytest.mark.needs("nginx", "apache2", "haproxy", "curl")

TOPOLOGY = """\
cluster: protocol
admin: {{listen: {admin}}}
tiers:
  outer: {{kind: l7, listen: "{outer}", to: inner}}
  inner: {{kind: l7, to: nginx}}
  app: {{kind: l7, listen: "{app}", to: wsgi}}
  cancels: {{kind: l7, listen: "{cancels}", to: slow}}
  finishes: {{kind: l7, listen: "{finishes}", client_abort: finish, to: slow}}
pools:
  nginx: {{endpoints: ["{nginx}"]}}
  wsgi: {{endpoints: ["{wsgi}"]}}
  slow: {{endpoints: ["{slow}"]}}
"""
HAPROXY = """\
global
  stats socket {stats} mode 600
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout check 20s
listen front
  bind {front}
  option httpchk
  server outer {outer} check inter 500ms
"""


class Slow:
    """Answers `GET /SECONDS` after so long, and notes what came of it: the time passed, or the connection ended."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.events: queue.Queue[tuple[str, str]] = queue.Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.sock.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.sock.accept()[0],), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                more = conn.recv(65536)
                if not more:
                    return
                data += more
            target = data.split(b" ")[1].decode()
            conn.settimeout(float(target.strip("/")))
            try:
                conn.recv(1)
                self.events.put((target, "cancelled"))
            except TimeoutError:
                self.events.put((target, "finished"))
                conn.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")


@attrs.frozen
class Site:
    at: dict[str, str]
    slow: Slow


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("protocol")
    at = {name: free_address() for name in ("admin", "outer", "app", "cancels", "finishes", "front")}
    slow = Slow()
    with serving(folder) as servers, slow.sock:
        at |= {name: servers[name] for name in ("nginx", "wsgi")} | {"slow": slow.address}
        with running_cluster(TOPOLOGY.format(**at), at["admin"], folder):
            yield Site(at, slow)


@pytest.mark.parametrize("method", [b"OPTIONS", b"GET"])
def test_http_1_0_without_a_host_passes_two_tiers_and_nginx(others: Site, method: bytes) -> None:
    answer = say(others.at["outer"], method + b" / HTTP/1.0\r\n\r\n")
    assert answer.status == 200
    assert method == b"OPTIONS" or answer.body == b"public"


async def test_the_default_check_of_haproxy_finds_the_stack_up(others: Site, tmp_path: Path) -> None:
    stats, config = tmp_path / "stats", tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(stats=stats, **others.at))
    with running(["haproxy", "-db", "-f", str(config)], tmp_path / "log"), trio.fail_after(DEADLINE_S):
        while True:
            if stats.exists() and (state := checked(stats)) in ("L7OK", "L7STS"):
                break
            await trio.sleep(0.1)
        assert state == "L7OK"


def checked(stats: Path) -> str:
    """What HAProxy's last check of the server gave."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(stats))
        sock.sendall(b"show stat\n")
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    (state,) = (row["check_status"].lstrip("* ") for row in rows if row["svname"] == "outer")
    return state


def gives_up(address: str, path: str) -> None:
    """curl closes its connection after a second."""
    done = subprocess.run(["curl", "--silent", "--max-time", "1", f"http://{address}{path}"], check=False)
    assert done.returncode == 28


def test_an_endpoint_hears_of_a_client_that_gave_up(others: Site) -> None:
    gives_up(others.at["cancels"], "/300")
    assert others.slow.events.get(timeout=DEADLINE_S) == ("/300", "cancelled")


def test_with_client_abort_finish_it_goes_on(others: Site) -> None:
    gives_up(others.at["finishes"], "/3")
    assert others.slow.events.get(timeout=DEADLINE_S) == ("/3", "finished")


@pytest.mark.parametrize("tier", ["cancels", "finishes"])
def test_a_client_that_half_closes_gets_its_answer(others: Site, tier: str) -> None:
    answer = say(others.at[tier], b"GET /1.5 HTTP/1.1\r\nHost: a\r\n\r\n", ends=True)
    assert (answer.status, answer.body) == (200, b"ok")
    assert others.slow.events.get(timeout=DEADLINE_S) == ("/1.5", "finished")


FAMILY = [
    *(b"X-Forwarded-For", b"X-Forwarded-Port", b"X-Forwarded-Prefix", b"X-Forwarded-Ssl", b"Forwarded"),
    *(b"X-Real-IP", b"X-Client-IP", b"X-Original-URL", b"X-Rewrite-URL"),
]


def test_an_application_sees_nothing_that_a_stranger_says_of_itself(others: Site) -> None:
    fields = [name + b": 9.9.9.9" for name in FAMILY]
    environ = json.loads(ask(others.at["app"], b"/environ", "a.example", *fields, b"X-Other: 9.9.9.9").body)
    assert [name for name, value in environ.items() if "9.9.9.9" in value] == ["HTTP_X_OTHER"]
    assert environ["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("sign", [b"_", b"."])
def test_no_other_spelling_of_such_a_name_reaches_an_application(others: Site, name: bytes, sign: bytes) -> None:
    spelled = name.replace(b"-", sign, 1)
    if spelled != name:
        assert ask(others.at["app"], b"/environ", "a.example", spelled + b": 9.9.9.9").status == 400


def test_an_upload_that_asks_to_continue_over_http_1_0_is_not_held_up(others: Site) -> None:
    request = b"POST /x HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok"
    assert say(others.at["app"], request).status == 200
