"""Elements of Forwarded: what has to be quoted, and what X-Forwarded-* become."""

import pytest

from tierlb.wire.forwarded import converted, forwarded_node, token_or_quoted


@pytest.mark.parametrize(
    ("address", "node"),
    [
        (b"192.0.2.60", b"192.0.2.60"),
        (b"2001:db8:cafe::17", b'"[2001:db8:cafe::17]"'),
        (b"::1", b'"[::1]"'),
        (b"[2001:db8::1]:4711", b'"[2001:db8::1]:4711"'),
        (b"192.0.2.60:4711", b'"192.0.2.60:4711"'),
        (b"unknown", b"unknown"),
        (b'a", for=x', b'"a\\", for=x"'),
    ],
)
def test_an_address_is_quoted_where_it_is_no_token(address: bytes, node: bytes) -> None:
    assert forwarded_node(address) == node


@pytest.mark.parametrize(
    ("value", "written"),
    [(b"shop.example", b"shop.example"), (b"a:8080", b'"a:8080"'), (b"a\\b", b'"a\\\\b"'), (b"", b'""')],
)
def test_a_value_is_quoted_where_it_is_no_token(value: bytes, written: bytes) -> None:
    assert token_or_quoted(value) == written


def test_x_forwarded_fields_become_elements_of_which_the_first_has_what_the_client_used() -> None:
    made = converted(b"192.0.2.1, 2001:db8::2,,  ", b"https", b"shop:8443")
    assert made == b'for=192.0.2.1;proto=https;host="shop:8443", for="[2001:db8::2]"'
    assert converted(b"", b"https", b"shop") == b""
    assert converted(b"192.0.2.1", b"", b"") == b"for=192.0.2.1"
