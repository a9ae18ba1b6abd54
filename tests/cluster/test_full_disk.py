"""A cluster whose disk takes nothing any more, neither log nor state: traffic and restarts go on, a change is refused
with the reason, and when there is room again it is made. The disk is played by the limit on file sizes, which the
kernel checks for each write of these processes."""

import contextlib
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys

import httpx
import trio

from tests.processes import running, tierlb
from tierlb.local.ports import FreePorts

DEADLINE_S = 150
DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
FILE = """\
cluster: full
admin: {{listen: "127.0.0.1:{admin}"}}
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:{edge}", to: web}}
  web: {{kind: l7, to: demo}}
pools:
  demo: {{run: {{command: "{command}", replicas: 1}}}}
"""


def set_room(pids, size):
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def pids_of(status):
    return [node["pid"] for tier in status["tiers"].values() for node in tier["nodes"]]


async def until(http, url, wanted):
    while True:
        with contextlib.suppress(httpx.TransportError):
            status = (await http.get(url)).json()
            if status["serving"] and not status["missing"] and wanted(status):
                return status
        await trio.sleep(0.1)


async def verb(*argv):
    return await trio.run_process(
        [*tierlb(argv[0]), *argv[1:]], capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL
    )


async def test_a_disk_that_takes_nothing_stops_no_traffic_and_loses_no_change(tmp_path):
    ports = FreePorts(random.Random(os.getpid()))
    admin, edge = ports.take(), ports.take()
    file, state, log = tmp_path / "full.yaml", tmp_path / "state", tmp_path / "log"
    file.write_text(FILE.format(admin=admin, edge=edge, command=DEMO))
    url, site = f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{edge}/"
    scale = ("scale", "web=2", "--admin", url, "--token-file", str(state / "admin-token"))
    with running([*tierlb("up", state=state), str(file)], log=log) as up, trio.fail_after(DEADLINE_S):
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            status = await until(http, f"{url}/v1/status", lambda status: True)
            pids = pids_of(status)
            set_room([up.pid, *pids], 0)
            refused = await verb(*scale)
            assert refused.returncode == 1
            assert b"free some space" in refused.stderr or b"limit on file sizes" in refused.stderr, refused.stderr
            web = status["tiers"]["web"]["nodes"][0]["pid"]
            os.kill(web, signal.SIGKILL)
            status = await until(http, f"{url}/v1/status", lambda each: web not in pids_of(each))
            assert len(status["tiers"]["web"]["nodes"]) == 1
            for _ in range(20):
                assert (await http.get(site)).status_code == 200
            control = status["tiers"]["edge"]["nodes"][0]["control"]
            assert (await http.get(f"http://{control}/readyz")).status_code == 200
            assert file.read_text() == FILE.format(admin=admin, edge=edge, command=DEMO)

            set_room([up.pid, *pids_of(status)], resource.RLIM_INFINITY)
            done = await verb(*scale)
            assert done.returncode == 0, done.stderr
            status = await until(http, f"{url}/v1/status", lambda each: len(each["tiers"]["web"]["nodes"]) == 2)
            history = (await http.get(f"{url}/v1/history")).json()
            assert [row["number"] for row in history["revisions"]] == [1, 2]
        assert up.poll() is None
    events = [json.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    assert any(event["event"] == "log_lines_dropped" and event["lines"] > 0 for event in events)
