"""Routes at l4 tiers: what each may look at where, and which are never reached."""

import pytest

from tierlb.topology.connection_rules import connection_faults
from tierlb.topology.problems import path_text
from tierlb.topology.reading import read_typed
from tierlb.topology.shapes import TierShape
from tierlb.topology.source import read_source


def faults_of(tier: str) -> list[str]:
    reading = read_typed(TierShape, read_source(tier).data)
    assert reading.value is not None
    return [f"{path_text(fault.path)}: {fault.message}" for fault in connection_faults((), reading.value, reading)]


@pytest.mark.parametrize(
    "routes",
    [
        "[{to: a}]",
        "[{match: {sni: a.b}, to: a}, {match: {sni: '*.b'}, to: a}, {to: a}]",
        "[{match: {sni: '*.a.b'}, to: a}, {match: {sni: a.b}, to: a}, {match: {sni: [x.a.b, c]}, to: a}]",
        "[{match: {sni: a, port: 1}, to: a}, {match: {sni: a}, to: b}]",
        "[{match: {alpn: h2}, to: a}, {match: {alpn: [h2, h3]}, to: a}]",
        "[{match: {source: 10.1.0.0/16}, to: a}, {match: {source: [10.0.0.0/8, '::/0']}, to: b}]",
        "[{match: {port: [1, 2]}, to: a}, {match: {port: [2, 3]}, to: b}]",
    ],
)
def test_routes_that_can_be_reached_have_no_fault(routes: str) -> None:
    assert faults_of(f"{{kind: l4, routes: {routes}}}") == []


@pytest.mark.parametrize(
    ("routes", "fault"),
    [
        ("[{to: a}, {match: {sni: a}, to: b}]", "routes[1]: is never reached: routes[0] before it takes every"),
        ("[{match: {}, to: a}, {to: b}]", "routes[1]: is never reached: routes[0] before it takes every"),
        (
            "[{match: {sni: a}, to: a}, {match: {sni: A}, to: b}]",
            "routes[1]: is never reached: routes[0] before it takes all",
        ),
        ("[{match: {sni: '*.b'}, to: a}, {match: {sni: [x.b, '*.a.b']}, to: b}]", "routes[1]: is never reached"),
        ("[{match: {sni: a}, to: a}, {match: {sni: a, port: 1}, to: b}]", "routes[1]: is never reached"),
        ("[{match: {alpn: [h2, h3]}, to: a}, {match: {alpn: h3}, to: b}]", "routes[1]: is never reached"),
        ("[{match: {source: 10.0.0.0/8}, to: a}, {match: {source: 10.1.1.1}, to: b}]", "routes[1]: is never reached"),
        ("[{match: {port: [1, 2]}, to: a}, {match: {port: 2}, to: b}]", "routes[1]: is never reached"),
    ],
)
def test_a_route_that_others_before_it_cover_is_a_fault(routes: str, fault: str) -> None:
    (found,) = faults_of(f"{{kind: l4, routes: {routes}}}")
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("tier", "fault"),
    [
        ("protocol: udp, routes: [{match: {sni: a}, to: a}]", "routes[0].match.sni: is read from the start of TLS"),
        ("protocol: udp, routes: [{match: {alpn: a}, to: a}]", "routes[0].match.alpn: is read from the start of TLS"),
        ("forward: nftables, routes: [{match: {sni: a}, to: a}]", "forward: nftables sends all connections one way"),
        ("forward: nftables, routes: [{match: {source: ::1}, to: a}]", "forward: nftables sends all connections one"),
        (
            "timeouts: {head: 1s}, to: a",
            "timeouts.head: has no effect: no route of this l4 tier waits for a ClientHello",
        ),
        ("timeouts: {head: 1s}, routes: [{match: {port: 1}, to: a}]", "timeouts.head: has no effect"),
    ],
)
def test_conditions_that_cannot_be_known_are_a_fault_where_they_stand(tier: str, fault: str) -> None:
    (found,) = faults_of(f"{{kind: l4, {tier}}}")
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "tier",
    [
        "tls: {certificates: [{certificate: a, key: b}]}, timeouts: {head: 1s}, to: a",
        "protocol: udp, routes: [{match: {source: 10.0.0.0/8, port: 53}, to: a}, {to: b}]",
        "forward: nftables, routes: [{to: a}]",
        "timeouts: {head: 1s}, routes: [{match: {alpn: h2}, to: a}]",
        "timeouts: {head: 1s}, routes: [{match: {sni: '!'}, to: a}]",
    ],
)
def test_where_they_can_there_is_none(tier: str) -> None:
    assert faults_of(f"{{kind: l4, {tier}}}") == []


def test_l7_tiers_have_rules_of_their_own() -> None:
    assert faults_of("{kind: l7, timeouts: {head: 1s}, routes: [{to: a}, {to: b}]}") == []
