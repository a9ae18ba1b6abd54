"""What the protocol of a pool cannot be combined with."""

import pytest

from tests.topology.test_graph import problems_of


@pytest.mark.parametrize(
    ("kind", "protocol", "health", "said"),
    [
        ("l7", "h2c", "tcp", None),
        ("l7", "http/1.1", "{path: /}", None),
        ("l4", "h2c", "tcp", "has no effect under an l4 tier"),
        ("l7", "h2c", "{path: /}", None),
        ("l7", "h3", "tcp", "h2c"),
        ("l7", "h2c", "{grpc: true}", None),
        ("l7", "h2c", "{grpc: shop.v1.Cart}", None),
        ("l7", "h2c", "{grpc: true, path: /}", "cannot stand beside"),
        ("l7", "h2c", "{grpc: false}", "is not a service"),
        ("l7", "http/1.1", "{grpc: true}", "gRPC is spoken over HTTP/2"),
        ("l7", "h2", "tcp", "h2 is HTTP/2 over TLS: write tls as well"),
        ("l7", "auto", "tcp", "auto is chosen in the TLS handshake (ALPN): write tls as well"),
    ],
)
def test_combinations(kind: str, protocol: str, health: str, said: str | None) -> None:
    problems = problems_of(
        f'edge: {{kind: {kind}, listen: "127.0.0.1:8080", to: app}}',
        f"app: {{endpoints: [127.0.0.1:9001], protocol: {protocol}, health: {health}}}",
    )
    assert (problems == []) == (said is None), problems
    if said is not None:
        assert said in str(problems[0])


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_with_tls_endpoints_may_speak_http2(protocol: str) -> None:
    found = problems_of(
        'web: {kind: l7, listen: "127.0.0.1:8080", to: app}',
        f"app: {{endpoints: [127.0.0.1:9001], protocol: {protocol}, tls: {{verify: false}}, health: {{path: /}}}}",
    )
    assert found == []


def test_h2c_is_without_tls() -> None:
    (problem,) = problems_of(
        'web: {kind: l7, listen: "127.0.0.1:8080", to: app}',
        "app: {endpoints: [127.0.0.1:9001], protocol: h2c, tls: {verify: false}}",
    )
    assert "h2c is HTTP/2 without TLS" in problem
