"""Which processes are started and stopped as the topology changes; the processes are fakes, the controller is not."""

import os
import random
import socket
import sys
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from tierlb.balance.stop_times import stop_s
from tierlb.channel.join_credentials import JoinCredentials
from tierlb.controller.controller import Controller
from tierlb.controller.local_endpoints import LocalEndpoints
from tierlb.controller.node_record import Link
from tierlb.controller.status import State
from tierlb.local import process_manager as process_manager_module
from tierlb.local.guard import Guard
from tierlb.local.ports import FreePorts, PortTaken
from tierlb.local.process_manager import (
    LOOK_EVERY_S,
    RETIRE_S,
    UNPUBLISH_S,
    ProcessManager,
    environment,
    unknown_command,
)
from tierlb.model.address import Address
from tierlb.model.topology import Forward, Kind, Match, Pool, Resources, Route, Run, Share, Tier, Tls, Topology
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.wire.credentials import Role
from tierlb.wire.frames import Ack, Hello


class FakeLog:
    def info(self, event, **fields):
        pass

    warning = error = info


@attrs.define(eq=False)
class FakeChild:
    """A process that runs until it is asked to stop. `happened` is shared by all."""

    name: str
    argv: tuple
    env: dict
    log: object
    guard: object
    watch: object = None
    on_exit: object = None
    errors: object = None
    sockets: object = None
    tier: str = ""
    introduce: object = None
    pid: int | None = None
    problem: str = ""
    crashes: int = 0
    happened: list = attrs.field(factory=list)
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _ended: trio.Event = attrs.field(factory=trio.Event)
    stop_s: float = 0.0
    drain_s: float = 0.0

    async def run(self):
        self.pid = 100 + sum(what == "start" for what, *_ in self.happened)
        self.happened.append(("start", self.name))
        await self._stop.wait()
        if self.on_exit is not None:
            self.on_exit(self.pid)
        self._ended.set()

    async def wait_ended(self):
        await self._ended.wait()

    async def stop(self, deadline_s):
        self.happened.append(("stop", self.name, round(trio.current_time(), 3)))
        self.stop_s = deadline_s
        await trio.sleep(self.drain_s)
        self._stop.set()
        await trio.lowlevel.checkpoint()


def tier(name, kind, *targets, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, targets),))),), **more)


def topology_of(*tiers, pools=(), **more):
    return Topology("shop", {each.name: each for each in tiers}, {each.name: each for each in pools}, **more)


APP = Pool("app", run=Run("app --port {port}", replicas=2))
WEB = tier("web", Kind.L7, "app", replicas=2)
SHOP = topology_of(WEB, pools=[APP])


def with_replicas(count):
    return topology_of(attrs.evolve(WEB, replicas=count), pools=[APP])


def with_app(command="app --port {port}", replicas=2):
    return topology_of(WEB, pools=[attrs.evolve(APP, run=Run(command, replicas))])


@pytest.fixture
def happened():
    return []


@pytest.fixture
def manager(nursery, monkeypatch, happened):
    monkeypatch.setattr(process_manager_module, "ManagedProcess", partial(FakeChild, happened=happened))
    controller = Controller(SHOP, FakeLog())
    join_credentials = JoinCredentials("ws://127.0.0.1:7000", "secret")
    manager = ProcessManager(
        controller, join_credentials, Guard(), FakeLog(), FreePorts(random.Random(os.getpid())), nursery
    )
    nursery.start_soon(controller.run)
    yield manager
    manager.sockets.close()


async def grown(manager, topology):
    manager.controller.registry.adopt(topology)
    manager.grow(topology)
    await trio.testing.wait_all_tasks_blocked()


def started(happened):
    """Names of nodes, and pools of endpoints, as they were started since the last time."""
    names = [name.partition("/")[0] for what, name, *_ in happened if what == "start"]
    happened.clear()
    return sorted(names)


