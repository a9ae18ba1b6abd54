"""`tierlb controller` as a process: nodes that somebody else starts, on loopback, and what it refuses to start with.

Several hosts, several controllers and etcd are in tests/cluster.
"""

import contextlib
import json
import signal
import subprocess
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cli.conftest import run
from tests.cluster.traffic import Endpoint
from tests.control_plane import KeptLog
from tests.etcd import running_etcd
from tests.processes import running, tierlb
from tierlb.cli import controller as controller_module
from tierlb.cli.controller import _user
from tierlb.cli.tokens import exposure
from tierlb.telemetry.log_quota import LogLosses

DEADLINE_S = 120.0
TOPOLOGY = """\
cluster: shop
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, to: app}}
pools:
  app: {{endpoints: ["{endpoint}"]}}
"""


@attrs.define
class Site:
    """Everything that a test may start, each in a process of its own."""

    tmp_path: object
    values: dict
    control: str
    stack: contextlib.ExitStack

    @property
    def file(self):
        return self.tmp_path / "shop.yaml"

    def start(self, name, *arguments):
        log = self.tmp_path / f"{name}.log"
        return self.stack.enter_context(running([*tierlb(arguments[0]), *arguments[1:]], log))

    @property
    def state(self):
        return self.tmp_path / "state"

    def controller(self, *more):
        state = () if "store:" in self.file.read_text() else ("--state", str(self.state))
        return self.start("controller", "controller", str(self.file), "--listen", self.control, *state, *more)

    def node(self, name, *where):
        where = where or ("--join-file", str(self.state))
        return self.start(name, "node", "--tier", name.partition("-")[0], "--name", name, *where)

    async def answers(self, url, status=200):
        """Wait until this URL does."""
        async with httpx.AsyncClient() as http:
            with trio.fail_after(DEADLINE_S):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        answer = await http.get(url)
                        if answer.status_code == status:
                            return answer
                    await trio.sleep(0.05)

    async def json(self, path):
        return (await self.answers(f"http://{self.values['admin']}{path}")).json()


@pytest.fixture
async def site(tmp_path, nursery):
    endpoint = Endpoint()
    await nursery.start(endpoint.serve)
    values = {"admin": free_address(), "listen": free_address(), "endpoint": endpoint.address}
    (tmp_path / "shop.yaml").write_text(TOPOLOGY.format(**values))
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, values, str(free_address()), stack)


async def test_nodes_that_somebody_else_starts_make_a_cluster_that_outlives_its_controller(site):
    secret, for_nodes = site.tmp_path / "secret", site.tmp_path / "for-nodes"
    secret.write_text("x" * 40)
    secret.chmod(0o600)
    assert run("token", "--role", "node", "--token-file", secret, "--output", for_nodes).exit_code == 0
    controller = site.controller("--token-file", str(secret))
    await site.answers(f"http://{site.control}/readyz")
    for name in ("edge-x", "web-left", "web-right"):
        site.node(name, "--join", f"ws://{site.control}", "--token-file", str(for_nodes))
    await site.answers(f"http://{site.values['admin']}/healthz")
    await site.answers(f"http://{site.values['listen']}/work")
    status = await site.json("/v1/status")
    assert sorted(node["name"] for node in status["tiers"]["web"]["nodes"]) == ["web-left", "web-right"]
    controller.send_signal(signal.SIGKILL)
    await trio.to_thread.run_sync(controller.wait)
    await site.answers(f"http://{site.values['listen']}/work")
    edited = site.file.read_text().replace("to: app", "balance: round-robin, to: app")
    site.file.write_text(edited)
    site.controller("--token-file", str(secret))
    with trio.fail_after(DEADLINE_S):
        while (await site.json("/v1/topology"))["text"] != edited:  # noqa: ASYNC110 (asked anew each time)
            await trio.sleep(0.2)
        while (change := (await site.json("/v1/progress"))["change"])["outcome"] == "running":  # noqa: ASYNC110
            await trio.sleep(0.2)
    assert (change["outcome"], change["what"]) == ("done", "the file at the start")
    names = [node["name"] for node in (await site.json("/v1/status"))["tiers"]["web"]["nodes"]]
    assert sorted(names) == ["web-left", "web-right"]


