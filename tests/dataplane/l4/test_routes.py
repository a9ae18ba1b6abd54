"""Which route a connection takes, as a table; and that nothing is awaited that cannot matter."""

import random
from collections.abc import Sequence

import pytest

from tierlb.dataplane.l4.routes import NEEDS_HELLO, NO_ROUTE, ConnectionRoutes
from tierlb.dataplane.upstream.split import Split
from tierlb.model.topology import Match
from tierlb.wire.client_hello import NO_HELLO, ClientHello, Verdict

SPLIT = Split([], random.Random(1))
A, B, ANY = Match(sni=("a.example.com",)), Match(sni=("*.b.example.com",)), Match()
H2, HERE, TLS_PORT = Match(alpn=("h2",)), Match(sources=("10.0.0.0/8", "::1/128")), Match(ports=(443, 8443))


def routes(*matches: Match) -> ConnectionRoutes:
    return ConnectionRoutes(matches, [SPLIT] * len(matches))


def hello(name: str = "", *protocols: str) -> ClientHello:
    return ClientHello(Verdict.WHOLE, name, protocols)


FOUND = [
    ((A, B, ANY), "192.0.2.7", 80, hello("a.example.com"), 0),
    ((A, B, ANY), "192.0.2.7", 80, hello("x.a.example.com"), 2),
    ((A, B, ANY), "192.0.2.7", 80, hello("x.y.b.example.com"), 1),
    ((A, B, ANY), "192.0.2.7", 80, hello("b.example.com"), 2),
    ((A, B, ANY), "192.0.2.7", 80, hello(".b.example.com"), 2),
    ((A, B, ANY), "192.0.2.7", 80, hello("xb.example.com"), 2),
    ((A, B, ANY), "192.0.2.7", 80, hello(), 2),
    ((A, B, ANY), "192.0.2.7", 80, NO_HELLO, 2),
    ((A, B, ANY), "192.0.2.7", 80, None, NEEDS_HELLO),
    ((A, B), "192.0.2.7", 80, hello("c"), NO_ROUTE),
    ((H2, ANY), "192.0.2.7", 80, hello("c", "http/1.1", "h2"), 0),
    ((H2, ANY), "192.0.2.7", 80, hello("c", "h3"), 1),
    ((H2, ANY), "192.0.2.7", 80, hello("c"), 1),
    ((HERE, A, ANY), "10.1.2.3", 80, None, 0),
    ((HERE, A, ANY), "::1", 80, None, 0),
    ((HERE, A, ANY), "11.1.2.3", 80, None, NEEDS_HELLO),
    ((TLS_PORT, ANY), "192.0.2.7", 8443, None, 0),
    ((TLS_PORT, ANY), "192.0.2.7", 80, None, 1),
    ((TLS_PORT,), "192.0.2.7", 80, None, NO_ROUTE),
    ((Match(sni=("a",), ports=(443,)), ANY), "192.0.2.7", 80, None, 1),
    ((Match(sni=("a",), ports=(443,)), ANY), "192.0.2.7", 443, None, NEEDS_HELLO),
    ((Match(sni=("a",), alpn=("h2",)), ANY), "192.0.2.7", 443, hello("a"), 1),
    ((Match(sni=("a",), alpn=("h2",)), ANY), "192.0.2.7", 443, hello("a", "h2"), 0),
]


@pytest.mark.parametrize(("matches", "source", "port", "known", "expected"), FOUND)
def test_the_first_route_that_matches_is_found(
    matches: Sequence[Match], source: str, port: int, known: ClientHello | None, expected: int
) -> None:
    assert routes(*matches).find(source, port, known) == expected


def test_one_route_for_all_needs_no_look() -> None:
    assert routes(ANY).only is SPLIT
    assert routes(A, ANY).only is None


def test_only_conditions_on_ports_ask_for_the_port() -> None:
    assert routes(A, TLS_PORT, ANY).reads_ports
    assert not routes(A, HERE, ANY).reads_ports


def test_a_route_is_told_in_words_where_there_are_several() -> None:
    assert routes(ANY).told(0) == ""
    assert [routes(A, HERE, ANY).told(position) for position in range(3)] == [
        "sni a.example.com",
        "source 10.0.0.0/8|::1/128",
        "otherwise",
    ]
