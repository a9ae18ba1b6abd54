"""Which rule a request falls under, as a table."""

import pytest

from tierlb.dataplane.l7.routes import QUERY_FIELDS, Routes
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Paths, Respond
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import parse_request_head


def matches(match: Match, target: str, *fields: str, method: str = "GET", host: str = "a.example") -> bool:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    head = parse_request_head("\r\n".join(lines).encode("latin-1"))
    return Routes([Rule(match, Respond())], Paths.NORMALISED).find(head)[0] == 0


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
    (Match(path_prefix="/api"), "/x/../api/y", True),
    (Match(path_prefix="/api"), "/api/../admin", False),
    (Match(path_prefix="/api"), "/api/%2e%2E/admin", False),
    (Match(path_prefix="/api"), "/api/.%2e/admin", False),
    (Match(path_prefix="/api"), "/api/./x", True),
    (Match(path_prefix="/api"), "/api/..", False),
    (Match(path_prefix="/api"), "//%61pi;a=b;c/x", True),
    (Match(path="/api"), "/x/..//api;a=b", True),
    (Match(path="/%61,b"), "/a%2cb", True),
    (Match(path="/caf%c3%a9"), "/caf%C3%A9", True),
    (Match(path_prefix="/caf%c3%a9/"), "/caf%C3%A9/x", True),
    (Match(path="/*"), "/*", True),
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
    (("shop.example",), "shop.example.", True),
    (("shop.example",), "shop.example.:80", True),
    (("shop.example",), "shop.example:", True),
    (("shop.example",), "shop%2eEx%61mple", True),
    (("*.example",), "shop.example.", True),
    (("*.example",), ".example.", False),
    (("[::1]",), "[0:0::1]:80", True),
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
    ((("v", "1"),), "/?v=1" + "&x" * (QUERY_FIELDS - 1), True),
]


@pytest.mark.parametrize(("conditions", "target", "expected"), QUERIES)
def test_queries(conditions: tuple[tuple[str, str | None], ...], target: str, expected: bool) -> None:
    assert matches(Match(query=conditions), target) is expected


def test_a_rule_is_not_passed_by_with_a_long_query() -> None:
    with pytest.raises(BadHead, match="fields"):
        matches(Match(query=(("v", None),)), "/?v" + "&x" * QUERY_FIELDS)
    assert matches(Match(path="/"), "/?v" + "&x" * QUERY_FIELDS)


def test_every_condition_must_hold() -> None:
    match = Match(path_prefix="/api", methods=("GET",), headers=(("x-env", None),))
    assert matches(match, "/api/x", "X-Env: y")
    assert not matches(match, "/api/x")
    assert not matches(match, "/x", "X-Env: y")
    assert not matches(match, "/api/x", "X-Env: y", method="PUT")


def test_the_first_rule_that_matches_decides() -> None:
    rules = [Rule(Match(path=path), Respond()) for path in ("/a", "/b", "/b")] + [Rule(Match(), Respond())]
    assert [found(rules, target)[0] for target in (b"/b", b"/a", b"/c")] == [1, 0, 3]
    assert found(rules[:3], b"/c")[0] is None


NO, YES = Respond(403), Respond(200)
DENY = [Rule(Match(path_prefix="/admin"), NO), Rule(Match(), YES)]
ALLOW = [Rule(Match(path_prefix="/public"), YES), Rule(Match(), NO)]
EXACT = [Rule(Match(path="/admin"), NO), Rule(Match(), YES)]


def found(rules: list[Rule], target: bytes, paths: Paths = Paths.NORMALISED) -> tuple[int | None, bytes]:
    """The rule, and the target that is forwarded."""
    head = parse_request_head(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    position, head = Routes(rules, paths).find(head)
    return position, head.target


FORWARDED = [
    (b"//x/%61/../b/./%2f?q=%61/../c", b"/x/b/%2F?q=%61/../c"),
    (b"/a;b=c/%c3%a9", b"/a;b=c/%C3%A9"),
    (b"/plain?x", b"/plain?x"),
    (b"/100%/../x", b"/100%/../x"),
]


@pytest.mark.parametrize(("target", "forwarded"), FORWARDED)
def test_the_normal_form_is_forwarded(target: bytes, forwarded: bytes) -> None:
    assert found([Rule(Match(), YES)], target) == (0, forwarded)
    assert found([Rule(Match(), YES)], target, Paths.AS_SENT) == (0, target)


@pytest.mark.parametrize("target", [b"/admin%2Fx", b"/x/..;/admin", b"/a/%252e%252e/admin", b"/100%"])
@pytest.mark.parametrize("rules", [DENY, [*ALLOW[:1], *DENY], EXACT])
def test_a_path_that_could_pass_a_rule_by_is_refused(target: bytes, rules: list[Rule]) -> None:
    rules = [*rules[:-1], Rule(Match(path="/x"), NO), Rule(Match(path="/admin/x"), NO), rules[-1]]
    with pytest.raises(BadHead) as caught:
        found(rules, target)
    assert caught.value.status == 400
    assert found(rules, target, Paths.AS_SENT)[1] == target


@pytest.mark.parametrize("target", [b"/public/..%2fadmin", b"/public/..;/admin", b"/public%2Fx", b"/public/..\\x"])
def test_an_allowing_rule_is_not_lent_to_another_path(target: bytes) -> None:
    with pytest.raises(BadHead, match="two ways"):
        found(ALLOW, target)


@pytest.mark.parametrize("target", [b"/api/group%2Fproject", b"/x;y/%25", b"/x%00", b"/a%5Cb", b"/b/..;/c"])
def test_a_path_with_several_readings_passes_where_they_lead_to_the_same_action(target: bytes) -> None:
    assert found([*DENY[:1], Rule(Match(path_prefix="/api"), YES), Rule(Match(), YES)], target)[1] == target
    with_other_conditions = [Rule(Match(hosts=("b",), methods=("PUT",)), NO), Rule(Match(), YES)]
    assert found(with_other_conditions, b"/%") == (1, b"/%")


def test_as_sent_compares_bytes_and_knows_no_prefix_of_a_path_with_dot_segments() -> None:
    for target, position in [(b"/admin/x", 0), (b"/%61dmin", 1), (b"//admin", 1), (b"/admin/../x", 1)]:
        assert found(DENY, target, Paths.AS_SENT) == (position, target)


def test_options_of_the_whole_server_has_no_path() -> None:
    head = parse_request_head(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    position, forwarded = Routes(DENY, Paths.NORMALISED).find(head)
    assert (position, forwarded.target) == (1, b"*")
