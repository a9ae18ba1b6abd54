"""Addresses as people write them, as a table."""

import pytest

from tierlb.model.address import Address, parse_address, read_address

WRITTEN = [
    ("127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080"),
    (" 127.0.0.1:8080 ", "127.0.0.1", 8080, "127.0.0.1:8080"),
    ("[::1]:80", "::1", 80, "[::1]:80"),
    ("[2001:DB8:0::1]:80", "2001:db8::1", 80, "[2001:db8::1]:80"),
    ("localhost:0", "127.0.0.1", 0, "127.0.0.1:0"),
    (":8080", "0.0.0.0", 8080, "0.0.0.0:8080"),
    ("*:8080", "0.0.0.0", 8080, "0.0.0.0:8080"),
    ("10.0.0.1:65535", "10.0.0.1", 65535, "10.0.0.1:65535"),
]


@pytest.mark.parametrize(("text", "host", "port", "shown"), WRITTEN)
def test_an_address_is_read_and_shown(text: str, host: str, port: int, shown: str) -> None:
    address = parse_address(text)
    assert (address.host, address.port, str(address)) == (host, port, shown)
    assert address.sockaddr == (host, port)
    assert parse_address(str(address)) == address


REFUSED = [
    ("8080", "write HOST:PORT"),
    ("127.0.0.1", "write HOST:PORT"),
    ("127.0.0.1:", "write HOST:PORT"),
    ("127.0.0.1:http", "write HOST:PORT"),
    ("127.0.0.1:65536", "write HOST:PORT"),
    ("127.0.0.1:-1", "write HOST:PORT"),
    ("127.0.0.1:٨٠", "write HOST:PORT"),
    ("::1:80", "in brackets"),
    ("shop.example:80", "is not an IP address"),
    ("127.0.0.256:80", "is not an IP address"),
    ("", "write HOST:PORT"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_is_no_address_is_refused_with_advice(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_address(text)


@pytest.mark.parametrize("path", ["/x//a.sock", "//x/a.sock", "/x/./a.sock", "/y/../x/a.sock", "/../x/a.sock"])
def test_a_unix_socket_has_one_name(path: str) -> None:
    assert str(read_address("unix:/x/a.sock")) == "unix:/x/a.sock"
    with pytest.raises(ValueError, match=r"normal form: write unix:/x/a\.sock$"):
        read_address(f"unix:{path}")


def test_addresses_have_an_order() -> None:
    assert sorted([Address("b", 1), Address("a", 2), Address("a", 1)]) == [
        Address("a", 1),
        Address("a", 2),
        Address("b", 1),
    ]
