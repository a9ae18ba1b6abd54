"""A cluster on paper: its changes are real but for the processes, and go on when a test lets them."""

import attrs
import httpx
import pytest
import trio

from tierlb.admin.access import Hosts
from tierlb.admin.app import AdminApp, make_app
from tierlb.controller.changes import Changes
from tierlb.controller.controller import Controller
from tierlb.controller.startup import start_anew
from tierlb.controller.store import Loaded, StaleError, Stored
from tierlb.net.http_server import HttpRequest
from tierlb.topology.load import load_text

TOKEN = "s3cret"
TEXT = """\
# keep me
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""


class KeptLog:
    def __init__(self):
        self.events = []

    def info(self, event, **fields):
        self.events.append((event, fields))

    warning = error = info


@attrs.define
class MemoryStore:
    """Keeps it as long as the test, unless there is a `problem`."""

    stored: Stored = attrs.field(factory=Stored)
    version: int = 0
    problem: Exception | None = None

    async def load(self):
        return Loaded(self.stored, self.version)

    async def save(self, stored, expected_version):
        if self.problem is not None:
            raise self.problem
        if expected_version != self.version:
            raise StaleError("load it again")
        self.stored, self.version = stored, self.version + 1
        return self.version

    async def close(self):
        pass


class PaperMachines:
    """Puts a new process in the place of another one as soon as the changes may go on."""

    replaces = True

    def __init__(self, changes):
        self.changes = changes

    async def replace(self, topology, name):
        await self.changes.go.wait()

    async def wait_replaced(self):
        await trio.lowlevel.checkpoint()


class PaperChanges(Changes):
    """Each stage is reached as soon as `go` is set, which it is unless a test holds it."""

    def __init__(self, controller, store):
        super().__init__(controller, store, KeptLog(), now=lambda: 1e9, machines=PaperMachines(self))
        self.go = trio.Event()

    def _roll_out(self, progress, before, stages, deadline_s, begun=0):
        async def job(_):
            await self.go.wait()
            for stage in stages:
                self.controller.registry.adopt(stage)
            return "done"

        self.runner.start(progress, job)


@attrs.define
class Given:
    """A connection on which a request's body has come."""

    content: bytes

    async def body(self, max_bytes):
        return self.content


@attrs.define
class InProcess(httpx.AsyncBaseTransport):
    """httpx without sockets: each request is answered by the app, as one from the address."""

    api: AdminApp
    address: str

    async def handle_async_request(self, request):
        fields = tuple((name.decode().lower(), value.decode("latin-1")) for name, value in request.headers.raw)
        asked = HttpRequest(
            request.method, request.url.path, fields, self.address, "127.0.0.1", connection=Given(await request.aread())
        )
        answer = await self.api.answer(asked)
        head = {"content-type": answer.content_type, **answer.fields}
        return httpx.Response(answer.status, headers=head, content=answer.content)


@attrs.define
class Shop:
    """The API, and what is behind it."""

    changes: PaperChanges
    store: MemoryStore

    def app(self):
        return make_app(self.changes.controller.observer, self.changes, TOKEN, Hosts("10.0.0.5", ("lb.internal",)))

    def client(self, host="127.0.0.1", token=TOKEN, address="127.0.0.1"):
        fields = {"authorization": f"Bearer {token}"} if token else {}
        transport = InProcess(self.app(), address)
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}:7900", headers=fields)

    async def post(self, path, body, **more):
        async with self.client() as http:
            return await http.post(path, json=body, **more)

    async def get(self, path):
        async with self.client(token="") as http:
            return await http.get(path)


async def make_shop(text=TEXT):
    store = MemoryStore()
    changes = PaperChanges(Controller(load_text(text, "shop.yaml"), KeptLog()), store)
    await start_anew(changes, text, "ann")
    changes.go.set()
    return Shop(changes, store)


@pytest.fixture
async def shop(nursery):
    """At revision 1, and what is asked of it is done at once."""
    shop = await make_shop()
    await nursery.start(shop.changes.run)
    return shop


@pytest.fixture
async def held(shop):
    """The same, but a change does not go on."""
    shop.changes.go = trio.Event()
    return shop


async def status_after_a_connection_that_failed(url, monkeypatch):
    """The program fails on a first connection; the status that a second one gets."""

    def fail(*arguments):
        raise ZeroDivisionError

    async with httpx.AsyncClient() as http:
        with monkeypatch.context() as failing:
            failing.setattr("tierlb.admin.serving.HttpServerConnection", fail)
            with pytest.raises(httpx.TransportError):
                await http.get(url)
        return (await http.get(url)).status_code