def stopped(happened):
    return sorted(name.partition("/")[0] for what, name, *_ in happened if what == "stop")


async def test_what_is_named_is_started_once(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    assert started(happened) == ["app", "app", "web-1", "web-2"]
    await grown(manager, SHOP)
    assert happened == []
    await grown(manager, with_replicas(3))
    assert started(happened) == ["web-3"]


async def test_a_node_is_told_who_it_is_and_how_to_join(manager, happened, autojump_clock):
    secured = attrs.evolve(SHOP, tls=Tls("node.pem", "node.key", "ca.pem"))
    await grown(manager, secured)
    child = manager._nodes["web-2"]
    assert child.argv == (
        *(sys.executable, "-m", "tierlb", "node"),
        *("--name", "web-2", "--tier", "web", "--join", "ws://127.0.0.1:7000"),
        *("--tls-certificate", "node.pem", "--tls-key", "node.key", "--tls-ca", "ca.pem"),
    )
    assert TOKEN_VARIABLE not in child.env
    admission = manager.controller.admission
    credential, reception = child.introduce().decode().split("\n")
    principal = admission.admit(credential)
    assert (principal.role, principal.group, principal.name) == (Role.NODE, "web", "web-2")
    assert bytes.fromhex(reception) == admission.reception("web", "web-2")
    assert credential not in str(child.argv)
    assert (child.sockets, child.tier) == (manager.sockets, "web")


async def test_a_node_has_a_directory_of_its_own_where_there_is_one(manager, tmp_path, autojump_clock):
    manager.state = tmp_path / "nodes"
    await grown(manager, SHOP)
    assert manager._nodes["web-2"].argv[-2:] == ("--state", str(tmp_path / "nodes" / "web-2"))


async def test_what_was_started_is_told(manager, autojump_clock):
    assert [name.partition("/")[0] for name in manager.grow(SHOP)] == ["web-1", "web-2", "app", "app"]
    assert manager.grow(SHOP) == ()
    (endpoint,) = manager.grow(with_app(replicas=3))
    assert endpoint.startswith("app/127.0.0.1:")
    manager._endpoints["app"][-1].child.crashes = 4
    assert manager.crashes([endpoint]) == 4


async def test_an_endpoint_that_is_to_go_counts_only_while_it_serves(manager, autojump_clock):
    """What is broken can be replaced: nobody waits for it."""
    await grown(manager, with_app(replicas=2))
    serves, broken = manager._endpoints["app"]
    serves.status = attrs.evolve(serves.status, state=State.SERVING, pid=7)
    manager._tell(serves)
    manager.grow(with_app("app2 --port {port}", replicas=1))

    def known():
        return {each.address: each.state for each in manager.controller.endpoints.of("app")}

    (new,) = manager._endpoints["app"][2:]
    assert set(known()) == {serves.address, new.address}
    broken.child.on_exit(9)
    assert broken.address not in known()
    manager.grow(with_app(replicas=2))
    assert known()[broken.address] is State.GONE
    assert new.address not in known()
    await manager.shrink(with_app(replicas=2))
    assert set(known()) == {serves.address, broken.address}


async def test_endpoints_get_ports_of_their_own_and_no_token(manager, monkeypatch, autojump_clock):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    await grown(manager, SHOP)
    endpoints = manager._endpoints["app"]
    assert [each.child.argv for each in endpoints] == [("app", "--port", str(each.address.port)) for each in endpoints]
    assert len({each.address for each in endpoints}) == 2
    assert all(TOKEN_VARIABLE not in each.child.env for each in endpoints)
    assert {each.state for each in manager.controller.observer.status().pools["app"].endpoints} == {State.GONE}


async def test_what_is_said_of_containers_touches_no_process(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    there, few = len(happened), Resources(cpus=0.1)
    run = attrs.evolve(APP.run, image="app:2", resources=few)
    changed = topology_of(attrs.evolve(WEB, resources=few), pools=[attrs.evolve(APP, run=run)])
    assert manager.grow(changed) == ()
    await manager.shrink(changed)
    assert len(happened) == there


async def test_a_command_may_ask_where_it_is_to_listen(manager, autojump_clock):
    manager.grow(with_app("app --bind={host}:{port} {host}", replicas=1))
    (endpoint,) = manager._endpoints["app"]
    assert endpoint.child.argv == ("app", f"--bind={endpoint.address}", "127.0.0.1")


async def test_an_endpoint_serves_when_it_accepts_and_is_gone_with_its_process(manager):
    await grown(manager, with_app(replicas=1))
    (endpoint,) = manager._endpoints["app"]

    def state():
        (status,) = manager.controller.observer.status().pools["app"].endpoints
        return status.state, status.pid

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.child.watch, 42)
            await trio.testing.wait_all_tasks_blocked()
            assert state() == (State.STARTING, 42)
            with socket.create_server(endpoint.address.sockaddr):
                while state()[0] is not State.SERVING:
                    await manager.controller.signals.wait_progress()
    assert state() == (State.SERVING, 42)
    endpoint.child.on_exit(42)
    assert state() == (State.GONE, None)


async def test_nodes_that_are_named_no_more_are_surplus_and_stay_until_they_are_stopped(
    manager, happened, autojump_clock
):
    await grown(manager, with_replicas(4))
    assert manager.surplus(with_replicas(4)) == ()
    assert manager.surplus(SHOP) == ("web-3", "web-4")
    assert manager.surplus(topology_of(pools=[APP])) == ("web-1", "web-2", "web-3", "web-4")
    await manager.shrink(SHOP)
    assert stopped(happened) == []


async def test_who_is_stopped_is_retired_before_and_asked_to_end_when_all_serve_that(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    await serve(manager, "web-1", 101)
    await serve(manager, "web-2", 102)
    await serve(manager, "web-1", 101)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.stop_nodes, ["web-2", "no-such"])
        await trio.sleep(RETIRE_S / 4)
        assert manager.controller.node_admin.retiring == {"web-2"}
        assert stopped(happened) == []
        acknowledge(manager, "web-2")
    stops = [event for event in happened if event[0] == "stop"]
    assert stops == [("stop", "web-2", pytest.approx(began + RETIRE_S / 4, abs=0.01))]
    assert manager.controller.node_admin.retiring == frozenset()
    await grown(manager, SHOP)
    assert happened[-1] == ("start", "web-2"), "it is not there any more"


async def test_a_node_that_does_not_answer_is_asked_to_end_all_the_same(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    await serve(manager, "web-2", 102)
    began = trio.current_time()
    await manager.stop_nodes(["web-2"])
    (stop,) = [event for event in happened if event[0] == "stop"]
    assert stop == ("stop", "web-2", pytest.approx(began + RETIRE_S, abs=0.01))


async def test_a_process_is_killed_when_the_drain_time_of_its_tier_is_well_over(manager, happened, autojump_clock):
    slow, quick = attrs.evolve(WEB, drain_s=90.0), tier("edge", Kind.L4, "web", drain_s=1.0)
    await grown(manager, topology_of(slow, quick, pools=[APP]))
    children = {name: manager._nodes[name] for name in ("web-1", "edge-1")}
    endpoints = list(manager._endpoints["app"])
    await manager.stop_nodes(["web-1", "edge-1"])
    await manager.shrink(topology_of(slow, pools=[attrs.evolve(APP, run=Run("app --port {port}", replicas=1))]))
    assert children["web-1"].stop_s == stop_s(90.0)
    assert children["edge-1"].stop_s == stop_s(1.0)
    assert {0.0, stop_s(90.0)} == {each.child.stop_s for each in endpoints}


async def test_the_drain_time_of_a_process_is_the_latest_that_its_tier_had(manager, happened, autojump_clock):
    """Also of a tier that the topology names no more while its processes end."""
    edge = tier("edge", Kind.L4, "web", drain_s=1.0)
    await grown(manager, topology_of(WEB, edge, pools=[APP]))
    await grown(manager, topology_of(WEB, attrs.evolve(edge, drain_s=50.0), pools=[APP]))
    await grown(manager, topology_of(WEB, pools=[APP]))
    child = manager._nodes["edge-1"]
    await manager.stop_nodes(["edge-1"])
    assert child.stop_s == stop_s(50.0)


async def test_who_was_asked_to_end_does_so_even_if_nobody_waits_and_nobody_stays_retired(
    manager, happened, autojump_clock
):
    await grown(manager, SHOP)
    await serve(manager, "web-2", 102)
    with trio.move_on_after(RETIRE_S / 2):
        await manager.stop_nodes(["web-2"])
    assert (stopped(happened), manager.controller.node_admin.retiring, manager.surplus(with_replicas(1))) == (
        [],
        set(),
        ("web-2",),
    )
    with trio.move_on_after(UNPUBLISH_S / 2):
        await manager.shrink(with_app(replicas=1))
    assert len(manager.controller.endpoints.of("app")) == 1
    await trio.sleep(UNPUBLISH_S)
    assert stopped(happened) == ["app"]


async def test_an_endpoint_ends_when_nobody_is_connected_any_more(manager, happened, autojump_clock, monkeypatch):
    monkeypatch.setattr(process_manager_module, "is_connected", lambda port: trio.current_time() < began + 20.0)
    await grown(manager, SHOP)
    began = trio.current_time()
    await manager.shrink(with_app(replicas=1))
    (stop,) = [event for event in happened if event[0] == "stop"]
    assert stop[2] == pytest.approx(began + 20.0, abs=LOOK_EVERY_S)


async def test_an_endpoint_that_stays_connected_ends_at_the_deadline_of_its_senders(
    manager, happened, autojump_clock, monkeypatch
):
    monkeypatch.setattr(process_manager_module, "is_connected", lambda port: True)
    await grown(manager, topology_of(attrs.evolve(WEB, drain_s=90.0), pools=[APP]))
    began = trio.current_time()
    await manager.shrink(with_app(replicas=1))
    (stop,) = [event for event in happened if event[0] == "stop"]
    assert stop[2] == pytest.approx(began + UNPUBLISH_S + 90.0, abs=LOOK_EVERY_S)


async def test_nothing_is_started_once_the_end_has_begun(manager, happened, nursery, autojump_clock):
    await grown(manager, SHOP)
    happened.clear()
    manager.ask_to_stop(nursery, ["edge"])
    await grown(manager, with_replicas(3))
    await manager.replace(SHOP, "web-1")
    assert happened == []


async def test_nobody_to_stop_takes_no_time(manager, happened, autojump_clock):
    began = trio.current_time()
    await manager.stop_nodes([])
    await manager.stop_nodes(["no-such"])
    assert trio.current_time() == began


SHRINKS = [
    (with_app(replicas=3), with_app(replicas=1), 2),
    (with_app(), topology_of(tier("web", Kind.L7), pools=[]), 2),
    (with_app(), with_app(), 0),
    (with_app(), topology_of(WEB, pools=[Pool("app", endpoints=(Address("127.0.0.1", 9),))]), 2),
]


@pytest.mark.parametrize(("before", "after", "count"), SHRINKS)
async def test_endpoints_that_are_named_no_more_are_unpublished_then_stopped(
    manager, happened, before, after, count, autojump_clock
):
    await grown(manager, before)
    happened.clear()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.shrink, after)
        await trio.sleep(UNPUBLISH_S / 2)
        there = len(manager._endpoints["app"])
        assert len(manager.controller.endpoints.of("app")) == there
        assert happened == []
    assert [event[0] for event in happened] == ["stop"] * count
    assert all(event[2] == pytest.approx(began + UNPUBLISH_S, abs=0.01) for event in happened)
    assert len(manager.controller.endpoints.of("app")) == there, "its end makes it no endpoint again"


async def test_endpoints_of_a_new_command_start_before_the_old_ones_stop(manager, happened, autojump_clock):
    await grown(manager, with_app())
    old = list(manager._endpoints["app"])
    happened.clear()
    changed = with_app("app2 --port {port}")
    await grown(manager, changed)
    assert started(happened) == ["app", "app"]
    assert len(manager._endpoints["app"]) == 4
    await manager.shrink(changed)
    assert {event[1] for event in happened} == {each.child.name for each in old}
    assert {each.command for each in manager._endpoints["app"]} == {"app2 --port {port}"}
    await grown(manager, with_app("app2 --port {port}", replicas=3))
    assert len(manager._endpoints["app"]) == 3


async def serve(manager, name, pid):
    """The process says hello and serves what is wanted of it."""
    manager.controller.join(Hello(1, name, "web", f"boot-{pid}", pid), Link())
    await trio.sleep(0.1)
    acknowledge(manager, name)
    await trio.sleep(0.1)


def acknowledge(manager, name):
    """It serves what is wanted of it now."""
    record = manager.controller.registry.records[name]
    addresses = (Address("127.0.0.1", record.hello.pid),) * len(record.assignment.wanted.listeners)
    manager.controller.receive(record, Ack(record.assignment.wanted.revision, addresses))


async def test_a_process_is_replaced_only_when_the_new_one_serves(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    old = manager._nodes["web-1"]
    await serve(manager, "web-1", old.pid)
    happened.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.replace, SHOP, "web-1")
        await trio.testing.wait_all_tasks_blocked()
        new = manager._nodes["web-1"]
        await trio.sleep(60)
        assert started(happened) == ["web-1"]
        assert stopped(happened) == []
        await serve(manager, "web-1", new.pid)
    assert new is not old
    await trio.testing.wait_all_tasks_blocked()
    assert old._stop.is_set()
    assert not new._stop.is_set()
    assert manager._nodes["web-1"] is new
    assert manager.controller.readiness.is_served_by("web-1", new.pid), (
        "the end of the old one is not that of the new one"
    )
    await manager.wait_replaced()
    assert old._ended.is_set()


async def test_the_old_process_drains_while_the_next_one_is_replaced(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    old = manager._nodes["web-1"]
    old.drain_s = 1000.0
    await serve(manager, "web-1", old.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.replace, SHOP, "web-1")
        await trio.testing.wait_all_tasks_blocked()
        await serve(manager, "web-1", manager._nodes["web-1"].pid)
    await trio.testing.wait_all_tasks_blocked()
    assert stopped(happened) == ["web-1"]
    began = trio.current_time()
    await manager.wait_replaced()
    assert trio.current_time() - began > 900


async def test_where_the_new_process_does_not_serve_in_time_the_old_one_stays(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    old = manager._nodes["web-1"]
    await serve(manager, "web-1", old.pid)
    with trio.move_on_after(20) as scope:
        await manager.replace(SHOP, "web-1")
    assert scope.cancelled_caught
    assert manager._nodes["web-1"] is old
    assert not old._stop.is_set()
    assert stopped(happened) == ["web-1"], "the new one"
    assert manager.controller.readiness.is_served_by("web-1", old.pid)


async def test_public_addresses_are_kept_for_as_long_as_a_tier_has_them(manager, autojump_clock):
    one, other = (Address("127.0.0.1", manager.ports.take()) for _ in range(2))
    listening = lambda address: topology_of(attrs.evolve(WEB, listen=address), pools=[APP])  # noqa: E731
    await grown(manager, listening(one))
    await grown(manager, listening(other))
    assert [is_kept(address) for address in (one, other)] == [True, True]
    await manager.shrink(listening(other))
    assert [is_kept(address) for address in (one, other)] == [False, True]


def is_kept(address):
    with socket.socket() as sock:
        try:
            sock.bind(address.sockaddr)
        except OSError:
            return True
    return False


async def test_nothing_is_started_where_an_address_cannot_be_had(manager, happened, autojump_clock):
    address = Address("127.0.0.1", manager.ports.take())
    with socket.create_server(address.sockaddr), pytest.raises(PortTaken, match=r"tiers\.web\.listen"):
        manager.grow(topology_of(attrs.evolve(WEB, listen=address), pools=[APP]))
    await trio.testing.wait_all_tasks_blocked()
    assert happened == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["app", "app", "edge-1", "web-1", "web-2"]),
        (["web"], ["web-1", "web-2"]),
        (["edge", "app"], ["app", "app", "edge-1"]),
        ([], []),
    ],
)
async def test_at_the_end_tiers_and_pools_are_stopped_by_name(manager, happened, names, expected, autojump_clock):
    await grown(manager, topology_of(tier("edge", Kind.L4, "web"), WEB, pools=[APP]))
    async with trio.open_nursery() as nursery:
        manager.ask_to_stop(nursery, names)
    assert stopped(happened) == expected


