"""What a node's data plane reports and does before its first snapshot, and what it becomes with it."""

import socket

import attrs
import pytest

from tests.dataplane.conftest import ANY_PORT, Clock, Lab, Log, l4, l7
from tests.dataplane.registries import Harness, host_spec
from tierlb.dataplane.l4.front import L4Front
from tierlb.dataplane.l7.front import L7Front
from tierlb.dataplane.maintenance import Maintenance
from tierlb.dataplane.plane import Plane
from tierlb.dataplane.runtime import Runtime, Serving
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.model.snapshot import Rule, Snapshot
from tierlb.model.topology import Admin, Match, Respond
from tierlb.net.wheel import NEVER
from tierlb.telemetry.internal_errors import InternalErrors

HELLO = (Rule(Match(), Respond(200, "hello\n")),)


def test_without_a_snapshot_nothing_is_served_and_reports_change_nothing() -> None:
    serving = Serving("web-1", InternalErrors(Log()))
    serving.note_report("a", SubtreeLoad(arrivals=5), Echo(), 0.25)
    serving.note_lost("a")
    serving.note_guidance("edge-1", Guidance(1.0))
    serving.explain("nonce", 1e9)
    serving.drain()
    assert serving.tick(0.0, ends=False) == NEVER
    serving.cut()
    serving.close()
    load = serving.load(0)
    assert (load.connections, load.items, load.hosts) == (0, 0, ())
    assert (serving.subtree(), serving.echo("edge-1"), serving.guide("a")) == (SubtreeLoad(), Echo(), None)
    assert (serving.row(load).tier, serving.metrics(load).tier) == ("", "")
    assert (serving.drained, serving.announce_drain()) == (True, 0.0)


def test_without_a_snapshot_a_connection_is_closed() -> None:
    ours, theirs = socket.socketpair()
    serving = Serving("web-1", InternalErrors(Log()))
    serving.accept(ours.detach(), ("192.0.2.7", 1), ANY_PORT)
    assert theirs.recv(1) == b""
    assert serving.out_of_descriptors(theirs, ANY_PORT) is False
    theirs.close()


@pytest.mark.parametrize(("snapshot", "front"), [(l4(), L4Front), (l7(rules=HELLO), L7Front)], ids=["l4", "l7"])
async def test_the_first_snapshot_decides_what_kind_of_front_serves(lab: Lab, snapshot: Snapshot, front: type) -> None:
    plane = Plane("node", lab.log)
    assert not isinstance(plane.serving, Runtime)
    plane.apply(attrs.evolve(snapshot, listeners=()))
    runtime = plane.serving
    assert isinstance(runtime, Runtime)
    assert isinstance(runtime.front, front)
    plane.apply(attrs.evolve(snapshot, listeners=(), revision=2))
    assert plane.serving is runtime
    assert runtime.snapshot.revision == 2
    runtime.close()
    plane.reactor.dispose()


async def test_a_node_that_stays_drained_and_one_with_an_endpoint_in_maintenance_rest(lab: Lab, clock: Clock) -> None:
    """They look again when there may be something to cut."""
    one, two = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l4(one, two, drain_s=40.0))
    runtime = lab.plane.serving
    assert isinstance(runtime, Runtime)
    one.spec = attrs.evolve(one.spec, admin=Admin.MAINTENANCE)
    lab.plane.apply(l4(one, two, drain_s=40.0, revision=2))
    assert runtime.tick(clock.now, ends=False) == NEVER
    lab.plane.apply(l4(two, drain_s=40.0, revision=3, admin=Admin.DRAIN))
    assert runtime.tick(clock.now, ends=False) == clock.now + 40.0
    assert runtime.tick(clock.now, ends=True) == NEVER, "the process ends by itself"


def test_an_endpoint_in_maintenance_is_looked_at_when_its_time_is_over_if_something_is_left() -> None:
    harness, maintenance = Harness(), Maintenance()
    (host,) = harness.host_set(attrs.evolve(host_spec("a"), admin=Admin.MAINTENANCE)).hosts
    maintenance.note([host], 100.0)
    assert maintenance.deadline(40.0) == NEVER
    ticket = harness.connects(host)
    assert maintenance.deadline(40.0) == 140.0
    assert (maintenance.due(139.0, 40.0), maintenance.due(140.0, 40.0)) == ([], [host])
    ticket.done(harness.reactor.now)
    assert maintenance.deadline(40.0) == NEVER
