import attrs
import pytest
import trio

from tests.certificates import Authority
from tests.controller.joined import ENDPOINT, come, row, serve_all, settle
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.model.load import CertificateExpiry, Echo, HostLoad, SubtreeLoad
from tierlb.model.tls import AdminTls
from tierlb.net.tls import admin_expiry
from tierlb.wire.frames import Ack, ParentAddress, Report


async def test_a_status_counts_as_the_history_does_whatever_was_published(running, autojump_clock):
    running.publisher.revision = 5
    edge, *_ = await serve_all(running)
    assert edge.assignment.wanted.revision > 1
    assert edge.assignment.wanted.accepted == 5
    assert revisions(running) == (5, {5})
    running.publisher.revision = 6
    assert revisions(running) == (6, {6}), "it means the same for each of them"


async def test_a_node_shows_the_revision_that_it_serves_until_it_has_taken_the_next(running, autojump_clock):
    running.publisher.revision = 5
    await serve_all(running)
    running.publisher.revision = 6
    running.endpoints.note("demo", EndpointStatus(Address("127.0.0.1", 20009), State.SERVING, 10))
    await settle()
    web = running.registry.records["web-1"]
    assert web.assignment.served != web.assignment.wanted.revision
    assert running.observer.status().tiers["web"].nodes[0].revision == 5
    running.receive(web, Ack(web.assignment.wanted.revision, web.addresses))
    assert running.observer.status().tiers["web"].nodes[0].revision == 6


def revisions(controller):
    status = controller.observer.status()
    return status.revision, {node.revision for tier in status.tiers.values() for node in tier.nodes}


async def test_a_cluster_that_starts_does_not_serve_before_it_is_said_to(running, autojump_clock):
    running.overview.starting = True
    await serve_all(running)
    assert (running.observer.status().serving, running.observer.status().starting) == (False, True)
    running.overview.starting = False
    assert (running.observer.status().serving, running.observer.status().starting) == (True, False)


async def test_internal_errors_of_the_controller_are_in_its_status(controller):
    assert controller.observer.status().internal_errors == 0
    with controller.errors.barrier("reaper"):
        raise ZeroDivisionError
    assert controller.observer.status().internal_errors == 1


