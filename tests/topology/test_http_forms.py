"""Parts of HTTP messages, right and wrong, as a table."""

from typing import Any

import pytest

from tests.topology.form_tables import check_right, check_wrong, forms_in
from tierlb.topology import http_forms as forms
from tierlb.topology.typed import Scalar

RIGHT: list[tuple[Any, str, object]] = [
    (forms.UrlPath, "/a%20b/;x=1", "/a%20b/;x=1"),
    (forms.UrlPrefix, "/api", "/api"),
    (forms.Target, "/up?deep=1&x=%23", "/up?deep=1&x=%23"),
    (forms.Method, "PURGE", "PURGE"),
    (forms.HeaderName, "X-Env", "x-env"),
    (forms.HashHeader, "X-User", "x-user"),
    (forms.HashHeader, "Host", "host"),
    (forms.QueryName, "a b", "a b"),
    (forms.FieldValue, "1.10", "1.10"),
    (forms.Status, "599", 599),
    (forms.StatusRange, "200-299", (200, 299)),
    (forms.StatusRange, "204", (204, 204)),
    (forms.RedirectStatus, "303", 303),
    (forms.Body, "two\nlines", "two\nlines"),
    (forms.ContentType, "text/html; charset=utf-8", "text/html; charset=utf-8"),
    (forms.Location, "https://{host}{path}?{query}", "https://{host}{path}?{query}"),
    (forms.Location, "{scheme}://{hostname}/", "{scheme}://{hostname}/"),
]
WRONG: list[tuple[Any, Scalar, str]] = [
    (forms.UrlPath, Scalar("api"), "begin with /"),
    (forms.UrlPath, Scalar("/a?b"), "leave out"),
    (forms.UrlPath, Scalar("/ä"), "percent-encode"),
    (forms.UrlPrefix, Scalar("/a/../b"), "can never match"),
    (forms.Target, Scalar("up"), "begin with /"),
    (forms.Target, Scalar("/up#x"), "leave out #"),
    (forms.Target, Scalar("/up HTTP/1.1"), "percent-encode"),
    (forms.Method, Scalar("get"), "write GET"),
    (forms.Method, Scalar("A B"), "is not a method"),
    (forms.HeaderName, Scalar("x:"), "is not a header name"),
    (forms.HeaderName, Scalar("Host"), "key host"),
    (forms.HashHeader, Scalar("x:"), "is not a header name"),
    (forms.QueryName, Scalar("", quoted=True), "write 1 to"),
    (forms.FieldValue, Scalar("a\r\nb"), "line breaks"),
    (forms.Status, Scalar("199"), "write 200 to 599"),
    (forms.StatusRange, Scalar("199"), "is not a status"),
    (forms.StatusRange, Scalar("600"), "is not a status"),
    (forms.StatusRange, Scalar("2xx"), "a range such as 200-299"),
    (forms.StatusRange, Scalar("299-200"), "write 200-299"),
    (forms.RedirectStatus, Scalar("304"), "does not redirect"),
    (forms.Body, Scalar("x" * 65_537), "at most"),
    (forms.ContentType, Scalar("text"), "media type"),
    (forms.ContentType, Scalar("text/html\r\nx: y"), "media type"),
    (forms.Location, Scalar("/{pth}"), "did you mean 'path'"),
    (forms.Location, Scalar("/{path"), "stands alone"),
    (forms.Location, Scalar("/a b"), "no spaces"),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT)
def test_right_values_are_read_and_the_schema_takes_them(kind: Any, text: str, value: object) -> None:
    check_right(kind, text, value)


@pytest.mark.parametrize(("kind", "scalar", "said"), WRONG)
def test_wrong_values_are_refused_with_advice(kind: Any, scalar: Scalar, said: str) -> None:
    check_wrong(kind, scalar, said)


def test_every_form_is_in_the_table() -> None:
    assert {id(kind) for kind, _, _ in RIGHT} >= {id(kind) for kind in forms_in(forms)}
