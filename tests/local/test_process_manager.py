"""Which nodes are started and stopped as the topology changes; the processes are fakes, the controller is not."""

import socket
import sys

import attrs
import pytest
import trio

from tests.local.fake_processes import (
    APP,
    SHOP,
    WEB,
    Recorder,
    grown,
    started,
    stopped,
    tier,
    topology_of,
    with_app,
    with_replicas,
)
from tierlb.balance.stop_times import stop_s
from tierlb.controller.node_record import Link
from tierlb.controller.published_endpoints import PublishedEndpoints
from tierlb.local.local_endpoints import WITHDRAWN_S
from tierlb.local.ports import PortTaken
from tierlb.local.process_manager import NODE_RETIRE_S
from tierlb.model.address import Address
from tierlb.model.listener import TierListener
from tierlb.model.tls import Tls
from tierlb.model.topology import Kind, Resources
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.wire.credentials import Role
from tierlb.wire.frames import Ack, Hello


async def test_what_is_named_is_started_once(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    assert started(happened) == ["app", "app", "web-1", "web-2"]
    await grown(manager, SHOP)
    assert happened == []
    await grown(manager, with_replicas(3))
    assert started(happened) == ["web-3"]


async def test_a_unix_socket_whose_file_is_gone_prevents_no_change_and_is_logged(manager, tmp_path):
    path = tmp_path / "a.sock"
    modes = [attrs.evolve(WEB, listen=(TierListener(Address(str(path), 0), mode),)) for mode in (0o600, 0o660)]
    manager.launcher.log = log = Recorder()
    await grown(manager, topology_of(modes[0], pools=[APP]))
    assert log.events == []
    path.unlink()
    await grown(manager, topology_of(modes[1], pools=[APP]))
    assert log.events == [("unix_socket_lost", {"address": f"unix:{path}"})]


async def test_a_node_is_told_who_it_is_and_how_to_join(manager, happened, autojump_clock):
    secured = attrs.evolve(SHOP, tls=Tls("node.pem", "node.key", "ca.pem"))
    await grown(manager, secured)
    program = manager.nodes["web-2"].program
    assert program.argv == (
        *(sys.executable, "-P", "-m", "tierlb", "node"),
        *("--name", "web-2", "--tier", "web", "--join", "ws://127.0.0.1:7000"),
        *("--tls-certificate", "node.pem", "--tls-key", "node.key", "--tls-ca", "ca.pem"),
    )
    assert TOKEN_VARIABLE not in program.env
    admission = manager.controller.admission
    credential, reception = program.lending.introduce().decode().split("\n")
    principal = admission.admit(credential)
    assert (principal.role, principal.group, principal.name) == (Role.NODE, "web", "web-2")
    assert bytes.fromhex(reception) == admission.reception("web", "web-2")
    assert credential not in str(program.argv)
    assert (program.lending.sockets, program.lending.tier) == (manager.sockets, "web")


async def test_a_node_has_a_directory_of_its_own_where_there_is_one(manager, tmp_path, autojump_clock):
    manager.state = tmp_path / "nodes"
    await grown(manager, SHOP)
    assert manager.nodes["web-2"].program.argv[-2:] == ("--state", str(tmp_path / "nodes" / "web-2"))


async def test_what_is_said_of_containers_touches_no_process(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    there, few = len(happened), Resources(cpus=0.1)
    run = attrs.evolve(APP.run, image="app:2", resources=few)
    changed = topology_of(attrs.evolve(WEB, resources=few), pools=[attrs.evolve(APP, run=run)])
    assert manager.grow(changed) == ()
    await manager.shrink(changed)
    assert len(happened) == there


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
        await trio.sleep(NODE_RETIRE_S / 4)
        assert manager.controller.node_admin.retiring == {"web-2"}
        assert stopped(happened) == []
        acknowledge(manager, "web-2")
    stops = [event for event in happened if event[0] == "stop"]
    assert stops == [("stop", "web-2", pytest.approx(began + NODE_RETIRE_S / 4, abs=0.01))]
    assert manager.controller.node_admin.retiring == frozenset()
    await grown(manager, SHOP)
    assert happened[-1] == ("start", "web-2"), "it is not there any more"


async def test_a_node_that_does_not_answer_is_asked_to_end_all_the_same(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    await serve(manager, "web-2", 102)
    began = trio.current_time()
    await manager.stop_nodes(["web-2"])
    (stop,) = [event for event in happened if event[0] == "stop"]
    assert stop == ("stop", "web-2", pytest.approx(began + NODE_RETIRE_S, abs=0.01))


async def test_the_drain_time_of_a_process_is_the_latest_that_its_tier_had(manager, happened, autojump_clock):
    """Also of a tier that the topology names no more while its processes end."""
    edge = tier("edge", Kind.L4, "web", drain_s=1.0)
    await grown(manager, topology_of(WEB, edge, pools=[APP]))
    await grown(manager, topology_of(WEB, attrs.evolve(edge, drain_s=50.0), pools=[APP]))
    await grown(manager, topology_of(WEB, pools=[APP]))
    child = manager.nodes["edge-1"]
    await manager.stop_nodes(["edge-1"])
    assert child.stop_s == stop_s(50.0)


async def test_who_was_asked_to_end_does_so_even_if_nobody_waits_and_nobody_stays_retired(
    manager, happened, autojump_clock
):
    await grown(manager, SHOP)
    await serve(manager, "web-2", 102)
    with trio.move_on_after(NODE_RETIRE_S / 2):
        await manager.stop_nodes(["web-2"])
    assert (stopped(happened), manager.controller.node_admin.retiring, manager.surplus(with_replicas(1))) == (
        [],
        set(),
        ("web-2",),
    )
    with trio.move_on_after(WITHDRAWN_S / 2):
        await manager.shrink(with_app(replicas=1))
    assert len(manager.controller.endpoints.of("app")) == 1
    await trio.sleep(WITHDRAWN_S)
    assert stopped(happened) == ["app"]


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
    old = manager.nodes["web-1"]
    await serve(manager, "web-1", old.pid)
    happened.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.replace, SHOP, "web-1")
        await trio.testing.wait_all_tasks_blocked()
        new = manager.nodes["web-1"]
        await trio.sleep(60)
        assert started(happened) == ["web-1"]
        assert stopped(happened) == []
        await serve(manager, "web-1", new.pid)
    assert new is not old
    await trio.testing.wait_all_tasks_blocked()
    assert old.stopping.is_set()
    assert not new.stopping.is_set()
    assert manager.nodes["web-1"] is new
    assert manager.controller.readiness.is_served_by("web-1", new.pid), (
        "the end of the old one is not that of the new one"
    )
    await manager.wait_replaced()
    assert old.ended.is_set()


async def test_the_old_process_drains_while_the_next_one_is_replaced(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    old = manager.nodes["web-1"]
    old.drain_s = 1000.0
    await serve(manager, "web-1", old.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.replace, SHOP, "web-1")
        await trio.testing.wait_all_tasks_blocked()
        await serve(manager, "web-1", manager.nodes["web-1"].pid)
    await trio.testing.wait_all_tasks_blocked()
    assert stopped(happened) == ["web-1"]
    began = trio.current_time()
    await manager.wait_replaced()
    assert trio.current_time() - began > 900


async def test_where_the_new_process_does_not_serve_in_time_the_old_one_stays(manager, happened, autojump_clock):
    await grown(manager, SHOP)
    old = manager.nodes["web-1"]
    await serve(manager, "web-1", old.pid)
    with trio.move_on_after(20) as scope:
        await manager.replace(SHOP, "web-1")
    assert scope.cancelled_caught
    assert manager.nodes["web-1"] is old
    assert not old.stopping.is_set()
    assert stopped(happened) == ["web-1"], "the new one"
    assert manager.controller.readiness.is_served_by("web-1", old.pid)


async def test_public_addresses_are_kept_for_as_long_as_a_tier_has_them(manager, autojump_clock):
    one, other = (Address("127.0.0.1", manager.endpoints.ports.take()) for _ in range(2))
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
    address = Address("127.0.0.1", manager.endpoints.ports.take())
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


async def test_a_credential_is_good_for_as_long_as_the_process_that_it_was_made_for(manager, autojump_clock):
    await grown(manager, SHOP)
    admission, child = manager.controller.admission, manager.nodes["web-1"]
    admission.only_started = True
    first, second = (child.program.lending.introduce().decode().partition("\n")[0] for _ in range(2))
    assert (admission.admit(first), admission.admit(second).name) == (None, "web-1")
    child.on_exit(child.pid)
    assert admission.admit(second) is None


async def test_an_endpoint_ends_even_if_its_withdrawal_fails(manager, autojump_clock, monkeypatch, happened):
    await grown(manager, SHOP)

    def fail(self, pool, address):
        raise ValueError(address)

    monkeypatch.setattr(PublishedEndpoints, "forget", fail)
    with trio.fail_after(60):
        await manager.shrink(with_app(replicas=1))
    assert len(stopped(happened)) == 1
    assert manager.controller.errors.counts == {"endpoint withdrawal": 1}
