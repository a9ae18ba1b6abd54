"""Which endpoints are started, published and stopped as the topology changes."""

import socket
import sys

import attrs
import pytest
import trio

from tests.local.fake_processes import APP, SHOP, WEB, grown, started, tier, topology_of, with_app
from tierlb.balance.stop_times import stop_s
from tierlb.controller.status import State
from tierlb.local.local_endpoints import CHECK_CONNECTIONS_EVERY_S, WITHDRAWN_S, unknown_command
from tierlb.model.address import Address, Transport
from tierlb.model.topology import Kind, Pool, Run
from tierlb.node.process import TOKEN_VARIABLE


async def test_what_was_started_is_told(manager, autojump_clock):
    assert [name.partition("/")[0] for name in manager.grow(SHOP)] == ["web-1", "web-2", "app", "app"]
    assert manager.grow(SHOP) == ()
    (endpoint,) = manager.grow(with_app(replicas=3))
    assert endpoint.startswith("app/127.0.0.1:")
    manager.endpoints.pools["app"][-1].process.crashes = 4
    assert manager.crashes([endpoint]) == 4


async def test_an_endpoint_that_is_to_go_counts_only_while_it_serves(manager, autojump_clock):
    """A broken node can be replaced: no change waits for it."""
    await grown(manager, with_app(replicas=2))
    serves, broken = manager.endpoints.pools["app"]
    serves.status = attrs.evolve(serves.status, state=State.SERVING, pid=7)
    manager.endpoints.publish(serves)
    manager.grow(with_app("app2 --port {port}", replicas=1))

    def known():
        return {each.address: each.state for each in manager.controller.endpoints.of("app")}

    (new,) = manager.endpoints.pools["app"][2:]
    assert set(known()) == {serves.address, new.address}
    broken.process.on_exit(9)
    assert broken.address not in known()
    manager.grow(with_app(replicas=2))
    assert known()[broken.address] is State.GONE
    assert new.address not in known()
    await manager.shrink(with_app(replicas=2))
    assert set(known()) == {serves.address, broken.address}


async def test_endpoints_get_ports_of_their_own_and_no_token(manager, monkeypatch, autojump_clock):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    await grown(manager, SHOP)
    endpoints = manager.endpoints.pools["app"]
    assert [each.process.program.argv for each in endpoints] == [
        ("app", "--port", str(each.address.port)) for each in endpoints
    ]
    assert len({each.address for each in endpoints}) == 2
    assert all(TOKEN_VARIABLE not in each.process.program.env for each in endpoints)
    assert {each.state for each in manager.controller.observer.status().pools["app"].endpoints} == {State.GONE}


async def test_a_command_may_ask_where_it_is_to_listen(manager, autojump_clock):
    manager.grow(with_app("app --bind={host}:{port} {host}", replicas=1))
    (endpoint,) = manager.endpoints.pools["app"]
    assert endpoint.process.program.argv == ("app", f"--bind={endpoint.address}", "127.0.0.1")


async def test_an_endpoint_serves_when_it_accepts_and_is_gone_with_its_process(manager):
    await grown(manager, with_app(replicas=1))
    (endpoint,) = manager.endpoints.pools["app"]

    def state():
        (status,) = manager.controller.observer.status().pools["app"].endpoints
        return status.state, status.pid

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.process.watch, 42)
            await trio.testing.wait_all_tasks_blocked()
            assert state() == (State.STARTING, 42)
            with socket.create_server(endpoint.address.sockaddr):
                while state()[0] is not State.SERVING:
                    await manager.controller.signals.wait_progress()
    assert state() == (State.SERVING, 42)
    endpoint.process.on_exit(42)
    assert state() == (State.GONE, None)


async def test_an_endpoint_below_a_tier_over_udp_serves_when_it_takes_datagrams(manager):
    edge = tier("edge", Kind.L4, "app", protocol=Transport.UDP)
    await grown(manager, topology_of(edge, pools=[attrs.evolve(APP, run=Run("app --port {port}", replicas=1))]))
    (endpoint,) = manager.endpoints.pools["app"]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.process.watch, 42)
            await trio.testing.wait_all_tasks_blocked()
            with socket.create_server(endpoint.address.sockaddr), socket.socket(type=socket.SOCK_DGRAM) as sock:
                assert endpoint.status.state is State.STARTING
                sock.bind(endpoint.address.sockaddr)
                while endpoint.status.state is not State.SERVING:
                    await manager.controller.signals.wait_progress()


