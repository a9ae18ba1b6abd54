"""Elements of Forwarded: what has to be quoted, and what X-Forwarded-* become."""

import pytest

from tierlb.wire.forwarded import (
    clients_of,
    converted,
    forwarded_node,
    read_forwarded,
    token_or_quoted,
    written_forwarded,
)


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


@pytest.mark.parametrize(
    ("value", "written", "clients"),
    [
        (b"", b"", b""),
        (b"For=192.0.2.1;PROTO=https", b"for=192.0.2.1;proto=https", b"192.0.2.1"),
        (b'for="[2001:db8::1]" ,\tfor="[::1]:80"', b'for="[2001:db8::1]", for="[::1]:80"', b"2001:db8::1, [::1]:80"),
        (b", ;for=unknown; by=_a;,", b"for=unknown;by=_a", b"unknown"),
        (b'proto="\\h\\"t,;p"', b'proto="h\\"t,;p"', b"unknown"),
        (b'for="192.0.2.1:_p";host=""', b'for="192.0.2.1:_p";host=""', b"192.0.2.1:_p"),
    ],
)
def test_elements_are_read_by_the_grammar(value: bytes, written: bytes, clients: bytes) -> None:
    elements = read_forwarded(value)
    assert elements is not None
    assert (written_forwarded(elements), clients_of(elements)) == (written, clients)


@pytest.mark.parametrize(
    "value",
    [
        *(b'for="', b'for=192.0.2.1, for="', b'for="192.0.2.1\\"', b"for", b"for=", b"for =unknown", b"for= unknown"),
        *(
            b"for=[::1]",
            b"for=192.0.2.1:80",
            b'for="192.0.2.1"x',
            b"for=unknown proto=http",
            b"for=unknown;for=unknown",
        ),
        *(b"for=shop", b'for="192.0.2.1, 192.0.2.2"', b'for="::1"', b"192.0.2.1"),
    ],
)
def test_what_breaks_the_grammar_has_no_elements(value: bytes) -> None:
    assert read_forwarded(value) is None
