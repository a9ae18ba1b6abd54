"""No secret of a cluster, and nothing derived from one, is in what others may come to see: logs, answers of the admin
API, metrics, arguments and environments of processes, rendered files. Against real processes, for each output."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.processes import Process, running, tierlb
from tierlb.deploy.project import SECRETS, Project, lay_out
from tierlb.topology.load import load_text
from tierlb.wire.credentials import SCHEME, Principal, Role, data_key, issued, root_key

DEADLINE_S = 120.0
SECRET, ADMIN_TOKEN = "the-known-secret-of-this-cluster", "the-known-token-of-its-admin-api"
CREDENTIAL = re.compile(f"{SCHEME}/".encode())
"""How every credential and ticket begins, whatever it is bound to."""
PATHS = ("healthz", "v1/status", "v1/topology", "v1/history", "v1/history/1", "v1/progress", "v1/openapi.json", "")
TOPOLOGY = """\
cluster: shop
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, to: [app, own]}}
pools:
  app: {{run: {{command: "tierlb demo-backend --host {{host}} --port {{port}}"}}}}
  own: {{agents: true}}
"""
ALONE = TOPOLOGY.replace('app: {{run: {{command: "tierlb demo-backend --host {{host}} --port {{port}}"}}}}', "{app}")


def leaks(outputs: Mapping[str, bytes], *secrets: bytes) -> dict[str, list[bytes]]:
    """What each output has of the secrets, of those that have any."""
    found = {
        name: [secret for secret in secrets if secret in output] + CREDENTIAL.findall(output)
        for name, output in outputs.items()
    }
    return {name: each for name, each in found.items() if each}


def derived(secret: str) -> Iterator[bytes]:
    """What follows from it and several share, in the ways in which bytes are written."""
    root = root_key(secret)
    yield data_key(root)
    yield root.hex().encode()
    bound = (("edge",), ("edge", "edge-1"), ("web",), ("web", "web-1"))
    principals = [Principal(Role.NODE, *each) for each in bound]
    principals += [Principal(Role.AGENT, "own"), Principal(Role.AGENT, "own", "own-1")]
    for principal in principals:
        credential = issued(root, principal)
        yield credential.text.rpartition("/")[2].encode()
        yield credential.key.hex().encode()
        yield credential.reception.hex().encode()


def of_process(pid: int) -> dict[str, bytes]:
    """What other programs of the machine's user see of it."""
    return {f"{each} of {pid}": Path(f"/proc/{pid}/{each}").read_bytes() for each in ("cmdline", "environ")}


def descendants(pid: int) -> Iterator[int]:
    """Those that any of its threads started: the kernel lists children by thread."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            yield child
            yield from descendants(child)


@attrs.define
class Site:
    """A cluster's processes, each with a log of its own."""

    directory: Path
    admin: str
    listen: str
    stack: contextlib.ExitStack
    processes: list["Process[bytes]"] = attrs.field(factory=list)

    def start(self, name: str, argv: list[str]) -> "Process[bytes]":
        self.processes.append(self.stack.enter_context(running(argv, self.directory / f"{name}.log")))
        return self.processes[-1]

    def private(self, name: str, text: str) -> Path:
        file = self.directory / name
        file.touch(0o600)
        file.write_text(f"{text}\n")
        return file

    async def until_served(self) -> None:
        async with httpx.AsyncClient() as http:
            for url in (f"http://{self.admin}/healthz", f"http://{self.listen}/"):
                with trio.fail_after(DEADLINE_S):
                    while not await answers(http, url):  # noqa: ASYNC110 (of another process)
                        await trio.sleep(0.1)

    async def until_known(self, *names: str) -> None:
        """Until the controller has heard of each."""
        async with httpx.AsyncClient() as http:
            with trio.fail_after(DEADLINE_S):
                while True:
                    status = (await http.get(f"http://{self.admin}/v1/status")).text
                    if all(name in status for name in names):
                        return
                    await trio.sleep(0.1)

    async def until_logged(self, name: str, event: str) -> None:
        with trio.fail_after(DEADLINE_S):
            while event not in (self.directory / f"{name}.log").read_text():  # noqa: ASYNC110 (of another process)
                await trio.sleep(0.05)

    async def outputs(self, admin_token: Path) -> dict[str, bytes]:
        """All of them, by where each comes from; some come from commands that are run for it."""
        found = {}
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            for path in PATHS:
                found[f"/{path}"] = (await http.get(f"http://{self.admin}/{path}")).content
            for node in re.findall(r'"control": ?"([0-9.]+:[0-9]+)"', found["/v1/status"].decode()):
                found[f"metrics of {node}"] = (await http.get(f"http://{node}/metrics")).content
        where = ("--admin", f"http://{self.admin}", "--token-file", str(admin_token))
        for verb in (["status"], ["status", "--json"], ["explain", f"http://{self.listen}/"], ["scale", "web=x"]):
            command = [*tierlb(verb[0]), *verb[1:], *where]
            done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
            found[" ".join(verb)] = done.stdout + done.stderr
        for process in self.processes:
            for pid in (process.pid, *descendants(process.pid)):
                found |= of_process(pid)
        return found | {path.name: path.read_bytes() for path in self.directory.glob("*.log")}


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await http.get(url)).status_code == 200
    return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, free_address(), free_address(), stack)


