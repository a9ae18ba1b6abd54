"""Every form, right and wrong, as a table; and what a form's reader takes its schema takes too."""

from typing import Any

import jsonschema
import pytest

from tierlb.model.address import Address
from tierlb.model.topology import Kind, Orca, Policy
from tierlb.topology import forms
from tierlb.topology.forms import FORMS
from tierlb.topology.source import Scalar

RIGHT: list[tuple[Any, str, object]] = [
    (Kind, "l7", Kind.L7),
    (Policy, "two-choices", Policy.TWO_CHOICES),
    (Policy, "load-aware", Policy.LOAD_AWARE),
    (Orca, "bin", Orca.BIN),
    (forms.Name, "api-next", "api-next"),
    (forms.Name, "0" * 40, "0" * 40),
    (forms.Listen, ":0", Address("0.0.0.0", 0)),
    (forms.Listen, "[::1]:80", Address("::1", 80)),
    (forms.FixedListen, ":9777", Address("0.0.0.0", 9777)),
    (forms.Endpoint, "localhost:9001", Address("127.0.0.1", 9001)),
    (forms.Network, "10.0.0.0/8", "10.0.0.0/8"),
    (forms.Network, "::1", "::1/128"),
    (forms.Seconds, "250ms", 0.25),
    (forms.Size, "10MB", 10_000_000),
    (forms.HeadSize, "64KiB", 65_536),
    (forms.Replicas, "1000", 1000),
    (forms.ConnectionCount, "1", 1),
    (forms.HeaderCount, "64", 64),
    (forms.Port, "65535", 65_535),
    (forms.ResultCount, "1", 1),
    (forms.Weight, "0", 0.0),
    (forms.Weight, "0.5", 0.5),
    (forms.Command, "serve --on '{port}'", "serve --on '{port}'"),
    (forms.UrlPath, "/a%20b/;x=1", "/a%20b/;x=1"),
    (forms.UrlPrefix, "/api", "/api"),
    (forms.Target, "/up?deep=1&x=%23", "/up?deep=1&x=%23"),
    (forms.HostField, "Shop.example:8080", "shop.example:8080"),
    (forms.HostField, "[::1]:80", "[::1]:80"),
    (forms.Host, "*.Example.com", "*.example.com"),
    (forms.Host, "10.0.0.1", "10.0.0.1"),
    (forms.Method, "PURGE", "PURGE"),
    (forms.HeaderName, "X-Env", "x-env"),
    (forms.HashHeader, "X-User", "x-user"),
    (forms.HashHeader, "Host", "host"),
    (forms.HashSource, "source", "source"),
    (forms.QueryName, "a b", "a b"),
    (forms.Wanted, "1.10", "1.10"),
    (forms.Status, "599", 599),
    (forms.StatusRange, "200-299", (200, 299)),
    (forms.StatusRange, "204", (204, 204)),
    (forms.RedirectStatus, "303", 303),
    (forms.Body, "two\nlines", "two\nlines"),
    (forms.ContentType, "text/html; charset=utf-8", "text/html; charset=utf-8"),
    (forms.Location, "https://{host}{path}?{query}", "https://{host}{path}?{query}"),
    (forms.JoinByThemselves, "true", True),
    (forms.TcpCheck, "tcp", "tcp"),
    (forms.FileName, "tls/node key.pem", "tls/node key.pem"),
]

