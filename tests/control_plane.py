"""A small tree, a log that keeps events, and a data plane that binds nothing."""

import math
import random
from collections.abc import AsyncIterator, Iterator

import attrs
import pytest
import trio

from tests.etcd import Relay, Server, running_etcd
from tierlb.channel.parent_end import ParentEnd
from tierlb.channel.watching import WatchRelay
from tierlb.controller.controller import Controller
from tierlb.controller.etcd import Etcd
from tierlb.controller.reception import Reception
from tierlb.model.address import Address
from tierlb.model.load import Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.topology import Forward, Kind, Match, Pool, Route, Run, Share, Tier, Topology
from tierlb.node.children import Children
from tierlb.node.configuration import Configuration
from tierlb.node.process import Node
from tierlb.telemetry.exposition import Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch

LOCAL = Address("127.0.0.1", 0)


async def controller_port(nursery, controller, admit, listen=LOCAL, tls=None):
    """The address at which nodes and agents join the controller."""
    reception = Reception(controller.log, controller.errors)
    reception.open(controller)
    return await nursery.start(reception.serve, listen, admit, tls)


class ChildrenPort:
    """The parent's end of a node: its children, and the port at which they report."""

    def __init__(self, plane, log, admit, name=""):
        self.errors = InternalErrors(log)
        self.children = Children(plane, log, self.errors, WatchRelay())
        self.admit = admit
        self.end = ParentEnd(self.children.take_in, log, self.errors, name)

    async def serve(self, listen=LOCAL, *, task_status=trio.TASK_STATUS_IGNORED):
        await self.end.serve(listen, self.admit, task_status=task_status)


def node_of(identity, plane, refused, log, *, tls=None, state=None):
    """A node whose data plane is this one."""
    configuration = Configuration(plane, refused, log, InternalErrors(log))
    return Node(identity, plane, configuration, log, random.Random(identity.name), tls, state)


class KeptLog:
    def __init__(self):
        self.events = []

    def info(self, event, **fields):
        self.events.append((event, fields))

    warning = error = info


class DeclinedError(Exception):
    pass


class FakePlane:
    """Reports `addresses` as bound; refuses snapshots if `reason` is set; records what it receives. While it is `busy`,
    requests come all the time."""

    def __init__(self, name="web-1"):
        self.name = name
        self.subtree_load = SubtreeLoad(capacity=100.0, in_flight=3, ready_leaves=1, leaves=1)
        self.busy = False
        self.guidance = Guidance(0.5)
        self.reports = []
        self.lost = []
        self.heeded = []
        self.explained = []
        self.addresses = (Address("127.0.0.1", 4001),)
        self.reason = ""
        self.applied = []
        self.draining = trio.Event()
        self.notice_s = 0.0
        self.work = lambda: math.inf

    def apply(self, snapshot, had=()):
        if self.reason:
            raise DeclinedError(self.reason)
        self.applied.append(snapshot)
        self.had = had
        return self.addresses

    def regularly(self, work):
        self.work = work
        return work

    def load(self):
        return NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5)

    def subtree(self):
        if self.busy:
            self.subtree_load = attrs.evolve(self.subtree_load, arrivals=self.subtree_load.arrivals + 1)
        return self.subtree_load

    def echo(self, parent):
        return Echo(1, 2, len(parent))

    def row(self):
        return NodeRow(self.name, "web", 0.0, self.load(), self.subtree_load)

    def metrics(self):
        return Exposed(self.name, "web", self.load(), self.subtree_load, Sketch())

    def note_report(self, child, load, echo, next_s):
        self.reports.append((child, load, echo))

    def note_lost(self, child):
        self.lost.append(child)

    def guide(self, child):
        return self.guidance

    def note_guidance(self, parent, guidance):
        self.heeded.append((parent, guidance))

    def explain(self, nonce, until_s):
        self.explained.append(nonce)

    def announce_drain(self):
        return self.notice_s

    def drain(self):
        self.draining.set()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        while not self.draining.is_set():
            with trio.move_on_after(min(0.05, self.work())):
                await self.draining.wait()


def tier(name, kind, target, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, (target,)),))),), **more)


@pytest.fixture
def log():
    return KeptLog()


@pytest.fixture
def topology():
    tiers = (
        tier("edge", Kind.L4, "web", listen=Address("127.0.0.1", 8080)),
        tier("web", Kind.L7, "demo", replicas=2),
    )
    pools = {"demo": Pool("demo", run=Run("demo --port {port}"))}
    return Topology("shop", {t.name: t for t in tiers}, pools)


@pytest.fixture
def shop_with_agents(topology):
    tiers = {**topology.tiers, "web": tier("web", Kind.L7, "apps", replicas=2)}
    return attrs.evolve(topology, tiers=tiers, pools={"apps": Pool("apps", agents=True)})


@pytest.fixture
def controller(topology, log):
    return Controller(topology, log, report_interval_s=0.02)


@pytest.fixture
def plane():
    return FakePlane()


@pytest.fixture
def make_plane():
    return FakePlane


@pytest.fixture
def declined():
    return DeclinedError


# A real etcd for each file of tests: one that lets everybody in, and one that does not.


@pytest.fixture(scope="module", params=["plain", "secure"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_etcd(tmp_path_factory.mktemp("etcd"), secure=request.param == "secure") as server:
        yield server


@pytest.fixture
async def etcd(server: Server) -> AsyncIterator[Etcd]:
    etcd = server.client()
    yield etcd
    await etcd.close()


@pytest.fixture
async def relay(server: Server, nursery: trio.Nursery) -> Relay:
    relay = Relay(server.clients[0])
    relay.address = await nursery.start(relay.run)
    return relay
