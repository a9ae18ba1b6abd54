"""Which rule a request falls under, as a table."""

import pytest

from tierlb.dataplane.l7.routes import QUERY_FIELDS, compile_match, compile_rules, find_rule
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond
from tierlb.wire.http_head import parse_request_head


def matches(match: Match, target: str, *fields: str, method: str = "GET", host: str = "a.example") -> bool:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    head = parse_request_head("\r\n".join(lines).encode("latin-1"))
    return all(check(head) for check in compile_match(match))


PATHS = [
    (Match(), "/", True),
    (Match(), "/anything?at=all", True),
    (Match(path="/x"), "/x", True),
    (Match(path="/x"), "/x?y", True),
    (Match(path="/x"), "/x/", False),
    (Match(path="/x"), "/X", False),
    (Match(path_prefix="/api"), "/api", True),
    (Match(path_prefix="/api"), "/api?x", True),
    (Match(path_prefix="/api"), "/api/x", True),
    (Match(path_prefix="/api/"), "/api/x", True),
    (Match(path_prefix="/api/"), "/api", True),
    (Match(path_prefix="/api"), "/apix", False),
    (Match(path_prefix="/api"), "/", False),
    (Match(path_prefix="/"), "/anything/../x", True),
    (Match(path_prefix="/api"), "/api/../admin", False),
    (Match(path_prefix="/api"), "/api/%2e%2E/admin", False),
    (Match(path_prefix="/api"), "/api/.%2e/admin", False),
    (Match(path_prefix="/api"), "/api/./x", False),
    (Match(path_prefix="/api"), "/api/..", False),
    (Match(path_prefix="/api"), "/api/..x/y", True),
    (Match(path_prefix="/api"), "/api/x?/../y", True),
]


@pytest.mark.parametrize(("match", "target", "expected"), PATHS)
def test_paths(match: Match, target: str, expected: bool) -> None:
    assert matches(match, target) is expected


HOSTS = [
    (("shop.example",), "shop.example", True),
    (("shop.example",), "SHOP.Example:8080", True),
    (("shop.example",), "www.shop.example", False),
    (("*.example",), "shop.example", True),
    (("*.example",), "a.b.example", True),
    (("*.example",), "example", False),
    (("*.example",), ".example", False),
    (("*.example",), "notexample", False),
    (("one", "two"), "two", True),
    (("[::1]",), "[::1]:80", True),
    (("[::1]",), "[::1]", True),
]


@pytest.mark.parametrize(("hosts", "host", "expected"), HOSTS)
def test_hosts(hosts: tuple[str, ...], host: str, expected: bool) -> None:
    assert matches(Match(hosts=hosts), "/", host=host) is expected


def test_methods() -> None:
    match = Match(methods=("GET", "PUT"))
    assert matches(match, "/", method="PUT")
    assert not matches(match, "/", method="POST")
    assert not matches(match, "/", method="get")


FIELDS = [
    ((("x-env", "canary"),), ["X-Env: canary"], True),
    ((("x-env", "canary"),), ["x-env: Canary"], False),
    ((("x-env", "canary"),), ["X-Env: main", "X-Env: canary"], True),
    ((("x-env", None),), ["X-ENV: whatever"], True),
    ((("x-env", None),), [], False),
    ((("x-env", "canary"), ("x-other", None)), ["X-Env: canary"], False),
]


@pytest.mark.parametrize(("conditions", "fields", "expected"), FIELDS)
def test_headers(conditions: tuple[tuple[str, str | None], ...], fields: list[str], expected: bool) -> None:
    assert matches(Match(headers=conditions), "/", *fields) is expected


QUERIES = [
    ((("v", "2"),), "/?v=2", True),
    ((("v", "2"),), "/?u=1&v=2", True),
    ((("v", "2"),), "/?v=1&v=2", True),
    ((("v", "2"),), "/?v=22", False),
    ((("v", "2"),), "/", False),
    ((("v", None),), "/?v", True),
    ((("v", None),), "/?v=", True),
    ((("v", "a b"),), "/?v=a%20b", True),
    ((("v", "a b"),), "/?v=a+b", True),
    ((("v", "1"), ("w", "2")), "/?v=1", False),
    ((("v", "1"),), "/?v=1" + "&x" * QUERY_FIELDS, False),
]


@pytest.mark.parametrize(("conditions", "target", "expected"), QUERIES)
def test_queries(conditions: tuple[tuple[str, str | None], ...], target: str, expected: bool) -> None:
    assert matches(Match(query=conditions), target) is expected


def test_every_condition_must_hold() -> None:
    match = Match(path_prefix="/api", methods=("GET",), headers=(("x-env", None),))
    assert matches(match, "/api/x", "X-Env: y")
    assert not matches(match, "/api/x")
    assert not matches(match, "/x", "X-Env: y")
    assert not matches(match, "/api/x", "X-Env: y", method="PUT")


def test_the_first_rule_that_matches_decides() -> None:
    rules = [Rule(Match(path=path), Respond()) for path in ("/a", "/b", "/b")] + [Rule(Match(), Respond())]
    matchers = compile_rules(rules)
    found = [
        find_rule(matchers, parse_request_head(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target))
        for target in (b"/b", b"/a", b"/c")
    ]
    assert found == [1, 0, 3]
    assert find_rule(matchers[:3], parse_request_head(b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n")) is None
