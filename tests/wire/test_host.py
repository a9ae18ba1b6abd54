"""Host values and the names that routes compare, as a table."""

import pytest

from tierlb.wire.host import MAX_HOST_BYTES, host_name

NAMES = {
    b"": b"",
    b"a": b"a",
    b"a:": b"a",
    b"a:80": b"a",
    b"a:0": b"a",
    b"a:65535": b"a",
    b"a:00080": b"a",
    b"A.Example": b"a.example",
    b"a.example.": b"a.example",
    b"a.example.:8080": b"a.example",
    b"a_b.x-y": b"a_b.x-y",
    b"a!b.example": b"a!b.example",
    b"a%2db.example": b"a-b.example",
    b"a%2Eexample": b"a.example",
    b"%41%2e": b"a",
    b"caf%C3%A9": b"caf\xc3\xa9",
    b"~a,b;c=d(e)*+&'$": b"~a,b;c=d(e)*+&'$",
    b"10.0.0.1:80": b"10.0.0.1",
    b"[::1]": b"[::1]",
    b"[0:0::0:1]:80": b"[::1]",
    b"[2001:DB8:0:0::A]:": b"[2001:db8::a]",
    b"[::ffff:1.2.3.4]": b"[::ffff:102:304]",
}


@pytest.mark.parametrize(("value", "name"), NAMES.items())
def test_the_name_of_a_host(value: bytes, name: bytes) -> None:
    assert host_name(value) == name


REFUSED = [
    *(b"a:x", b"a:99999", b"a:123456", b"a:-1", b"a:80:80", b":80", b":", b"a: 80"),
    *(b"u@a", b"u:p@a", b"a/b", b"a\\b", b"a?b", b"a#b", b"a b", b"a\tb", b'"a"', b"<a>", b"a|b", b"\xe4", b"http://a"),
    *(b"a%", b"a%2", b"a%zz", b"a%00", b"a%0d%0a", b"a%20b", b"a%2fb", b"a%5Cb", b"a%3a80", b"a%40b", b"a%3f", b"a%23"),
    *(b"a%2500", b"%5b::1%5d", b".", b"%2e"),
    *(b"::1", b"[::1", b"[]", b"[:]", b"[g::]", b"[::1]x", b"[::1]]", b"[1.2.3.4]", b"[a]", b"[1:2:3:4:5:6:7:8:9]"),
    *(b"[::1%25eth0]", b"[fe80::1%eth0]", b"[v1.x]", b"[::12345]", b"[::1]:99999", b"[::1]:x", b"[::1]80"),
    b"a" * (MAX_HOST_BYTES + 1),
    b"%41" * MAX_HOST_BYTES,
]


@pytest.mark.parametrize("value", REFUSED)
def test_what_is_no_host_and_port(value: bytes) -> None:
    assert host_name(value) is None


def test_the_longest_name() -> None:
    assert host_name(b"a" * MAX_HOST_BYTES) == b"a" * MAX_HOST_BYTES