async def test_a_cluster_over_several_machines_shows_its_secrets_nowhere(site: Site) -> None:
    endpoint, control = free_address(), free_address()
    app = f'app: {{endpoints: ["{endpoint}"]}}'
    file = site.directory / "shop.yaml"
    file.write_text(ALONE.format(admin=site.admin, listen=site.listen, app=app))
    secret, admin_token = site.private("secret", SECRET), site.private("admin", ADMIN_TOKEN)
    site.start("app", tierlb("demo-backend", port=endpoint.rpartition(":")[2]))
    tokens = {"token_file": secret, "admin_token_file": admin_token, "state": site.directory / "state"}
    site.start("controller", [*tierlb("controller", listen=control, **tokens), str(file)])
    for name, role, group in (("edge-1", Role.NODE, "edge"), ("web-1", Role.NODE, "web"), ("own-1", Role.AGENT, "own")):
        token = site.private(f"token-{name}", issued(root_key(SECRET), Principal(role, group)).text)
        words = {"join": f"ws://{control}", "token_file": token, "name": name}
        if role is Role.NODE:
            site.start(name, tierlb("node", tier=group, **words))
        else:
            site.start(name, tierlb("agent", pool=group, address=endpoint, **words))
    # those who are told that something is wrong with their token
    wrong = site.private("wrong", issued(root_key("another"), Principal(Role.NODE, "web")).text)
    site.start("stranger", tierlb("node", tier="web", name="web-9", join=f"ws://{control}", token_file=wrong))
    site.start("root", tierlb("node", tier="web", name="web-2", join=f"ws://{control}", token_file=secret))
    await site.until_served()
    await site.until_logged("root", "root_token_given")
    await site.until_logged("stranger", "refused")
    await site.until_known("web-1", "web-2", "own-1")
    found = await site.outputs(admin_token)
    assert sum(name.startswith("metrics of ") for name in found) >= 3
    assert leaks(found, SECRET.encode(), ADMIN_TOKEN.encode(), *derived(SECRET)) == {}


async def test_a_cluster_on_one_machine_shows_its_tokens_nowhere(site: Site) -> None:
    file, state = site.directory / "shop.yaml", site.directory / "state"
    file.write_text(TOPOLOGY.format(admin=site.admin, listen=site.listen))
    site.start("up", [*tierlb("up", state=state), str(file)])
    await site.until_served()
    tokens = [(state / name).read_bytes().strip() for name in ("join-token", "admin-token")]
    found = await site.outputs(state / "admin-token")
    assert sum(name.startswith("cmdline") for name in found) >= 4
    assert leaks(found, *tokens, tokens[0].rpartition(b"/")[2]) == {}


def test_what_is_laid_out_for_compose_has_secrets_in_the_directory_of_secrets_alone(tmp_path: Path) -> None:
    text = TOPOLOGY.format(admin="127.0.0.1:7900", listen="127.0.0.1:8080")
    project = Project(tmp_path / "shop", "shop", "tierlb:test")
    for _ in range(2):
        lay_out(project, load_text(text, "shop.yaml"), text)
    files = {str(path.relative_to(project.directory)): path for path in project.directory.rglob("*") if path.is_file()}
    apart = {name: path.read_bytes() for name, path in files.items() if Path(name).parts[0] == SECRETS}
    secret = apart[f"{SECRETS}/join-token"].decode().strip()
    values = [content.strip() for content in apart.values()]
    assert len(values) >= 2
    assert (
        leaks({name: files[name].read_bytes() for name in files.keys() - apart.keys()}, *values, *derived(secret)) == {}
    )


def test_the_words_of_the_test_would_be_found() -> None:
    credential = issued(root_key(SECRET), Principal(Role.AGENT, "own")).text.encode()
    seen = {"said": b"ok", "secret": SECRET.encode(), "token": credential, "key": credential.rpartition(b"/")[2]}
    assert leaks(seen, SECRET.encode(), *derived(SECRET)).keys() == {"secret", "token", "key"}