async def test_what_goes_wrong_is_told(manager, autojump_clock):
    await grown(manager, SHOP)
    assert (manager.problems(), manager.crashes(["web-1", "web-2", "no-such"])) == ((), 0)
    manager._nodes["web-1"].crashes, manager._nodes["web-2"].crashes = 1, 3
    manager._nodes["web-2"].problem = "web-2 ended with status 1"
    manager._endpoints["app"][0].child.problem = "app cannot be started"
    assert manager.problems() == ("web-2 ended with status 1", "app cannot be started")
    assert manager.problems(["web-1", "web-2"]) == ("web-2 ended with status 1",)
    assert (manager.crashes(["web-1", "web-2"]), manager.crashes(["web-1"]), manager.crashes([])) == (3, 1, 0)


async def test_each_node_is_lent_the_sockets_of_its_tier(manager, autojump_clock):
    await grown(manager, topology_of(tier("edge", Kind.L4, "web"), WEB, pools=[APP]))
    assert {name: child.tier for name, child in manager._nodes.items()} == {
        "edge-1": "edge",
        "web-1": "web",
        "web-2": "web",
    }
    assert all(child.sockets is manager.sockets for child in manager._nodes.values())
    assert all(each.child.sockets is None for each in manager._endpoints["app"])


async def test_a_credential_is_good_for_as_long_as_the_process_that_it_was_made_for(manager, autojump_clock):
    await grown(manager, SHOP)
    admission, child = manager.controller.admission, manager._nodes["web-1"]
    admission.only_started = True
    first, second = (child.introduce().decode().partition("\n")[0] for _ in range(2))
    assert (admission.admit(first), admission.admit(second).name) == (None, "web-1")
    child.on_exit(child.pid)
    assert admission.admit(second) is None


def test_this_very_interpreter_is_found_first_and_the_token_is_not_handed_on(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    monkeypatch.setenv("PATH", "/usr/bin")
    env = environment()
    assert env["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert TOKEN_VARIABLE not in env


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("python --port {port}", ""),
        (f"{sys.executable} -m x", ""),
        ("no-such-program --port {port}", "pools.app.run.command: there is no program 'no-such-program'"),
    ],
)
def test_a_command_without_a_program_is_found_before_anything_starts(command, problem):
    told = unknown_command(with_app(command))
    assert told.startswith(problem)
    assert bool(told) is bool(problem)


async def test_an_endpoint_ends_even_if_its_withdrawal_fails(manager, autojump_clock, monkeypatch, happened):
    await grown(manager, SHOP)

    def fail(self, pool, address):
        raise ValueError(address)

    monkeypatch.setattr(LocalEndpoints, "forget", fail)
    with trio.fail_after(60):
        await manager.shrink(with_app(replicas=1))
    assert len(stopped(happened)) == 1
    assert manager.controller.errors.counts == {"endpoint withdrawal": 1}
