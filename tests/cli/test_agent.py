"""`tierlb agent`: what it refuses, and a real one beside a real app, joined to a controller in this process."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cli.conftest import run
from tests.control_plane import KeptLog, controller_port, tier
from tierlb.agent.fetch import parse_url
from tierlb.channel.admission import Admission
from tierlb.cli import agent as cli_agent
from tierlb.cli import join
from tierlb.cli.agent import AgentOptions
from tierlb.cli.tokens import exposure
from tierlb.controller.controller import Controller
from tierlb.model.address import parse_address
from tierlb.model.tls import Tls
from tierlb.model.topology import Kind, Pool, Topology
from tierlb.wire.credentials import Principal, Role, issued, root_key

DEADLINE_S = 60.0
REQUIRED = ("--pool", "app", "--name", "app-1", "--join", "ws://127.0.0.1:1", "--address", "127.0.0.1:9001")


def test_an_agent_without_a_token_says_how_to_give_it():
    result = run("agent", *REQUIRED, env={"TIERLB_TOKEN": ""})
    assert (result.exit_code, "set TIERLB_TOKEN" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "exit_code", "says"),
    [
        (("--address", "here"), 2, "--address: 'here' is not an address"),
        (("--url", "https://a/"), 2, "--url: 'https://a/' cannot be read: write it as http://"),
        (("--slots", "4"), 2, "--slots goes with --url"),
        (("--cores", "4"), 2, "--cores goes with --pid or --cgroup"),
        (("--pid", "1", "--cgroup", "/sys/fs/cgroup"), 2, "--pid or --cgroup, not both"),
        (("--pid", "4194305"), 1, "process 4194305 has ended"),
        (("--cgroup", "/nowhere"), 1, "holds no cpu.stat"),
        (("--drain-time", "10"), 2, "--drain-time:"),
        (("--tls-ca", "ca.pem"), 2, "--tls-certificate, --tls-key and --tls-ca together"),
        (("--tls-ca", "/no", "--tls-key", "/no", "--tls-certificate", "/no"), 2, "/no cannot be used"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_started(options, exit_code, says):
    result = run("agent", *REQUIRED, *options, env={"TIERLB_TOKEN": "x"})
    assert (result.exit_code, says in result.stderr) == (exit_code, True), result.stderr


def test_the_options_default_to_no_source_at_all():
    options = AgentOptions("app", "127.0.0.1:9001", "app-1", "ws://127.0.0.1:1")
    assert (options.url, options.pid, options.cgroup, options.slots) == ("", None, None, 0)


@attrs.define
class Site:
    """A controller in this process; its node, apps and agents are processes of their own."""

    controller: Controller
    join: str
    listen: str
    nursery: trio.Nursery

    async def start(self, *arguments):
        command = [sys.executable, "-m", "tierlb", *arguments]
        env = {**os.environ, "TIERLB_TOKEN": "secret"}
        return await trio.lowlevel.open_process(command, env=env, stdin=None, stderr=None)

    async def until_app_answers(self, names):
        """Return once all of `names` and nobody else answer."""
        seen = []
        with trio.move_on_after(DEADLINE_S):
            while set(seen[-20:]) != names or len(seen) < 20:
                seen.append(await self.ask())
                await trio.sleep(0.01)
            return
        raise AssertionError(f"last answers: {seen[-20:]}")

    async def ask(self):
        async with httpx.AsyncClient(base_url=f"http://{self.listen}", trust_env=False, timeout=DEADLINE_S) as http:
            with contextlib.suppress(httpx.TransportError):
                return (await http.get("/")).headers.get("x-backend", "nobody")
        return "nobody"


@pytest.fixture
async def site(nursery):
    listen = free_address()
    web = tier("web", Kind.L7, "app", listen=parse_address(listen))
    topology = Topology("shop", {"web": web}, {"app": Pool("app", agents=True)})
    controller = Controller(topology, KeptLog(), admission=Admission("secret"))
    nursery.start_soon(controller.run)
    address = await controller_port(nursery, controller, controller.admission.admit)
    return Site(controller, f"ws://{address}", listen, nursery)


async def test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any(site):
    processes = {}
    try:
        with trio.fail_after(4 * DEADLINE_S):
            processes["node"] = await site.start("node", "--name", "web-1", "--tier", "web", "--join", site.join)
            for name in ("a", "b"):
                app = free_address()
                port = app.rpartition(":")[2]
                station = ("--slots", "2", "--service", "2ms")
                processes[name] = await site.start("demo-backend", "--port", port, "--name", name, *station)
                arguments = ("--pool", "app", "--name", f"agent-{name}", "--join", site.join, "--address", app)
                processes[f"agent-{name}"] = await site.start(
                    "agent", *arguments, "--url", f"http://{app}/.tierlb/load"
                )
            await site.until_app_answers({"a", "b"})

            answers = []
            async with trio.open_nursery() as asking:
                asking.start_soon(keep_asking, site, answers)
                processes["agent-a"].send_signal(signal.SIGTERM)
                assert await processes["agent-a"].wait() == 0
                asking.cancel_scope.cancel()
            await site.until_app_answers({"b"})
            assert "nobody" not in answers
            assert "agent-a" not in site.controller.registry.records
    finally:
        for process in processes.values():
            process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + DEADLINE_S):
            for process in processes.values():
                await process.wait()


async def keep_asking(site, answers):
    while True:
        answers.append(await site.ask())


def test_each_option_reaches_what_it_is_for(monkeypatch, tmp_path):
    started, meters, contexts = [], [], []
    monkeypatch.setattr(trio, "run", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(cli_agent, "make_meter", lambda *arguments: meters.append(arguments))

    class Fake:
        def __init__(self, files, log):
            contexts.append(files)

        def control_client(self):
            return "the context"

    monkeypatch.setattr(join, "ClusterTls", Fake)
    (tmp_path / "token").write_text("secret\n")
    options = (*REQUIRED, "--token-file", str(tmp_path / "token"), "--url", "http://127.0.0.1:9/load", "--slots", "4")
    files = ("--tls-certificate", "a.pem", "--tls-key", "a.key", "--tls-ca", "ca.pem")
    for more in (("--pid", "7", "--cores", "2"), ("--cgroup", "/sys/fs/cgroup/app", "--drain-time", "3s", *files)):
        result = run("agent", *options, *more)
        assert result.exit_code == 0, result.output
    assert meters == [(7, None, 2.0), (None, Path("/sys/fs/cgroup/app"), 0.0)]
    assert contexts == [Tls("a.pem", "a.key", "ca.pem")]
    (_, first, uplink, usual_s, no_tls), (*_, secured, drain_time_s, tls) = started
    assert no_tls is None
    assert secured.identity.tls == tls.control_client
    assert (first.name, first.pool, first.leaf.slots, first.url) == (
        "app-1",
        "app",
        4,
        parse_url("http://127.0.0.1:9/load"),
    )
    assert (uplink.identity.controllers, uplink.identity.token, uplink.identity.data) == (
        "ws://127.0.0.1:1",
        issued(root_key("secret"), Principal(Role.AGENT, "app", "app-1")).text,
        "127.0.0.1:9001",
    )
    assert (usual_s, drain_time_s) == (10.0, 3.0)


def test_a_token_file_that_others_can_read_is_warned_of(monkeypatch, tmp_path):
    log = KeptLog()
    log.warm = lambda: None
    monkeypatch.setattr(cli_agent, "LazyLog", lambda fields: log)
    monkeypatch.setattr(trio, "run", lambda *_: None)
    token = tmp_path / "token"
    token.write_text("a secret of a cluster\n")
    token.chmod(0o644)
    assert run("agent", *REQUIRED, "--token-file", token).exit_code == 0
    assert ("token_exposed", {"reason": exposure(token)}) in log.events
