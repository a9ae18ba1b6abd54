"""The table, made from what a real admin API answered."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from tierlb.cli.main import main

LOAD = {"connections": 3, "in_flight": 2, "items": 12345, "errors": 1}
NODE = {"state": "serving", "pid": 42, "addresses": ["127.0.0.1:8080"], "load": LOAD, "items_per_s": 1500.4}
GONE = {"name": "edge-2", "state": "gone", "pid": None, "addresses": [], "load": None, "items_per_s": None}
STATUS = {
    "cluster": "shop",
    "revision": 7,
    "serving": True,
    "missing": ["edge-2 has not joined"],
    "tiers": {"edge": {"kind": "l4", "listen": "127.0.0.1:8080", "nodes": [{"name": "edge-1", **NODE}, GONE]}},
    "pools": {"app": {"endpoints": [{"address": "127.0.0.1:9001", "state": "serving", "pid": 77}]}},
}


@pytest.fixture
def serve():
    """Answers every GET with the status code and body given."""
    servers = []

    def start(code, body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def status(url, *options):
    return CliRunner().invoke(main, ["status", "--admin", url, *options])


def test_the_table_has_a_row_for_each_node_and_endpoint(serve):
    result = status(serve(200, json.dumps(STATUS).encode()))
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert rows[0] == ["shop", "serving", "revision", "7"]
    assert ["edge-1", "serving", "42", "127.0.0.1:8080", "3", "2", "1,500", "12,345", "1"] in rows
    assert ["edge-2", "gone"] in rows
    assert ["127.0.0.1:9001", "serving", "77"] in rows
    assert "edge-2 has not joined" in result.stdout


def test_json_is_what_the_api_answered(serve):
    result = status(serve(200, json.dumps(STATUS).encode()), "--json")
    assert json.loads(result.stdout) == STATUS


def test_no_cluster_there_says_what_to_do():
    result = status("http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "start one with `tierlb up FILE`" in result.stderr


def test_another_answer_than_200_is_shown(serve):
    result = status(serve(421, b"this Host is not served here"))
    assert result.exit_code == 1
    assert "answered 421: this Host is not served here" in result.stderr
