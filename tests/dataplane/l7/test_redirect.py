"""Where redirects lead, as a table."""

import pytest

from tierlb.dataplane.l7.redirect import location
from tierlb.model.topology import Redirect
from tierlb.wire.http_head import parse_request_head


def leads(
    template: str, target: str = "/old", *fields: str, host: str = "shop.example:8080", trusted: bool = False
) -> str:
    lines = [f"GET {target} HTTP/1.{1 if host else 0}", *([f"Host: {host}"] if host else []), *fields, "", ""]
    head = parse_request_head("\r\n".join(lines).encode())
    return location(Redirect(template), head, trusted=trusted).decode()


PARTS = [
    ("https://{host}{path}", "/a/b", "https://shop.example:8080/a/b"),
    ("https://{hostname}{path}", "/a/b", "https://shop.example/a/b"),
    ("https://{hostname}:8443/new", "/", "https://shop.example:8443/new"),
    ("{scheme}://other/{path}", "/a", "http://other//a"),
    ("https://x/{hostname}/{query}", "/a?q=%20", "https://x/shop.example/q=%20"),
]


@pytest.mark.parametrize(("template", "target", "expected"), PARTS)
def test_what_is_filled_in(template: str, target: str, expected: str) -> None:
    assert leads(template, target) == expected


@pytest.mark.parametrize(
    ("host", "name"), [("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a.", "a."), ("a:", "a"), ("10.0.0.1:9", "10.0.0.1")]
)
def test_hostname_is_the_host_without_its_port(host: str, name: str) -> None:
    assert leads("https://{hostname}/", host=host) == f"https://{name}/"


SCHEMES = [
    (("X-Forwarded-Proto: https",), True, "https"),
    (("X-Forwarded-Proto: HTTPS",), True, "https"),
    (("X-Forwarded-Proto: https, http",), True, "https"),
    (("X-Forwarded-Proto: wss",), True, "https"),
    (("X-Forwarded-Proto: http",), True, "http"),
    (("X-Forwarded-Proto: javascript",), True, "http"),
    (("X-Forwarded-Proto:",), True, "http"),
    ((), True, "http"),
    (("X-Forwarded-Proto: https",), False, "http"),
]


@pytest.mark.parametrize(("fields", "trusted", "scheme"), SCHEMES)
def test_the_scheme_is_what_a_trusted_peer_says_of_the_client(
    fields: tuple[str, ...], trusted: bool, scheme: str
) -> None:
    assert leads("{scheme}://x/", "/", *fields, trusted=trusted) == f"{scheme}://x/"


QUERIES = [
    ("https://x/new", "/old?a=b&c", "https://x/new?a=b&c"),
    ("https://x/new#part", "/old?a=b", "https://x/new?a=b#part"),
    ("https://x{path}", "/old?a=b", "https://x/old?a=b"),
    ("https://x/new?own=1", "/old?a=b", "https://x/new?own=1"),
    ("https://x/new?", "/old?a=b", "https://x/new?"),
    ("https://x/new?{query}", "/old?a=b", "https://x/new?a=b"),
    ("https://x/new?{query}", "/old", "https://x/new"),
    ("https://x/new?{query}#part", "/old", "https://x/new#part"),
    ("https://x/new?{query}&by=us", "/old", "https://x/new?&by=us"),
    ("https://x/new", "/old", "https://x/new"),
    ("https://x/new", "/old?", "https://x/new"),
    ("https://x/new", "/old?{path}", "https://x/new?{path}"),
]


@pytest.mark.parametrize(("template", "target", "expected"), QUERIES)
def test_the_query_is_kept_unless_the_location_has_its_own(template: str, target: str, expected: str) -> None:
    assert leads(template, target) == expected


@pytest.mark.parametrize("target", ["//evil.example/x", "/\\evil.example/x", "///evil.example/x", "//\\evil.example/x"])
def test_a_path_alone_never_leads_to_another_server(target: str) -> None:
    assert leads("{path}", target) == "/evil.example/x"


def test_a_client_that_names_no_host_stays_with_this_one() -> None:
    assert leads("https://{host}/new", host="") == "/new"
    assert leads("{scheme}://{hostname}:8443{path}", host="") == "/old"
    assert leads("https://other/new", host="") == "https://other/new"


def test_the_whole_server_has_no_path() -> None:
    head = parse_request_head(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert location(Redirect("https://{host}{path}"), head, trusted=False) == b"https://a"
