"""Commands run in process, and an admin API that says what a test wants it to say."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from tierlb.cli.main import main
from tierlb.controller.status import (
    ClusterStatus,
    EndpointStatus,
    NodeStatus,
    PoolStatus,
    State,
    TierStatus,
    as_json,
)
from tierlb.model.address import Address
from tierlb.model.load import HostLoad, NodeLoad, SubtreeLoad
from tierlb.telemetry.sketch import Sketch

GOOD = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""


def run(*arguments, env=None):
    return CliRunner().invoke(main, arguments, env=env)


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "shop.yaml"
        file.write_text(text)
        return str(file)

    return write


def sketch_of(*values_s):
    sketch = Sketch()
    for value_s in values_s:
        sketch.add(value_s)
    return sketch.encode()


def node(name, port, *hosts, in_flight=2, rate=None, state=State.SERVING, **more):
    load = NodeLoad(3, in_flight, 12345, 1, 0, 0, 0, 0.2, hosts)
    known = {"pid": 42, "revision": 7, "report_age_s": 0.25, "build": "compiled", **more}
    where = (Address("127.0.0.1", port),)
    return NodeStatus(name, state, True, addresses=where, load=load, items_per_s=rate, **known)


def gone(name):
    return NodeStatus(name, State.GONE, False, None, 0, (), None, None, None)


def host(name, share, **more):
    return HostLoad(name, **{"in_flight": 1, "done": 100, "failed": 0, "share": share, **more})


def shop():
    """One edge and one that has not joined, two web nodes of which one is ejected, and a pool of one endpoint."""
    edge = node("edge-1", 8080, host("web-1", 0.75), host("web-2", 0.25, availability="ejected"), rate=12.0)
    app = host("app/127.0.0.1:9001", 1.0, capacity=2000.0)
    load = {
        "subtree": SubtreeLoad(capacity=2000.0, slots=8.0, utilisation=0.62, in_flight=2),
        "latency": sketch_of(0.012),
    }
    web = (node("web-1", 7001, app, rate=1500.4, **load), node("web-2", 7002, app, rate=0.0))
    seen_by = {"web-1": app, "web-2": app}
    return ClusterStatus(
        "shop",
        7,
        True,
        ("edge-2 has not joined",),
        {
            "edge": TierStatus("l4", Address("127.0.0.1", 8080), ("web",), (edge, gone("edge-2"))),
            "web": TierStatus("l7", None, ("app",), web),
        },
        {"app": PoolStatus((EndpointStatus(Address("127.0.0.1", 9001), State.SERVING, 77, seen_by=seen_by),))},
        waiting=("edge: 1 of 2 nodes serve; edge-2 has not joined",),
    )


def answer(status):
    """As the admin API gives it."""
    return 200, json.dumps(as_json(status)).encode()


def words(text):
    return [line.split() for line in text.splitlines() if line.strip()]


@pytest.fixture
def serve():
    """Answers with these (status code, body) in turn, and further requests with the last; `asked` is what was asked,
    `sent` the head and body of each POST."""
    servers = []
    asked = []
    sent = []

    def start(*answers):
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.command, self.path))
                code, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                sent.append((self.headers, body))
                self.do_GET()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    start.asked, start.sent = asked, sent
    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
