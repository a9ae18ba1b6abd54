"""Nodes and a controller over real websockets; the data planes are fakes."""

import os
import random
import signal
from functools import partial

import attrs
import httpx
import pytest
import trio
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.joining import identity_of
from tierlb.channel.uplink import Identity
from tierlb.controller.controller import Controller
from tierlb.controller.link import serve_child
from tierlb.controller.node_record import Link
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address, parse_address
from tierlb.model.load import SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Listener, Rule, Send, Snapshot
from tierlb.model.topology import Admin, Kind, Match, Respond, Tls
from tierlb.net.tls import server_context
from tierlb.net.websocket import serve
from tierlb.node import snapshot_cache as snapshot_cache
from tierlb.node.process import Node, Placement, run_node
from tierlb.node.snapshot_cache import SnapshotCache
from tierlb.telemetry.exposition import CONTENT_TYPE
from tierlb.topology.allot import ANY_PORT
from tierlb.wire import frames
from tierlb.wire.credentials import Principal, Role

DEADLINE_S = 30


@pytest.fixture
def make_node(controller, plane, declined, log):
    def make(url, **more):
        identity = identity_of(controller.admission, "web-1", url, pid=os.getpid(), **more)
        return Node(identity, plane, declined, log, random.Random(1))

    return make


class Parent:
    """A controller's listening side that can be taken away and put back."""

    def __init__(self, controller, nursery):
        self.controller, self.nursery = controller, nursery
        self.address = Address("127.0.0.1", 0)
        self.scope = trio.CancelScope()

    @property
    def url(self):
        return f"ws://{self.address}"

    async def start(self):
        self.scope = trio.CancelScope()

        async def run(*, task_status):
            with self.scope:
                handler = partial(serve_child, self.controller)
                await serve(handler, self.controller.admission.admit, self.address, task_status=task_status)

        self.address = await self.nursery.start(run)


@pytest.fixture
async def parent(controller, nursery):
    nursery.start_soon(controller.run)
    parent = Parent(controller, nursery)
    await parent.start()
    return parent