async def test_at_a_signal_it_ends_and_takes_its_invitation_away(site):
    controller = site.controller()
    await site.answers(f"http://{site.control}/readyz")
    directory = site.state
    assert {path.name for path in directory.iterdir()} >= {"control-url", "join-token", "node-token", "admin-token"}
    controller.send_signal(signal.SIGTERM)
    with trio.fail_after(DEADLINE_S):
        assert await trio.to_thread.run_sync(controller.wait) == 0
    assert not {"control-url", "join-token", "node-token", "admin-token"} & {path.name for path in directory.iterdir()}


async def test_two_cannot_have_one_directory(site):
    site.controller()
    await site.answers(f"http://{site.control}/readyz")
    other = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state", str(site.state))
    command = [*tierlb("controller"), str(site.file), *other]
    with trio.fail_after(DEADLINE_S):
        ended = await trio.run_process(command, check=False, capture_stderr=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert b"is used by the process with pid" in ended.stderr


@pytest.fixture
def guarded(tmp_path):
    with running_etcd(tmp_path / "etcd", secure=True) as server:
        yield server


def shared(site, server, **changes):
    """The topology file, with a store that has TLS and users, and the options that go with it."""
    store = attrs.asdict(server.store(**changes))
    url = f"{store.pop('url')}/test"
    given = {"etcd": url, **{key: value for key, value in store.items() if value is not None}}
    site.file.write_text(f"store: {json.dumps(given)}\n{site.file.read_text()}")
    token = site.tmp_path / "token"
    token.write_text("x" * 40)
    return ("--token-file", str(token), "--admin-token-file", str(token))


async def test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored(site, guarded):
    options = shared(site, guarded)
    first = site.controller(*options, "--name", "first")
    topology = await site.json("/v1/topology")
    assert topology["text"] == site.file.read_text()
    site.control = str(free_address())
    admin = free_address()
    second = ("--listen", site.control, "--admin-listen", str(admin))
    site.start("second", "controller", str(site.file), *second, *options, "--name", "second")
    standby = await site.answers(f"http://{admin}/v1/topology", 503)
    assert "standby" in standby.text
    first.send_signal(signal.SIGKILL)
    assert (await site.answers(f"http://{admin}/v1/topology")).json()["text"] == topology["text"]


async def test_what_is_wrong_with_etcd_is_for_the_log_and_not_for_whoever_asks(site):
    site.file.write_text(f'store: "etcd://127.0.0.1:1"\n{site.file.read_text()}')
    token = site.tmp_path / "token"
    token.write_text("x" * 40)
    site.controller("--token-file", str(token), "--admin-token-file", str(token))
    said = "this controller is on standby: none is the active one"
    page = said
    with trio.fail_after(DEADLINE_S):
        while not page.startswith(f"{said} ("):
            await trio.sleep(0.05)
            page = (await site.answers(f"http://{site.control}/readyz", 503)).text
    assert page == f"{said} (etcd cannot be reached: see this controller's log)\n"
    answer = await site.answers(f"http://{site.values['admin']}/v1/topology", 503)
    assert answer.json()["error"] == page.rstrip()
    assert "etcd at 127.0.0.1:1 cannot be reached" in (site.tmp_path / "controller.log").read_text()


@pytest.mark.parametrize(
    ("changes", "prefix", "said"),
    [
        ({"user": "ann"}, "test", "authentication failed, invalid user ID or password): correct `user` of `store`"),
        ({}, "elsewhere", "permission denied): allow it to a role of the user (etcdctl role grant-permission ROLE"),
        ({"key": "stranger.key"}, "test", "`certificate` of `store`, "),
    ],
)
async def test_a_store_that_does_not_let_it_in_ends_a_controller_with_what_to_do(site, guarded, changes, prefix, said):
    files = {key: str(guarded.access.file(name)) if key == "key" else name for key, name in changes.items()}
    options = shared(site, guarded, **files)
    site.file.write_text(site.file.read_text().replace("/test", f"/{prefix}", 1))
    command = [*tierlb("controller"), str(site.file), "--listen", "127.0.0.1:0", *options]
    with trio.fail_after(DEADLINE_S):
        ended = await trio.run_process(command, check=False, capture_stderr=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert said in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()


RUNS = 'cluster: a\ntiers: {web: {kind: l7, listen: ":1", to: p}}\npools: {p: {run: {command: "x {port}"}}}\n'
SHARED = 'store: "etcd://127.0.0.1:1"\n' + RUNS.replace('{run: {command: "x {port}"}}', '{endpoints: ["127.0.0.1:9"]}')


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (RUNS, (), "pools.p.run: nothing is started from here"),
        (RUNS, ("--run-dns", "nowhere"), "--run-dns: 'nowhere' is no name and port"),
        (SHARED, (), "share their tokens: give --token-file and --admin-token-file"),
        (RUNS, ("--run-dns", "{pool}:1", "--listen", "x"), "--listen: "),
        (RUNS, ("--run-dns", "{pool}:1", "--admin-listen", "x"), "--admin-listen: "),
        ("cluster: a\n", (), "tiers"),
        (RUNS, ("--run-dns", "{pool}:1", "--name", "one"), "--name is for controllers that share a store"),
        (
            SHARED,
            ("--token-file", "a", "--admin-token-file", "b", "--state", "c"),
            "--state: the history is kept in the",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(write, text, options, said):
    result = run("controller", write(text), *options)
    assert result.exit_code == 2
    assert said in result.output + result.stderr


def test_a_user_without_a_name_is_a_number(monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert _user().startswith("uid ")


@pytest.fixture
def started(monkeypatch):
    """The processes that would have been run."""
    started = []
    monkeypatch.setattr(trio, "run", lambda main: started.append(main.__self__))
    return started


def token_file(path, mode=0o600):
    path.write_text("a secret of a cluster\n")
    path.chmod(mode)
    return path


def test_each_option_reaches_what_it_is_for(started, write, tmp_path):
    admin = free_address()
    places = ("--listen", "127.0.0.1:1", "--admin-listen", admin, "--run-dns", "my-{pool}:9000")
    join, change = token_file(tmp_path / "join"), token_file(tmp_path / "admin")
    change.write_text("another secret\n")
    tokens = ("--token-file", str(join), "--admin-token-file", str(change))
    for text, more in ((RUNS, ("--state", "here")), (SHARED, ("--name", "one"))):
        result = run("controller", write(text), *places, *tokens, *more)
        assert result.exit_code == 0, result.output
    alone, shared_one = started
    assert (str(alone.settings.listen), alone.parts.admission.secret) == ("127.0.0.1:1", "a secret of a cluster")
    assert alone.parts.admin.token == "another secret"
    assert alone.parts.engine.deployed(alone.parts.topology).pools["p"].dns == "my-p:9000"
    assert (alone.settings.posts_join_credentials, alone.settings.admin_token) == (False, "")
    assert (alone.settings.state, shared_one.settings.name) == (Path("here"), "one")


def test_without_token_files_credentials_are_made_and_posted(started, write):
    result = run("controller", write(RUNS), "--admin-listen", free_address(), "--run-dns", "{pool}:9000")
    assert result.exit_code == 0, result.output
    (process,) = started
    assert process.settings.posts_join_credentials
    assert process.settings.admin_token == process.parts.admin.token != ""


def test_token_files_that_others_can_read_are_warned_of(started, write, tmp_path, monkeypatch):
    class Log(KeptLog):
        losses = LogLosses()

        def warm(self):
            pass

    log, files = Log(), [token_file(tmp_path / name, 0o644) for name in ("join", "admin")]
    monkeypatch.setattr(controller_module, "LazyLog", lambda: log)
    tokens = ("--token-file", str(files[0]), "--admin-token-file", str(files[1]))
    result = run("controller", write(RUNS), "--admin-listen", free_address(), "--run-dns", "{pool}:9000", *tokens)
    assert result.exit_code == 0, result.output
    assert [fields["reason"] for event, fields in log.events if event == "token_exposed"] == [
        exposure(file) for file in files
    ]