async def test_a_process_is_killed_when_the_drain_time_of_its_tier_is_well_over(manager, happened, autojump_clock):
    slow, quick = attrs.evolve(WEB, drain_s=90.0), tier("edge", Kind.L4, "web", drain_s=1.0)
    await grown(manager, topology_of(slow, quick, pools=[APP]))
    children = {name: manager.nodes[name] for name in ("web-1", "edge-1")}
    endpoints = list(manager.endpoints.pools["app"])
    await manager.stop_nodes(["web-1", "edge-1"])
    await manager.shrink(topology_of(slow, pools=[attrs.evolve(APP, run=Run("app --port {port}", replicas=1))]))
    assert children["web-1"].stop_s == stop_s(90.0)
    assert children["edge-1"].stop_s == stop_s(1.0)
    assert {0.0, stop_s(90.0)} == {each.process.stop_s for each in endpoints}


async def test_an_endpoint_ends_when_nobody_is_connected_any_more(manager, happened, autojump_clock):
    manager.endpoints.is_connected = lambda port: trio.current_time() < began + 20.0
    await grown(manager, SHOP)
    began = trio.current_time()
    await manager.shrink(with_app(replicas=1))
    (stop,) = [event for event in happened if event[0] == "stop"]
    assert stop[2] == pytest.approx(began + 20.0, abs=CHECK_CONNECTIONS_EVERY_S)


async def test_an_endpoint_that_stays_connected_ends_at_the_deadline_of_its_senders(manager, happened, autojump_clock):
    manager.endpoints.is_connected = lambda port: True
    await grown(manager, topology_of(attrs.evolve(WEB, drain_s=90.0), pools=[APP]))
    began = trio.current_time()
    await manager.shrink(with_app(replicas=1))
    (stop,) = [event for event in happened if event[0] == "stop"]
    assert stop[2] == pytest.approx(began + WITHDRAWN_S + 90.0, abs=CHECK_CONNECTIONS_EVERY_S)


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
        await trio.sleep(WITHDRAWN_S / 2)
        there = len(manager.endpoints.pools["app"])
        assert len(manager.controller.endpoints.of("app")) == there
        assert happened == []
    assert [event[0] for event in happened] == ["stop"] * count
    assert all(event[2] == pytest.approx(began + WITHDRAWN_S, abs=0.01) for event in happened)
    assert len(manager.controller.endpoints.of("app")) == there, "its end makes it no endpoint again"


async def test_endpoints_of_a_new_command_start_before_the_old_ones_stop(manager, happened, autojump_clock):
    await grown(manager, with_app())
    old = list(manager.endpoints.pools["app"])
    happened.clear()
    changed = with_app("app2 --port {port}")
    await grown(manager, changed)
    assert started(happened) == ["app", "app"]
    assert len(manager.endpoints.pools["app"]) == 4
    await manager.shrink(changed)
    assert {event[1] for event in happened} == {each.process.name for each in old}
    assert {each.command for each in manager.endpoints.pools["app"]} == {"app2 --port {port}"}
    await grown(manager, with_app("app2 --port {port}", replicas=3))
    assert len(manager.endpoints.pools["app"]) == 3


async def test_what_goes_wrong_is_told(manager, autojump_clock):
    await grown(manager, SHOP)
    assert (manager.problems(), manager.crashes(["web-1", "web-2", "no-such"])) == ((), 0)
    manager.nodes["web-1"].crashes, manager.nodes["web-2"].crashes = 1, 3
    manager.nodes["web-2"].problem = "web-2 ended with status 1"
    manager.endpoints.pools["app"][0].process.problem = "app cannot be started"
    assert manager.problems() == ("web-2 ended with status 1", "app cannot be started")
    assert manager.problems(["web-1", "web-2"]) == ("web-2 ended with status 1",)
    assert (manager.crashes(["web-1", "web-2"]), manager.crashes(["web-1"]), manager.crashes([])) == (3, 1, 0)


async def test_each_node_is_lent_the_sockets_of_its_tier(manager, autojump_clock):
    await grown(manager, topology_of(tier("edge", Kind.L4, "web"), WEB, pools=[APP]))
    assert {name: child.program.lending.tier for name, child in manager.nodes.items()} == {
        "edge-1": "edge",
        "web-1": "web",
        "web-2": "web",
    }
    assert all(child.program.lending.sockets is manager.sockets for child in manager.nodes.values())
    assert all(each.process.program.lending is None for each in manager.endpoints.pools["app"])


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
