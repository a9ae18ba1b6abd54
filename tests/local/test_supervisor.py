"""Real processes: `tierlb up` as a person runs it, and what must be left when it ends in whatever way."""

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from tierlb.channel.join_credentials import NoJoinCredentials, read
from tierlb.controller.controller import Controller
from tierlb.local.guard import SCRIPT, Guard
from tierlb.local.ports import FreePorts
from tierlb.local.supervisor import Supervisor, stop_order
from tierlb.model.address import Address
from tierlb.model.topology import Forward, Kind, Match, Pool, Route, Run, Share, Tier, Topology
from tierlb.net.websocket import connect
from tierlb.node.snapshot_cache import FILE as SNAPSHOT_CACHE
from tierlb.node.snapshot_cache import load
from tierlb.wire.credentials import BadCredential, Principal, Role, parse_credential

DEADLINE_S = 90
DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
FILE = """\
cluster: small
admin: {{listen: "127.0.0.1:{admin}"}}
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:{edge}", to: web}}
  web: {{kind: l7, replicas: 2, to: demo}}
pools:
  demo: {{run: {{command: "{command}", replicas: 2}}}}
"""

STOP_HINT = "what is under way has up to 30s; again to end it now"


@attrs.define
class Up:
    """A running `tierlb up`."""

    process: trio.Process
    edge: str
    admin: str
    output: str = ""

    async def status(self):
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            return (await http.get(f"{self.admin}/v1/status")).json()

    async def pids(self):
        status = await self.status()
        rows = [node for tier in status["tiers"].values() for node in tier["nodes"]]
        rows += [endpoint for pool in status["pools"].values() for endpoint in pool["endpoints"]]
        return [row["pid"] for row in rows]

    async def answer(self):
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            return await http.get(f"{self.edge}/hello")

    async def read_until(self, text):
        while text not in self.output:
            chunk = await self.process.stdout.receive_some()
            assert chunk, f"it ended with:\n{self.output}"
            self.output += chunk.decode()


async def start(tmp_path, command):
    ports = FreePorts(random.Random(os.getpid()))
    admin, edge = ports.take(), ports.take()
    file = tmp_path / "small.yaml"
    file.write_text(FILE.format(admin=admin, edge=edge, command=command))
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tierlb", "up", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Up(process, f"http://127.0.0.1:{edge}", f"http://127.0.0.1:{admin}")


@pytest.fixture
async def up(tmp_path, request):
    """Its endpoints are demo backends, unless a test says otherwise."""
    up = await start(tmp_path, getattr(request, "param", DEMO))
    try:
        yield up
    finally:
        with trio.CancelScope(shield=True):
            if up.process.poll() is None:
                up.process.kill()
            await up.process.wait()
            await up.process.stdout.aclose()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition):
    while not await condition():
        await trio.lowlevel.checkpoint()


async def test_a_cluster_serves_restarts_what_is_killed_and_leaves_nothing_behind(up):
    with trio.fail_after(DEADLINE_S):
        await up.read_until("Ctrl-C stops everything")
        assert f"curl {up.edge}/" in up.output
        answer = await up.answer()
        assert answer.status_code == 200
        assert answer.json()["path"] == "/hello"

        killed = (await up.status())["tiers"]["web"]["nodes"][0]["pid"]
        os.kill(killed, signal.SIGKILL)

        async def is_back():
            status = await up.status()
            node = status["tiers"]["web"]["nodes"][0]
            return node["pid"] not in (killed, None) and not status["missing"]

        await until(is_back)
        assert (await up.answer()).status_code == 200

        pids = await up.pids()
        assert len(pids) == 5
        up.process.send_signal(signal.SIGINT)
        assert await up.process.wait() == 0
        assert [pid for pid in pids if is_alive(pid)] == []
        for url in (up.edge, up.admin):
            with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))) as free:
                assert free.fileno() > 0


def guard_of(pid):
    """The process that ends the others when this one is killed."""
    found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and is_guard(path, pid))
    return next(found)


def is_guard(path, parent):
    try:
        of = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        return of == parent and SCRIPT.encode() in (path / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_killed_supervisor_leaves_no_orphan_though_its_guard_was_killed_before(up):
    with trio.fail_after(DEADLINE_S):
        await up.read_until("Ctrl-C stops everything")
        pids = await up.pids()
        os.kill(guard_of(up.process.pid), signal.SIGKILL)
        await up.read_until('"guard_started"')
        assert '"guard_ended"' in up.output
        assert (await up.answer()).status_code == 200
        assert all(map(is_alive, pids))
        up.process.kill()
        await up.process.wait()
        while any(map(is_alive, pids)):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("up", ["sleep 60 {port}"], indirect=True, ids=["endpoints that never accept"])
async def test_a_signal_while_starting_stops_what_was_started(up):
    with trio.fail_after(DEADLINE_S):
        await up.read_until("node_joined")
        up.process.send_signal(signal.SIGTERM)
        while chunk := await up.process.stdout.receive_some():
            up.output += chunk.decode()
        assert await up.process.wait() == 0
    assert "is ready" not in up.output
    assert json.loads(up.output.splitlines()[-1])["event"] == "cluster_stopped"


def tier(name, kind, *targets, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, targets),))),), **more)


def topology(*tiers, pools):
    return Topology("small", {t.name: t for t in tiers}, {p.name: p for p in pools})


