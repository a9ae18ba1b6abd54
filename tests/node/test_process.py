"""Nodes and a controller over real websockets; the data planes are fakes."""

import os
import signal

import attrs
import httpx
import pytest
import trio
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.control_plane import controller_port, node_of
from tests.joining import identity_of
from tests.node.joined import DEADLINE_S, NOWHERE, until
from tierlb.controller.controller import Controller
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.tls import Tls
from tierlb.net.cluster_tls import ClusterTls
from tierlb.node import snapshot_cache as snapshot_cache
from tierlb.node.placement import Placement
from tierlb.node.process import run_node
from tierlb.telemetry.exposition import CONTENT_TYPE


async def test_a_node_serves_what_its_parent_wants_and_says_where(parent, make_node, nursery, plane):
    nursery.start_soon(make_node(parent.url).run)
    record = parent.controller.registry.records
    await until(parent.controller, lambda: record["web-1"].assignment.served)
    assert record["web-1"].addresses == plane.addresses
    assert [snapshot.revision for snapshot in plane.applied] == [1]


async def test_a_node_that_listens_everywhere_says_by_which_address_the_controller_knows_it(
    parent, make_node, nursery, plane
):
    node = make_node(parent.url)
    node.configuration.placement = Placement(host="0.0.0.0", control_name="web:7946")
    plane.addresses = (Address("0.0.0.0", 4001),)
    nursery.start_soon(node.run)
    record = parent.controller.registry.records
    await until(parent.controller, lambda: record["web-1"].assignment.served)
    assert record["web-1"].addresses == (Address("127.0.0.1", 4001),)
    assert record["web-1"].hello.control == "web:7946"


async def test_a_node_that_leaves_is_ready_no_more(parent, make_node, nursery, plane):
    node = make_node(parent.url)
    nursery.start_soon(node.run)
    await until(parent.controller, lambda: parent.controller.registry.records["web-1"].assignment.served)
    assert node.configuration.unready() == ""
    with trio.fail_after(DEADLINE_S):
        await node.leave()
    assert node.configuration.unready() == "it drains"


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
    assert event == "controller_disconnected"
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
        await run_node(make_node(NOWHERE))
    assert trio.current_time() - started_s == pytest.approx(1001, abs=0.1)


@pytest.fixture
async def tree(parent, make_plane, declined, log, nursery):
    """A controller, one edge and two web nodes; each plane by its node's name."""
    planes = {name: make_plane(name) for name in ("edge-1", "web-1", "web-2")}
    nodes = {}
    for name, fake in planes.items():
        identity = identity_of(parent.controller.admission, name, parent.url, pid=os.getpid())
        nodes[name] = node_of(identity, fake, declined, log)
        await nursery.start(fake.run)
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
    planes["web-1"].busy = True
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
    secured = ClusterTls(tls, log)
    address = await controller_port(nursery, controller, controller.admission.admit, tls=secured.control_server)
    planes = {name: make_plane(name) for name in ("edge-1", "web-1")}
    for name, fake in planes.items():
        identity = identity_of(controller.admission, name, f"wss://{address}", pid=os.getpid())
        await nursery.start(node_of(identity, fake, declined, log, tls=ClusterTls(tls, log)).run)
    await until(controller, lambda: planes["edge-1"].reports and planes["web-1"].heeded)
    assert controller.registry.records["web-1"].assignment.parents[0].url.startswith("wss://")


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
