"""What a node serves, without its process: snapshots applied, refused and repeated, and whether traffic is welcome."""

import attrs
import pytest

from tierlb.model.address import Address
from tierlb.model.load import SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Listener, Rule, Send, Snapshot
from tierlb.model.topology import Admin, Kind, Match, Respond
from tierlb.node.configuration import Configuration
from tierlb.node.placement import Placement
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.allot import ANY_PORT
from tierlb.wire.frames import Ack, Hello, Refuse

PUBLIC, INNER = Address("127.0.0.1", 8080), Address("127.0.0.1", 4002)
HELLO = Hello(1, "web-1", "web", "boot", 7, "127.0.0.1:7002")


@pytest.fixture
def changes():
    return []


@pytest.fixture
def configuration(plane, declined, log, changes):
    return Configuration(
        plane, declined, log, InternalErrors(log), on_changed=lambda: changes.append(plane.applied[-1])
    )


def test_a_snapshot_is_applied_once_and_acknowledged_each_time(configuration, plane, changes):
    snapshot = Snapshot(1, "shop", "web", Kind.L7, (Listener(PUBLIC),), ())
    assert [configuration.serve(snapshot) for _ in range(2)] == [Ack(1, plane.addresses)] * 2
    assert plane.applied == changes == [configuration.snapshot] == [snapshot]
    assert configuration.bound == plane.addresses


def test_the_cpus_of_the_tier_are_taken_with_each_snapshot_that_is_served(configuration, plane):
    taken = []
    configuration.pin = taken.append
    one, two = (
        Snapshot(number, "shop", "web", Kind.L7, (), (), cpus=cpus) for number, cpus in ((1, None), (2, (0, 1)))
    )
    for snapshot in (one, two, two):
        configuration.serve(snapshot)
    plane.reason = "port 80 is taken"
    configuration.serve(attrs.evolve(two, revision=3, cpus=(5,)))
    assert taken == [None, (0, 1)]


def test_one_that_is_refused_leaves_the_old_one(configuration, plane, log):
    old, new = (Snapshot(number, "shop", "web", Kind.L7, (), (), accepted=number) for number in (1, 2))
    configuration.serve(old)
    plane.reason = "port 80 is taken"
    assert configuration.serve(new) == Refuse(2, "port 80 is taken")
    assert configuration.snapshot == old
    assert log.events == [("snapshot_refused", {"revision": 2, "reason": "port 80 is taken"})]


def test_an_error_of_the_data_plane_refuses_the_snapshot(configuration, plane, monkeypatch):
    monkeypatch.setattr(plane, "apply", lambda snapshot, had: 1 // 0)
    answer = configuration.serve(Snapshot(1, "shop", "web", Kind.L7, (), ()))
    assert "internal error of the node" in answer.reason
    assert configuration.errors.counts == {"snapshot": 1}


def test_addresses_are_those_by_which_the_controller_knows_the_node(configuration, plane):
    configuration.placement = Placement(host="0.0.0.0", control_name="web:7946")
    plane.addresses = (Address("0.0.0.0", 4001),)
    configuration.hello_of(HELLO, "192.0.2.7")
    assert configuration.serve(Snapshot(1, "shop", "web", Kind.L7, (Listener(PUBLIC),), ())).addresses == (
        Address("192.0.2.7", 4001),
    )
    hello = configuration.hello_of(HELLO, "192.0.2.8")
    assert (hello.data, hello.control) == ("192.0.2.8:4001", "web:7946")


def test_one_that_drains_wants_no_new_traffic(configuration):
    configuration.draining = True
    assert configuration.unready() == "it drains"


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
        (SENDS, 0, 0, "no host is below it yet"),
        (SENDS, 2, 1, ""),
        (FILLED, 0, 0, ""),
        (FILLED, 2, 0, "no endpoint below it is ready"),
        (FILLED, 2, 1, ""),
    ],
)
def test_a_node_is_ready_when_traffic_finds_something_below(configuration, plane, snapshot, leaves, ready, reason):
    plane.subtree_load = SubtreeLoad(leaves=leaves, ready_leaves=ready)
    if snapshot is not None:
        configuration.serve(snapshot)
    assert configuration.unready() == reason


@pytest.mark.parametrize(
    ("listeners", "place"),
    [
        ((), ""),
        ((Listener(PUBLIC),), "127.0.0.1:8080"),
        ((Listener(PUBLIC), Listener(ANY_PORT, inner=True)), "127.0.0.1:4002"),
    ],
)
def test_the_hello_has_the_address_for_parents_or_else_for_clients(configuration, plane, listeners, place):
    assert configuration.hello_of(HELLO, "192.0.2.7") == HELLO
    plane.addresses = (PUBLIC, INNER)[: len(listeners)]
    configuration.serve(Snapshot(1, "shop", "web", Kind.L7, listeners, ()))
    assert configuration.hello_of(HELLO, "192.0.2.7") == attrs.evolve(HELLO, data=place)
    assert configuration.has_parents() is any(listener.inner for listener in listeners)
