"""Hundreds of silent connections to every port of a cluster's control plane, which may open only 200 files a process:
what is killed is started again, probes are answered, and traffic goes on."""

import contextlib
import os
import random
import resource
import shlex
import signal
import socket
import sys

import httpx
import pytest
import trio

from tests.processes import running, tierlb
from tierlb.channel.join_credentials import read
from tierlb.local.ports import FreePorts
from tierlb.model.address import parse_address

DEADLINE_S = 150
FILES = 200
STRANGERS = 400
DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
FILE = """\
cluster: strangers
admin: {{listen: "127.0.0.1:{admin}"}}
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:{edge}", to: web}}
  web: {{kind: l7, to: demo}}
pools:
  demo: {{run: {{command: "{command}", replicas: 1}}}}
"""


@pytest.fixture
def ports():
    free = FreePorts(random.Random(os.getpid()))
    return free.take(), free.take()


@contextlib.contextmanager
def silent(*addresses):
    """So many connections to each, of which half say half a request."""
    with contextlib.ExitStack() as stack:
        for address in addresses:
            for number in range(STRANGERS):
                stranger = stack.enter_context(socket.create_connection(address, timeout=DEADLINE_S))
                if number % 2:
                    with contextlib.suppress(OSError):
                        stranger.sendall(b"GET /metrics HTTP/1.1\r\nHos")
        yield


async def until_served(http, admin, gone=None):
    """The status once everything serves, with another process in the place of the one that is gone."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            status = (await http.get(f"http://127.0.0.1:{admin}/v1/status")).json()
            if status["serving"] and not status["missing"] and status["tiers"]["web"]["nodes"][0]["pid"] != gone:
                return status
        await trio.sleep(0.1)


async def test_strangers_on_the_ports_of_the_control_plane_keep_nothing_from_working(tmp_path, ports):
    (admin, edge), file, state = ports, tmp_path / "strangers.yaml", tmp_path / "state"
    file.write_text(FILE.format(admin=admin, edge=edge, command=DEMO))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft < 4 * STRANGERS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8 * STRANGERS), hard))
    limited = ["sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh", *tierlb("up", state=state), str(file)]
    try:
        with running(limited, log=tmp_path / "log") as up, trio.fail_after(DEADLINE_S):
            async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
                status = await until_served(http, admin)
                control = read(state).url.partition("//")[2]
                nodes = {tier: status["tiers"][tier]["nodes"][0] for tier in ("edge", "web")}
                at = [control, *(node["control"] for node in nodes.values()), f"127.0.0.1:{admin}"]
                with silent(*(parse_address(each).sockaddr[:2] for each in at)):
                    for node in nodes.values():
                        for page in ("livez", "readyz", "metrics"):
                            assert (await http.get(f"http://{node['control']}/{page}")).status_code == 200
                    os.kill(nodes["web"]["pid"], signal.SIGKILL)
                    await until_served(http, admin, gone=nodes["web"]["pid"])
                    assert (await http.get(f"http://127.0.0.1:{admin}/healthz")).status_code == 200
                    assert (await http.get(f"http://127.0.0.1:{edge}/")).status_code == 200
            assert up.poll() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
