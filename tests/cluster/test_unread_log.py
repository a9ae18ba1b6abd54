"""`tierlb up` whose stderr and stdout are a full pipe that nobody reads, as with a paused terminal or a stuck collector
of logs."""

import contextlib
import os
import random
import shlex
import signal
import sys

import httpx
import trio

from tests.processes import running, tierlb
from tierlb.local.ports import FreePorts

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
                    url = f"http://127.0.0.1:{admin}/v1/status"
                    pid = await until_served(http, url)
                    os.kill(pid, signal.SIGKILL)  # its end, and the next one's start, are lines
                    await until_served(http, url, gone=pid)
                    assert (await http.get(f"http://127.0.0.1:{edge}/")).status_code == 200
                up.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(up.wait, abandon_on_cancel=True) == 0
    finally:
        os.close(reader)


async def until_served(http, url, gone=None):
    """The pid of the l7 node once everything serves, with another one in the place of the one that is gone."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            status = (await http.get(url)).json()
            pid = status["tiers"]["web"]["nodes"][0]["pid"]
            if status["serving"] and not status["missing"] and pid not in (gone, None):
                return pid
        await trio.sleep(0.1)
