"""What a node served is kept, and is served again where no controller is there; nodes and disks are real."""

import attrs
import pytest
import trio

from tests.node.joined import DEADLINE_S, NOWHERE, until
from tierlb.channel.controller_link import Identity
from tierlb.controller.node_record import Link
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Kind
from tierlb.node import snapshot_cache
from tierlb.node.snapshot_cache import SnapshotCache
from tierlb.topology.allot import ANY_PORT
from tierlb.wire import frames
from tierlb.wire.credentials import Principal, Role

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
    monkeypatch.setattr("tierlb.node.snapshot_keeper.ALONE_AFTER_S", ALONE_AFTER_S)

    def make(url):
        return make_node(url, tmp_path / "web-1")

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
    assert node.configuration.bound == plane.addresses
    assert ("snapshot_cache_resumed", {"revision": 3, "reason": "no controller answered"}) in log.events


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
        (SnapshotCache("web-2", SNAPSHOT), "snapshot_cache_rejected"),
        (SnapshotCache("web-1", SNAPSHOT), "snapshot_refused"),
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


async def test_a_disk_that_takes_nothing_is_logged_once_and_stops_nothing(
    parent, make_keeping, nursery, log, tmp_path, monkeypatch
):
    monkeypatch.setattr("tierlb.node.snapshot_keeper.SAVE_AFTER_S", 0.0)
    (tmp_path / "web-1").write_text("a file where the directory should be")
    node = make_keeping(parent.url)
    nursery.start_soon(node.run)
    await until(parent.controller, lambda: parent.controller.registry.records["web-1"].assignment.served)
    await until_true(lambda: "snapshot_cache_write_failed" in [name for name, _ in log.events])
    for _ in range(3):
        node.configuration.on_changed()
        await trio.sleep(0.05)
    assert [name for name, _ in log.events].count("snapshot_cache_write_failed") == 1
    assert parent.controller.registry.records["web-1"].link is not None


@pytest.mark.parametrize("part", ["save", "load"])
async def test_what_fails_about_what_is_kept_ends_nothing_and_is_tried_again(
    part, parent, make_keeping, nursery, plane, tmp_path, monkeypatch
):
    monkeypatch.setattr("tierlb.net.keep_going.RESTART_PAUSE_S", 0.01)
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
