"""What counters and walks say becomes counts at hosts, and what they show of hosts that do not answer."""

from typing import Any

import attrs

from tests.dataplane.registries import Harness, host_spec
from tierlb.balance.availability import Availability
from tierlb.balance.ejection import FAILURES_TO_EJECT
from tierlb.dataplane.l4.kernel.hosts import WALKS_AFTER, KernelHosts
from tierlb.model.address import Address
from tierlb.model.topology import Kind
from tierlb.telemetry.tally import Tally
from tierlb.wire.conntrack import ConnectionPhase, Flow

ANY = Address("10.0.0.9", 443)


class Scene:
    """Two hosts at addresses of their own."""

    def __init__(self, **options: Any) -> None:
        self.harness = Harness()
        self.tally = Tally()
        self.hosts = KernelHosts(self.tally)
        specs = [attrs.evolve(host_spec(name, **options), address=self.at(name)) for name in "ab"]
        self.a, self.b = self.harness.host_set(*specs, kind=Kind.L4).hosts
        self.hosts.follow((self.a, self.b))

    @staticmethod
    def at(name: str) -> Address:
        return Address(f"10.0.0.{ord(name) - 96}", 80)

    def counters(self, a: int, b: int = 0) -> int:
        return self.hosts.took(0.0, {"host_1": a, "host_2": b})

    def walk(self, *, opening: dict[bytes, str] | None = None, protocol: int = 6, **count: int) -> None:
        flows = {self.flow(name, protocol=protocol): amount for name, amount in count.items()}
        waiting = {sent: self.flow(name, ConnectionPhase.OPENING, protocol) for sent, name in (opening or {}).items()}
        self.hosts.walked(0.0, flows, waiting)

    def flow(self, name: str, phase: ConnectionPhase = ConnectionPhase.OPEN, protocol: int = 6) -> Flow:
        return Flow(protocol, ANY, self.at(name), phase)


def test_connections_count_at_their_hosts() -> None:
    scene = Scene()
    assert scene.counters(5, 2) == 7
    assert scene.counters(6, 2) == 1
    scene.walk(a=4, b=1)
    assert (scene.a.in_flight, scene.b.in_flight, scene.hosts.open) == (4, 1, 5)
    assert (scene.tally.arrivals, scene.hosts.open_at(scene.a)) == (8, 4)


def test_counters_that_begin_anew_lose_nothing() -> None:
    scene = Scene()
    scene.counters(5)
    assert scene.counters(2) == 2
    scene.hosts.forget_counters()
    assert scene.counters(3) == 3


def test_connections_that_are_over_are_not_open() -> None:
    scene = Scene()
    scene.hosts.walked(0.0, {scene.flow("a", ConnectionPhase.OVER): 3, scene.flow("a", ConnectionPhase.OPENING): 1}, {})
    assert scene.a.in_flight == 1


def test_what_goes_to_no_host_is_passed_over() -> None:
    scene = Scene()
    assert scene.hosts.of(Flow(6, ANY, Address("10.0.0.77", 80), ConnectionPhase.OPEN)) is None


def test_a_host_that_left_stays_while_connections_do() -> None:
    scene = Scene()
    scene.counters(3)
    scene.walk(a=3)
    scene.harness.host_set(scene.b.spec, kind=Kind.L4)
    scene.hosts.follow((scene.b,))
    scene.walk(a=1)
    assert scene.hosts.open == 1
    for walks in range(WALKS_AFTER):
        assert len(list(scene.hosts)) == 2, walks
        scene.walk()
    assert [each.host for each in scene.hosts] == [scene.b]


def test_connects_that_two_walks_find_unanswered_eject() -> None:
    scene = Scene()
    waiting = {bytes([number]): "a" for number in range(FAILURES_TO_EJECT)}
    scene.walk(opening=waiting)
    assert scene.a.availability is Availability.AVAILABLE, "they may have just begun"
    scene.walk(opening=waiting)
    assert scene.a.availability is Availability.EJECTED
    assert scene.b.availability is Availability.AVAILABLE


def test_over_udp_a_host_fails_that_answers_nobody_while_others_do() -> None:
    scene = Scene()
    waiting = {bytes([number]): "a" for number in range(FAILURES_TO_EJECT)}
    for _ in range(3):
        scene.walk(opening=waiting, protocol=17)
    assert scene.a.availability is Availability.AVAILABLE, "nobody answers: it may be a protocol without answers"
    for _ in range(3):
        scene.walk(opening=waiting, protocol=17, a=1, b=1)
    assert scene.a.availability is Availability.AVAILABLE, "it answers others"
    scene.walk(opening=waiting, protocol=17, b=1)
    assert scene.a.availability is Availability.EJECTED


def test_over_udp_a_host_fails_that_refuses() -> None:
    scene = Scene()
    scene.hosts.took(0.0, {"host_1": 2, "refused_1": 0, "host_2": 2, "refused_2": 0})
    assert scene.a.availability is Availability.AVAILABLE
    scene.hosts.took(0.0, {"host_1": 2, "refused_1": 3, "host_2": 2, "refused_2": 0})
    assert (scene.a.availability, scene.b.availability) == (Availability.EJECTED, Availability.AVAILABLE)
    scene.hosts.forget_counters()
    scene.hosts.took(0.0, {"host_1": 0, "refused_1": 0, "host_2": 0, "refused_2": 1})
    assert scene.b.reach.failures == 1


def test_one_that_is_not_answered_is_forgiven_when_others_are() -> None:
    scene = Scene()
    for number in range(3 * FAILURES_TO_EJECT):
        scene.counters(number + 1)
        scene.walk(opening={b"one": "a"} if number % 4 < 2 else {}, a=1)
    assert scene.a.availability is Availability.AVAILABLE


def test_hosts_that_are_given_connections_are_looked_at() -> None:
    scene = Scene()
    assert scene.hosts.suspects() == []
    scene.counters(1)
    assert scene.hosts.suspects() == [scene.a]
    assert scene.hosts.suspects() == []


def test_nodes_that_do_not_report_are_looked_at() -> None:
    scene = Scene(child=True, reports=True)
    assert scene.hosts.suspects() == [scene.a, scene.b]
    scene.harness.report("a")
    assert scene.hosts.suspects() == [scene.b]