async def until(controller, condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():
            with trio.move_on_after(0.01):
                await controller.signals.wait_progress()


async def test_a_node_serves_what_its_parent_wants_and_says_where(parent, make_node, nursery, plane):
    nursery.start_soon(make_node(parent.url).run)
    record = parent.controller.registry.records
    await until(parent.controller, lambda: record["web-1"].assignment.served)
    assert record["web-1"].addresses == plane.addresses
    assert [snapshot.revision for snapshot in plane.applied] == [1]


CHECK = Address("127.0.0.1", 7777)
PUBLIC, INNER = Address("127.0.0.1", 8080), Address("127.0.0.1", 4002)


@pytest.mark.parametrize(
    ("placement", "public", "inner", "accept_from", "check"),
    [
        (Placement(), "127.0.0.1:8080", "127.0.0.1:0", ("127.0.0.1/32",), "127.0.0.1:7777"),
        (Placement(host="0.0.0.0", data_port=7945), "0.0.0.0:8080", "0.0.0.0:7945", (), "0.0.0.0:7777"),
        (Placement(host="10.0.0.3"), "10.0.0.3:8080", "10.0.0.3:0", (), "10.0.0.3:7777"),
        (Placement(host="::"), "[::]:8080", "[::]:0", (), "[::]:7777"),
        (Placement(data_port=7945), "127.0.0.1:8080", "127.0.0.1:7945", ("127.0.0.1/32",), "127.0.0.1:7777"),
    ],
    ids=["at home", "container", "one interface", "ipv6", "port"],
)
def test_a_snapshot_is_served_where_this_machine_says(placement, public, inner, accept_from, check):
    listeners = (Listener(PUBLIC, shared=True), Listener(ANY_PORT, inner=True, accept_from=("127.0.0.1/32",)))
    here = placement.localised(Snapshot(1, "shop", "web", Kind.L7, listeners, (), agent_check=CHECK))
    assert [str(listener.address) for listener in here.listeners] == [public, inner]
    assert [listener.accept_from for listener in here.listeners] == [(), accept_from]
    assert (here.listeners[0].shared, here.listeners[1].inner, str(here.agent_check)) == (True, True, check)


@pytest.mark.parametrize(
    ("advertised", "here", "bound", "told"),
    [
        ("", "10.0.0.3", "0.0.0.0:7945", "10.0.0.3:7945"),
        ("", "", "0.0.0.0:7945", "0.0.0.0:7945"),
        ("", "10.0.0.3", "127.0.0.1:4001", "127.0.0.1:4001"),
        ("192.0.2.1", "10.0.0.3", "0.0.0.0:7945", "192.0.2.1:7945"),
        ("192.0.2.1", "", "10.0.0.3:7945", "192.0.2.1:7945"),
        ("", "fd00::3", "[::]:7945", "[fd00::3]:7945"),
    ],
)
def test_others_are_told_an_address_at_which_they_reach_it(advertised, here, bound, told):
    assert str(Placement(advertised=advertised).told(parse_address(bound), here)) == told


async def test_a_node_that_listens_everywhere_says_by_which_address_the_controller_knows_it(
    parent, make_node, nursery, plane
):
    node = make_node(parent.url)
    node.placement = Placement(host="0.0.0.0", control_name="web:7946")
    plane.addresses = (Address("0.0.0.0", 4001),)
    nursery.start_soon(node.run)
    record = parent.controller.registry.records
    await until(parent.controller, lambda: record["web-1"].assignment.served)
    assert record["web-1"].addresses == (Address("127.0.0.1", 4001),)
    assert record["web-1"].hello.control == "web:7946"


SENDS = Snapshot(1, "shop", "web", Kind.L7, (), (Rule(Match(), Send((Destination(1.0, ("app",), ()),))),))
FILLED = attrs.evolve(
    SENDS, rules=(Rule(Match(), Send((Destination(1.0, ("app",), (HostSpec("app/1", "app", PUBLIC),)),))),)
)
ANSWERS = attrs.evolve(SENDS, rules=(Rule(Match(), Respond(200)),))


@pytest.mark.parametrize(
    ("snapshot", "leaves", "ready", "reason"),
    [
        (None, 0, 0, "it has no configuration yet"),
        (ANSWERS, 0, 0, ""),
        (attrs.evolve(ANSWERS, admin=Admin.DRAIN), 0, 0, "it is wanted in drain"),
        (SENDS, 0, 0, "there is nobody below it yet"),
        (SENDS, 2, 1, ""),
        (FILLED, 0, 0, ""),
        (FILLED, 2, 0, "no endpoint below it is ready"),
        (FILLED, 2, 1, ""),
    ],
)
async def test_a_node_is_ready_when_traffic_finds_something_below(make_node, plane, snapshot, leaves, ready, reason):
    node = make_node("ws://127.0.0.1:1")
    plane.subtree_load = SubtreeLoad(leaves=leaves, ready_leaves=ready)
    if snapshot is not None:
        node.serve(snapshot)
    assert node.unready() == reason


async def test_a_node_that_leaves_is_ready_no_more(parent, make_node, nursery, plane):
    node = make_node(parent.url)
    nursery.start_soon(node.run)
    await until(parent.controller, lambda: parent.controller.registry.records["web-1"].assignment.served)
    assert node.unready() == ""
    with trio.fail_after(DEADLINE_S):
        await node.leave()
    assert node.unready() == "it drains"


@pytest.mark.parametrize(
    ("listeners", "place"),
    [
        ((), ""),
        ((Listener(PUBLIC),), "127.0.0.1:8080"),
        ((Listener(PUBLIC), Listener(ANY_PORT, inner=True)), "127.0.0.1:4002"),
    ],
)
async def test_a_node_says_where_it_serves_to_its_parents_if_it_has_any(make_node, plane, listeners, place):
    node = make_node("ws://127.0.0.1:1")
    assert node.place() == ""
    plane.addresses = (PUBLIC, INNER)[: len(listeners)]
    node.serve(Snapshot(1, "shop", "web", Kind.L7, listeners, ()))
    assert node.place() == place


async def test_a_change_reaches_the_node(parent, make_node, nursery, plane):
    nursery.start_soon(make_node(parent.url).run)
    controller = parent.controller
    await until(controller, lambda: controller.registry.records["web-1"].assignment.served == 1)
    endpoint = Address("127.0.0.1", 20001)
    controller.endpoints.note("demo", EndpointStatus(endpoint, State.SERVING, 9))
    await until(controller, lambda: controller.registry.records["web-1"].assignment.served == 2)
    (destination,) = plane.applied[-1].rules[0].action.destinations
    assert [host.address for host in destination.hosts] == [endpoint]


async def test_without_parents_a_node_reports_to_the_controller(parent, make_node, nursery, plane):
    nursery.start_soon(make_node(parent.url).run)
    controller = parent.controller
    await until(controller, lambda: controller.registry.records["web-1"].reports.subtree() is not None)
    assert controller.registry.records["web-1"].reports.subtree() == plane.subtree_load


async def test_a_refused_snapshot_is_told_with_its_reason(parent, make_node, nursery, plane):
    plane.reason = "port 80 is taken"
    nursery.start_soon(make_node(parent.url).run)
    controller = parent.controller
    await until(controller, lambda: controller.registry.records["web-1"].assignment.refusal)
    assert controller.registry.records["web-1"].assignment.refusal == "port 80 is taken"
    assert controller.registry.records["web-1"].assignment.served == 0


async def test_a_lost_parent_is_found_again_and_traffic_is_not_touched(parent, make_node, nursery, plane):
    controller = parent.controller
    nursery.start_soon(make_node(parent.url).run)
    await until(controller, lambda: controller.registry.records["web-1"].assignment.served)
    parent.scope.cancel()
    await until(controller, lambda: controller.registry.records["web-1"].link is None)
    await parent.start()
    await until(controller, lambda: controller.registry.records["web-1"].link is not None)
    await until(controller, lambda: controller.readiness.missing()[1].startswith("web-2"))
    assert len(plane.applied) == 1


async def test_a_wrong_token_is_refused(parent, make_node, nursery, log):
    nursery.start_soon(make_node(parent.url, token="guess").run)
    await until(parent.controller, lambda: log.events)
    event, fields = log.events[0]
    assert event == "controller lost"
    assert "refused the connection with status 401" in fields["reason"]
    assert parent.controller.registry.records["web-1"].hello is None


async def test_sigterm_drains_after_the_parent_was_told(parent, make_node, nursery, plane):
    controller = parent.controller
    ended = trio.Event()

    async def run():
        await run_node(make_node(parent.url))
        ended.set()

    nursery.start_soon(run)
    await until(controller, lambda: controller.registry.records["web-1"].assignment.served)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(controller, lambda: controller.registry.records["web-1"].draining)
    assert not plane.draining.is_set()
    with trio.fail_after(DEADLINE_S):
        await ended.wait()
    assert plane.draining.is_set()


async def test_a_second_signal_ends_a_node_that_still_drains(make_node, plane, autojump_clock, nursery):
    plane.drain = lambda: None

    async def terminate():
        await trio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep(1000)
        os.kill(os.getpid(), signal.SIGINT)

    nursery.start_soon(terminate)
    started_s = trio.current_time()
    with trio.fail_after(2000):
        await run_node(make_node("ws://127.0.0.1:1"))
    assert trio.current_time() - started_s == pytest.approx(1001, abs=0.1)


@pytest.fixture
async def tree(parent, make_plane, declined, log, nursery):
    """A controller, one edge and two web nodes; each plane by its node's name."""
    planes = {name: make_plane(name) for name in ("edge-1", "web-1", "web-2")}
    nodes = {}
    for name, fake in planes.items():
        identity = identity_of(parent.controller.admission, name, parent.url, pid=os.getpid())
        nodes[name] = Node(identity, fake, declined, log, random.Random(name))
        await nursery.start(nodes[name].run)
    await until(parent.controller, lambda: len(planes["edge-1"].reports) > 4)
    return planes, nodes


async def test_children_report_to_their_parents_and_heed_them(parent, tree):
    planes, _ = tree
    edge = planes["edge-1"]
    assert {name for name, *_ in edge.reports} == {"web-1", "web-2"}
    assert edge.reports[0][1:] == (planes["web-1"].subtree_load, planes["web-1"].echo("edge-1"))
    await until(parent.controller, lambda: planes["web-2"].heeded)
    assert planes["web-2"].heeded[0] == ("edge-1", edge.guidance)


async def test_reports_and_guidance_go_on_without_the_controller(parent, tree):
    planes, _ = tree
    parent.scope.cancel()
    records = parent.controller.registry.records
    await until(parent.controller, lambda: all(record.link is None for record in records.values()))
    planes["edge-1"].reports.clear()
    planes["web-1"].heeded.clear()
    await until(parent.controller, lambda: len(planes["edge-1"].reports) > 8 and planes["web-1"].heeded)
    assert planes["edge-1"].lost == []


async def test_a_look_at_the_controller_brings_rows_of_the_whole_tree(parent, tree):
    with trio.fail_after(DEADLINE_S):
        status = await parent.controller.observer.observe()
    for name, node in (("edge-1", status.tiers["edge"].nodes[0]), ("web-2", status.tiers["web"].nodes[1])):
        assert (node.name, node.items_per_s) == (name, 0.0)
        assert node.load == tree[0][name].load()


async def test_a_nonce_reaches_every_plane_once(parent, tree):
    planes, _ = tree
    parent.controller.observer.watch(5.0, "n0nce")
    await until(parent.controller, lambda: all(fake.explained for fake in planes.values()))
    assert [fake.explained for fake in planes.values()] == [["n0nce"]] * 3


async def test_a_nodes_metrics_are_at_the_address_that_the_status_gives(parent, tree):
    status = parent.controller.observer.status()
    for node in (*status.tiers["edge"].nodes, *status.tiers["web"].nodes):
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.get(f"http://{node.control}/metrics", timeout=DEADLINE_S)
        assert response.headers["content-type"] == CONTENT_TYPE
        (items,) = (f for f in text_string_to_metric_families(response.text) if f.name == "tierlb_items")
        assert [(s.labels["node"], s.value) for s in items.samples] == [(node.name, tree[0][node.name].load().items)]


async def test_a_node_that_leaves_is_draining_in_its_reports_before_its_plane_drains(parent, tree):
    planes, nodes = tree
    await nodes["web-1"].leave()
    await until(parent.controller, lambda: any(load.draining for name, load, _ in planes["edge-1"].reports))
    assert {name for name, load, _ in planes["edge-1"].reports if load.draining} == {"web-1"}
    assert not planes["web-1"].draining.is_set()


async def test_a_node_that_leaves_gives_those_who_only_ask_the_time_to(parent, tree):
    planes, nodes = tree
    planes["edge-1"].notice_s = 0.3
    started_s = trio.current_time()
    await nodes["edge-1"].leave()
    assert 0.3 <= trio.current_time() - started_s < DEADLINE_S


@pytest.fixture
def tls(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = ca.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "node.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "node.key"))
    return Tls(*(str(tmp_path / name) for name in ("node.pem", "node.key", "ca.pem")))


async def test_with_tls_the_whole_tree_speaks_it(topology, make_plane, declined, log, nursery, tls):
    controller = Controller(attrs.evolve(topology, tls=tls), log, report_interval_s=0.02)
    nursery.start_soon(controller.run)
    listen, handler = Address("127.0.0.1", 0), partial(serve_child, controller)
    address = await nursery.start(serve, handler, controller.admission.admit, listen, server_context(tls))
    planes = {name: make_plane(name) for name in ("edge-1", "web-1")}
    for name, fake in planes.items():
        identity = identity_of(controller.admission, name, f"wss://{address}", pid=os.getpid())
        await nursery.start(Node(identity, fake, declined, log, random.Random(1), tls).run)
    await until(controller, lambda: planes["edge-1"].reports and planes["web-1"].heeded)
    assert controller.registry.records["web-1"].assignment.parents[0].url.startswith("wss://")


# Without a controller.

NOWHERE = "ws://127.0.0.1:1"
SNAPSHOT = Snapshot(7, "shop", "web", Kind.L7, (Listener(ANY_PORT, inner=True),), (), accepted=3)
PARENTS = (frames.ParentAddress("edge-1", "ws://127.0.0.1:1"),)


ALONE_AFTER_S = 0.3


@pytest.fixture
def idle_clock(autojump_clock):
    """Time that passes only while nothing happens, on real sockets and disks either."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock


@pytest.fixture
def make_keeping(make_node, tmp_path, monkeypatch):
    monkeypatch.setattr("tierlb.node.process.ALONE_AFTER_S", ALONE_AFTER_S)

    def make(url):
        node = make_node(url)
        node.state = tmp_path / "web-1"
        return node

    return make


def kept(tmp_path):
    return snapshot_cache.load(tmp_path / "web-1", "web-1", "web", "shop")[0]


async def until_true(condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (files and sockets)
            await trio.sleep(0.01)


async def test_what_is_served_is_kept_with_its_ports_and_parents(parent, make_keeping, nursery, plane, tmp_path):
    edge = Identity("edge-1", "edge", parent.url, "secret", "b", 1)
    nursery.start_soon(make_keeping(parent.url).run)
    await until_true(lambda: kept(tmp_path) is not None)
    first = kept(tmp_path)
    assert (first.snapshot, first.addresses, first.parents) == (plane.applied[-1], plane.addresses, ())
    record = parent.controller.join(attrs.evolve(edge, control="127.0.0.1:1").hello, Link())
    await until_true(lambda: kept(tmp_path).parents)
    ticket = parent.controller.admission.ticket("edge", "edge-1", Principal(Role.NODE, "web", "web-1"))
    assert kept(tmp_path).parents == (frames.ParentAddress("edge-1", "ws://127.0.0.1:1", ticket),)
    assert record.hello.node == "edge-1"


async def test_a_node_that_finds_no_controller_serves_what_it_served_at_the_ports_it_had(
    make_keeping, nursery, plane, log, tmp_path, idle_clock
):
    snapshot_cache.save(tmp_path / "web-1", SnapshotCache("web-1", SNAPSHOT, plane.addresses, PARENTS))
    node = make_keeping(NOWHERE)
    began = trio.current_time()
    await nursery.start(node.run)
    await until_true(lambda: plane.applied)
    assert ALONE_AFTER_S <= trio.current_time() - began < ALONE_AFTER_S + 1
    assert (plane.applied, plane.had) == ([SNAPSHOT], plane.addresses)
    await until_true(lambda: node.uplink.parents.names() == ("edge-1",))
    assert node.place() == str(plane.addresses[0])
    assert ("no controller: serving what was served last", {"revision": 3}) in log.events


async def test_a_controller_that_comes_back_configures_it_as_usual(parent, make_keeping, nursery, plane, tmp_path):
    snapshot_cache.save(tmp_path / "web-1", SnapshotCache("web-1", SNAPSHOT, plane.addresses, PARENTS))
    parent.scope.cancel()
    nursery.start_soon(make_keeping(parent.url).run)
    await until_true(lambda: plane.applied)
    await parent.start()
    records = parent.controller.registry.records
    await until(parent.controller, lambda: records["web-1"].inner is not None)
    assert records["web-1"].inner == plane.addresses[0]


async def test_where_there_is_a_controller_nothing_old_is_served(
    parent, make_keeping, nursery, plane, tmp_path, idle_clock
):
    snapshot_cache.save(tmp_path / "web-1", SnapshotCache("web-1", SNAPSHOT, plane.addresses, PARENTS))
    nursery.start_soon(make_keeping(parent.url).run)
    await until_true(lambda: plane.applied)
    await trio.sleep(ALONE_AFTER_S + 0.2)
    assert SNAPSHOT not in plane.applied


@pytest.mark.parametrize(
    ("good", "event"),
    [
        (None, None),
        (SnapshotCache("web-2", SNAPSHOT), "what was served last is of no use"),
        (SnapshotCache("web-1", SNAPSHOT), "snapshot refused"),
    ],
)
async def test_without_anything_to_serve_it_waits(good, event, make_keeping, nursery, plane, log, tmp_path, idle_clock):
    if good is not None:
        snapshot_cache.save(tmp_path / "web-1", good)
    plane.reason = "no such port"
    await nursery.start(make_keeping(NOWHERE).run)
    await trio.sleep(ALONE_AFTER_S + 0.5)
    assert plane.applied == []
    assert (event in [name for name, _ in log.events]) is (event is not None)


async def test_a_disk_that_takes_nothing_is_told_once_and_stops_nothing(
    parent, make_keeping, nursery, log, tmp_path, monkeypatch
):
    monkeypatch.setattr("tierlb.node.process.GATHER_S", 0.0)
    (tmp_path / "web-1").write_text("a file where the directory should be")
    node = make_keeping(parent.url)
    nursery.start_soon(node.run)
    await until(parent.controller, lambda: parent.controller.registry.records["web-1"].assignment.served)
    await until_true(lambda: "what is served cannot be kept" in [name for name, _ in log.events])
    for _ in range(3):
        node._changed.set()
        await trio.sleep(0.05)
    assert [name for name, _ in log.events].count("what is served cannot be kept") == 1
    assert parent.controller.registry.records["web-1"].link is not None


async def test_a_snapshot_on_which_the_data_plane_fails_is_refused_and_the_next_one_served(
    make_node, plane, controller, parent, nursery, monkeypatch
):
    works = plane.apply
    monkeypatch.setattr(plane, "apply", lambda snapshot, had=(): 1 // 0)
    node = make_node(parent.url)
    nursery.start_soon(node.run)
    with trio.fail_after(DEADLINE_S):
        while not controller.registry.records["web-1"].assignment.refusal:  # noqa: ASYNC110 (real sockets)
            await trio.sleep(0.005)
        assert "internal error of the node" in controller.registry.records["web-1"].assignment.refusal
        assert node.errors.counts == {"snapshot": 1}
        monkeypatch.setattr(plane, "apply", works)
        controller.endpoints.note("demo", EndpointStatus(Address("127.0.0.1", 9999), State.SERVING, 9))
        while controller.registry.records["web-1"].state is not State.SERVING:  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_a_node_drains_even_if_it_cannot_say_so(make_node, plane, parent, nursery, monkeypatch):
    monkeypatch.setattr(plane, "announce_drain", lambda: 1 // 0)
    node = make_node(parent.url)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as inner:
            inner.start_soon(run_node, node)
            while not plane.applied:  # noqa: ASYNC110
                await trio.sleep(0.005)
            os.kill(os.getpid(), signal.SIGTERM)
    assert plane.draining.is_set()
    assert node.errors.counts == {"drain": 1}


@pytest.mark.parametrize("part", ["save", "load"])
async def test_what_fails_about_what_is_kept_ends_nothing_and_is_tried_again(
    part, parent, make_keeping, nursery, plane, tmp_path, monkeypatch
):
    monkeypatch.setattr("tierlb.net.keep_going.PAUSE_S", 0.01)
    works = getattr(snapshot_cache, part)

    def fail(*arguments):
        monkeypatch.setattr(snapshot_cache, part, works)
        raise ZeroDivisionError

    if part == "load":
        snapshot_cache.save(tmp_path / "web-1", SnapshotCache("web-1", SNAPSHOT, plane.addresses, PARENTS))
    node = make_keeping(parent.url if part == "save" else NOWHERE)
    monkeypatch.setattr(snapshot_cache, part, fail)
    nursery.start_soon(node.run)
    if part == "save":
        await until_true(lambda: kept(tmp_path) is not None)
    else:
        await until_true(lambda: plane.applied == [SNAPSHOT])
    assert node.errors.counts == {"last good": 1}
