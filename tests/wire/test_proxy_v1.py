"""PROXY protocol v1: lines of its specification, round trips, and what is refused when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_proxy_protocol import ENDPOINTS, _plain
from tierlb.wire.proxy_protocol import BadProxyHeader, ProxyHeader
from tierlb.wire.proxy_v1 import LOCAL_V1, MOST_LINE_BYTES, encode_v1, parse_v1


def test_it_is_written_as_the_specification_says() -> None:
    assert (
        encode_v1(("192.168.0.1", 56324), ("192.168.0.11", 443)) == b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    )
    assert encode_v1(("::1", 1), ("10.0.0.1", 2)) == b"PROXY TCP6 ::1 ::ffff:10.0.0.1 1 2\r\n"
    assert encode_v1(("fe80::1%eth0", 1), ("fe80::2", 2)) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"


@given(ENDPOINTS, ENDPOINTS, st.binary(max_size=40))
def test_what_is_written_is_read_again_at_its_last_byte(
    source: tuple[str, int], destination: tuple[str, int], following: bytes
) -> None:
    line = encode_v1(source, destination)
    assert len(line) <= MOST_LINE_BYTES
    for size in range(len(line)):
        assert parse_v1(line[:size]) is None
    assert parse_v1(line + following) == ProxyHeader(_plain(source), _plain(destination), len(line))


@pytest.mark.parametrize("line", [LOCAL_V1, b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"])
def test_unknown_leaves_the_addresses_of_the_connection(line: bytes) -> None:
    assert parse_v1(line + b"GET /") == ProxyHeader(None, None, len(line))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
        b"PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
        b"PROXY TCP4 10.0.0.01 10.0.0.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 65536 2\r\n",
        b"PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 " + b"1" * MOST_LINE_BYTES,
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        parse_v1(line)