def test_each_tier_stops_after_all_that_send_to_it_and_pools_last():
    deep = topology(
        tier("api", Kind.L7, "app"),
        tier("web", Kind.L7, "api", "app"),
        tier("edge", Kind.L4, "web"),
        tier("door", Kind.L4, "api"),
        pools=(Pool("app"), Pool("other")),
    )
    assert stop_order(deep) == (("edge", "door"), ("web",), ("api",), ("app", "other"))


class KeptLog:
    def __init__(self):
        self.events = []

    def info(self, event, **fields):
        self.events.append((event, fields))

    warning = error = info


async def never_serves(_):
    pytest.fail("it serves")


async def supervise(command, deadline_s=30.0, on_serving=never_serves, log=None, invite=None):
    edge = tier("edge", Kind.L4, "demo", listen=Address("127.0.0.1", 0))
    small = topology(edge, pools=(Pool("demo", run=Run(command)),))
    log = log or KeptLog()
    supervisor = Supervisor(small, Controller(small, log), log, random.Random(1), deadline_s, invite)
    with trio.fail_after(DEADLINE_S):
        return await supervisor.run(on_serving)


async def test_while_it_serves_others_are_told_how_to_join(tmp_path):
    seen = []

    async def look(background):
        join_credentials = read(tmp_path)
        given = parse_credential(join_credentials.token)
        async with connect(join_credentials.url, given.narrowed(Principal(Role.AGENT, "app", "app-1")).text):
            seen.append(join_credentials)
        with pytest.raises(BadCredential, match="for all agents, not for node"):
            given.narrowed(Principal(Role.NODE, "edge", "edge-1"))
        os.kill(os.getpid(), signal.SIGTERM)

    assert await supervise(DEMO, on_serving=look, invite=tmp_path) == ""
    assert len(seen) == 1
    with pytest.raises(NoJoinCredentials):
        read(tmp_path)


async def test_it_serves_where_nobody_can_be_told_how_to_join(tmp_path):
    log, blocked = KeptLog(), tmp_path / "file"
    blocked.write_text("")

    async def stop(background):
        os.kill(os.getpid(), signal.SIGTERM)

    assert await supervise(DEMO, on_serving=stop, log=log, invite=blocked / "state") == ""
    (told,) = [fields for event, fields in log.events if event == "join_credentials_write_failed"]
    assert "Not a directory" in told["reason"]


async def test_what_nodes_of_an_earlier_run_kept_is_thrown_away_and_each_keeps_its_own(tmp_path):
    old = tmp_path / "nodes" / "web-9"
    old.mkdir(parents=True)
    (old / SNAPSHOT_CACHE).write_text("of an earlier run")

    async def look(background):
        with trio.fail_after(DEADLINE_S):
            while load(tmp_path / "nodes" / "edge-1", "edge-1", "edge", "small")[0] is None:
                await trio.lowlevel.checkpoint()
        assert not old.exists()
        background.start_soon(trio.to_thread.run_sync, os.kill, os.getpid(), signal.SIGTERM)

    assert await supervise(DEMO, on_serving=look, invite=tmp_path) == ""


STUBBORN = """
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        server.accept()[0].close()
"""


async def test_a_second_ctrl_c_kills_what_will_not_stop():
    log = KeptLog()

    async def interrupt_twice(background):
        async def again():
            while (
                "stop_requested",
                {"signal": "SIGINT", "hint": "work in progress has up to 30s; repeat the signal to end it now"},
            ) not in log.events:
                await trio.lowlevel.checkpoint()
            os.kill(os.getpid(), signal.SIGINT)

        background.start_soon(again)
        os.kill(os.getpid(), signal.SIGINT)

    command = shlex.join((sys.executable, "-c", STUBBORN, "{port}"))
    assert await supervise(command, on_serving=interrupt_twice, log=log) == ""
    assert ("stop_forced", {"signal": "SIGINT"}) in log.events
    assert "process_killed" not in [event for event, _ in log.events]


async def test_a_command_that_does_not_exist_is_told_before_anything_starts():
    problem = await supervise("no-such-program --port {port}")
    assert problem.startswith("pools.demo.run.command: there is no program 'no-such-program'")


async def test_a_start_is_no_worse_if_it_cannot_be_said_what_it_waits_for(monkeypatch):
    log, served = KeptLog(), []

    async def fail(cluster, log):
        raise ZeroDivisionError

    async def stop(background):
        served.append(True)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("tierlb.local.supervisor.log_slow_start", fail)
    assert await supervise(DEMO, on_serving=stop, log=log) == ""
    assert served
    assert [fields["where"] for event, fields in log.events if event == "internal_error"] == ["slow start"]


async def test_a_guard_that_cannot_be_waited_for_is_kept_all_the_same(monkeypatch):
    works, log, kept, lacking = Guard.keep, KeptLog(), trio.Event(), [RuntimeError("can't start new thread")]

    async def keep(self, log, errors):
        if lacking:
            raise lacking.pop()
        kept.set()
        await works(self, log, errors)

    async def stop(background):
        await kept.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Guard, "keep", keep)
    assert await supervise(DEMO, on_serving=stop, log=log) == ""
    assert [fields["where"] for event, fields in log.events if event == "internal_error"] == ["guard"]


@pytest.mark.parametrize(
    ("command", "told"),
    [("sleep 60", "does not accept connections yet"), ("sh -c 'exit 3'", "ended with status 3")],
)
async def test_what_keeps_a_cluster_from_serving_is_named_at_the_deadline(command, told):
    problem = await supervise(command, deadline_s=0.3)
    assert problem.startswith("the cluster does not serve after 0.3 s:")
    assert told in problem