async def test_the_rate_is_what_came_between_two_rows(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    for arrivals in (100, 150):
        running.receive(edge, Report(SubtreeLoad(), Echo(), (row("web-1", "web", arrivals),)))
        await trio.sleep(0.5)
    status = running.observer.status().tiers["web"].nodes[0]
    assert status.items_per_s == pytest.approx(100)
    assert status.report_age_s == pytest.approx(0.5)
    assert (status.load.items, status.subtree.arrivals, status.subtree.capacity) == (3, 150, 9.0)


async def test_endpoints_are_shown_as_the_nodes_see_them(running, autojump_clock):
    edge, _, _ = await serve_all(running)
    host = HostLoad(f"demo/{ENDPOINT}", 1, 2, 3, "ejected")
    running.receive(edge, Report(SubtreeLoad(), Echo(), (row("web-1", "web", 1, hosts=(host,)),)))
    (endpoint,) = running.observer.status().pools["demo"].endpoints
    assert (endpoint.seen_by, endpoint.observed) == ({"web-1": host}, "ejected")


async def test_a_pool_that_fills_itself_may_be_empty_in_a_tree_that_serves(with_agents, autojump_clock):
    assert not with_agents.observer.status().serving
    await serve_all(with_agents)
    status = with_agents.observer.status()
    assert (status.serving, status.pools["apps"].endpoints) == (True, ())


async def test_a_pool_found_by_name_need_not_be_watched_for_the_tree_to_serve(open_to_all, autojump_clock):
    assert not open_to_all.observer.status().serving
    await come(open_to_all, "edge-a", "edge", 8080)
    await come(open_to_all, "web-a", "web", 4001)
    status = open_to_all.observer.status()
    assert (status.serving, status.pools["demo"].endpoints) == (True, ())


async def test_endpoints_that_nodes_find_by_name_are_shown_as_they_see_them(open_to_all, autojump_clock):
    await come(open_to_all, "edge-a", "edge", 8080)
    await come(open_to_all, "web-a", "web", 4001)
    seen = HostLoad("demo/10.0.0.7:9000", 2, 30, 0, "available", 90.0, 1.0, 0.0)
    controller = open_to_all
    controller.receive(
        controller.registry.records["edge-a"], Report(SubtreeLoad(), Echo(), (row("web-a", "web", 30, 0.0, (seen,)),))
    )
    (endpoint,) = controller.observer.status().pools["demo"].endpoints
    assert (str(endpoint.address), endpoint.seen_by) == ("10.0.0.7:9000", {"web-a": seen})


async def test_a_node_is_of_the_build_that_it_says(running):
    (web, *_) = [record for record in await serve_all(running) if record.tier == "web"]
    assert running.observer.status().tiers["web"].nodes[0].build == ""
    web.hello = attrs.evolve(web.hello, build="compiled")
    assert running.observer.status().tiers["web"].nodes[0].build == "compiled"


async def test_a_top_tier_that_hangs_or_finds_nothing_ready_does_not_serve(running, autojump_clock):
    await serve_all(running)
    running.overview.starting = False
    edge = running.registry.records["edge-1"]
    for since_s, ready, phrase in (
        (0.0, 2, ""),
        (0.0, 0, ""),
        (2.5, 0, "edge: no node finds anything ready below"),
        (0.0, 1, ""),
    ):
        await trio.sleep(since_s)
        running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=ready), Echo()))
        status = running.observer.status()
        assert (status.serving, phrase in (*status.missing, "")) == (not phrase, True)
    await trio.sleep(6.0)
    status = running.observer.status()
    assert (status.serving, status.waiting[-1]) == (False, "edge: no node has reported for 5 s")
    running.registry.lost(edge, edge.link)
    assert not running.observer.status().serving


async def test_a_pool_that_is_down_for_all_nodes_of_a_top_tier_is_missing(running, autojump_clock):
    await serve_all(running)
    edge = running.registry.records["edge-1"]
    running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=1, down=("demo", "gone")), Echo()))
    status = running.observer.status()
    assert (status.serving, status.down) == (False, ("demo",))
    assert status.missing == ("pool demo: no endpoint is available",)
    running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=2), Echo()))
    web = running.registry.records["web-1"]
    web.assignment.parents = (ParentAddress("edge-1", "ws://127.0.0.1:7001"),)
    running.receive(web, Report(SubtreeLoad(leaves=1, down=("demo",)), Echo()))
    status = running.observer.status()
    assert (status.serving, status.missing) == (True, ()), "where the top tier finds a way there is one"
    running.receive(edge, Report(SubtreeLoad(leaves=2, ready_leaves=1, down=("demo",)), Echo()))
    assert running.observer.status().down == ("demo",)
    running.registry.lost(edge, edge.link)
    assert running.observer.status().down == (), "it may find one by now"


async def test_certificates_of_nodes_and_of_the_controller_are_in_the_status(running, autojump_clock, tmp_path):
    edge, _, _ = await serve_all(running)
    shown = CertificateExpiry("/shop.pem", ("shop.example",), 0.0, "clients")
    told = row("web-1", "web", 1)
    told = attrs.evolve(told, own=attrs.evolve(told.own, certificates=(shown,)))
    running.receive(edge, Report(SubtreeLoad(), Echo(), (told,)))
    files = Authority(tmp_path).issue("lb.internal", days=30, since=0)
    at_start = admin_expiry(AdminTls(files.certificate, files.key))
    running.overview.shown.append(lambda: at_start)
    first, second = running.observer.status().certificates
    assert (first.file, first.use, first.nodes) == ("/shop.pem", "clients", ("web-1",))
    assert (second.names, second.use, second.nodes) == (("lb.internal",), "admin API", ("controller",))
    assert second.days_left == pytest.approx(30, abs=0.1)
