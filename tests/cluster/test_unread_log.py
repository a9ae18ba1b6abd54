"""`tierlb up` whose stderr and stdout are a full pipe that nobody reads, as with a paused terminal or a stuck collector
of logs."""

import os
import random
import shlex
import signal
import sys

import httpx
import trio

from tests.processes import running, tierlb
from tierlb.cluster.ports import FreePorts

DEADLINE_S = 120
DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
FILE = """\
cluster: unread
admin: {{listen: "127.0.0.1:{admin}"}}
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:{edge}", to: web}}
  web: {{kind: l7, to: demo}}
pools:
  demo: {{run: {{command: "{command}", replicas: 1}}}}
"""


def filled_pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer


async def test_a_log_that_nobody_reads_stops_neither_start_nor_traffic_nor_end(tmp_path):
    ports = FreePorts(random.Random(os.getpid()))
    admin, edge = ports.take(), ports.take()
    file, state = tmp_path / "unread.yaml", tmp_path / "state"
    file.write_text(FILE.format(admin=admin, edge=edge, command=DEMO))
    reader, writer = filled_pipe()
    try:
        with running([*tierlb("up", state=state), str(file)], stdout=writer, stderr=writer) as up:
            os.close(writer)
            with trio.fail_after(DEADLINE_S):
                async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
                    status = await first_answer(http, f"http://127.0.0.1:{admin}/v1/status")
                    node = status["tiers"]["web"]["nodes"][0]
                    os.kill(node["pid"], signal.SIGKILL)  # its end, and the next one's start, are lines
                    while True:
                        status = (await http.get(f"http://127.0.0.1:{admin}/v1/status")).json()
                        if status["serving"] and status["tiers"]["web"]["nodes"][0]["pid"] not in (node["pid"], None):
                            break
                    assert (await http.get(f"http://127.0.0.1:{edge}/")).status_code == 200
                up.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(up.wait, abandon_on_cancel=True) == 0
    finally:
        os.close(reader)


async def first_answer(http, url):
    while True:
        try:
            return (await http.get(url)).json()
        except httpx.TransportError:
            await trio.lowlevel.checkpoint()