WRONG: list[tuple[Any, Scalar, str]] = [
    (Kind, Scalar("l8"), "write l4 or l7"),
    (Policy, Scalar("round-robbin"), "did you mean 'round-robin'"),
    (Orca, Scalar("txt"), "did you mean 'text'"),
    (forms.Name, Scalar("Web"), "is not a name"),
    (forms.Name, Scalar("-a"), "is not a name"),
    (forms.Name, Scalar("a" * 41), "is not a name"),
    (forms.Name, Scalar("a\n"), "is not a name"),
    (forms.Listen, Scalar("8080"), "write HOST:PORT"),
    (forms.FixedListen, Scalar("127.0.0.1:0"), "needs a port"),
    (forms.FixedListen, Scalar("9777"), "write HOST:PORT"),
    (forms.Endpoint, Scalar("127.0.0.1:0"), "needs a port"),
    (forms.Endpoint, Scalar(":9001"), "needs the host"),
    (forms.Network, Scalar("10.0.0.1/8"), "host bits"),
    (forms.Network, Scalar("ten"), "write a network"),
    (forms.Seconds, Scalar("2"), "is not a duration"),
    (forms.HeadSize, Scalar("1"), "out of range"),
    (forms.Replicas, Scalar("0"), "write 1 to 1000"),
    (forms.Replicas, Scalar("1001"), "write 1 to 1000"),
    (forms.Replicas, Scalar("3", quoted=True), "not a whole number"),
    (forms.Replicas, Scalar("2.0"), "not a whole number"),
    (forms.Replicas, Scalar("9" * 5000), "not a whole number"),
    (forms.Port, Scalar("0"), "write 1 to 65535"),
    (forms.ResultCount, Scalar("101"), "write 1 to 100"),
    (forms.Weight, Scalar("-1"), "0 to 1000000"),
    (forms.Weight, Scalar(".inf"), "not a weight"),
    (forms.Weight, Scalar(".nan"), "not a weight"),
    (forms.Weight, Scalar("1e999"), "0 to 1000000"),
    (forms.Weight, Scalar("90%"), "not a weight"),
    (forms.Command, Scalar("serve"), r"write \{port\}"),
    (forms.Command, Scalar("serve '{port}"), "not a command line"),
    (forms.Command, Scalar("serve \x1b {port}"), "control characters"),
    (forms.UrlPath, Scalar("api"), "begin with /"),
    (forms.UrlPath, Scalar("/a?b"), "leave out"),
    (forms.UrlPath, Scalar("/ä"), "percent-encode"),
    (forms.UrlPrefix, Scalar("/a/../b"), "can never match"),
    (forms.Target, Scalar("up"), "begin with /"),
    (forms.Target, Scalar("/up#x"), "leave out #"),
    (forms.Target, Scalar("/up HTTP/1.1"), "percent-encode"),
    (forms.HostField, Scalar("*.example.com"), "is not a host"),
    (forms.HostField, Scalar("a\r\nx: y"), "is not a host"),
    (forms.Host, Scalar("example.com:80"), "no port"),
    (forms.Host, Scalar("a.*.com"), "is not a host"),
    (forms.Method, Scalar("get"), "write GET"),
    (forms.Method, Scalar("A B"), "is not a method"),
    (forms.HeaderName, Scalar("x:"), "is not a header name"),
    (forms.HeaderName, Scalar("Host"), "key host"),
    (forms.HashHeader, Scalar("x:"), "is not a header name"),
    (forms.HashSource, Scalar("cookie"), "write source or"),
    (forms.QueryName, Scalar("", quoted=True), "write 1 to"),
    (forms.Wanted, Scalar("a\r\nb"), "line breaks"),
    (forms.Status, Scalar("199"), "write 200 to 599"),
    (forms.StatusRange, Scalar("199"), "is no status"),
    (forms.StatusRange, Scalar("600"), "is no status"),
    (forms.StatusRange, Scalar("2xx"), "a range such as 200-299"),
    (forms.StatusRange, Scalar("299-200"), "write 200-299"),
    (forms.RedirectStatus, Scalar("304"), "does not redirect"),
    (forms.Body, Scalar("x" * 65_537), "at most"),
    (forms.ContentType, Scalar("text"), "media type"),
    (forms.ContentType, Scalar("text/html\r\nx: y"), "media type"),
    (forms.Location, Scalar("/{pth}"), "did you mean 'path'"),
    (forms.Location, Scalar("/{path"), "stands alone"),
    (forms.Location, Scalar("/a b"), "no spaces"),
    (forms.JoinByThemselves, Scalar("false"), "write true, or leave"),
    (forms.JoinByThemselves, Scalar("true", quoted=True), "write true, or leave"),
    (forms.TcpCheck, Scalar("http"), "write tcp or"),
    (forms.FileName, Scalar("", quoted=True), "write 1 to"),
    (forms.FileName, Scalar("a\0"), "control characters"),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT, ids=lambda item: getattr(item, "__name__", None))
def test_right_values_are_read(kind: Any, text: str, value: object) -> None:
    assert FORMS[kind].read(Scalar(text)) == value


@pytest.mark.parametrize(("kind", "scalar", "said"), WRONG, ids=lambda item: getattr(item, "__name__", None))
def test_wrong_values_are_refused_with_advice(kind: Any, scalar: Scalar, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FORMS[kind].read(scalar)


def test_every_form_is_in_both_tables() -> None:
    assert {kind for kind, _, _ in RIGHT} == set(FORMS)


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT, ids=lambda item: getattr(item, "__name__", None))
def test_the_schema_takes_what_the_reader_takes(kind: Any, text: str, value: object) -> None:
    instance = value if isinstance(value, int | float) and kind is not forms.Seconds else text
    jsonschema.validate(instance, FORMS[kind].schema)
