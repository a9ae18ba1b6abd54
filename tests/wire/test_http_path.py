"""Paths in normal form, keys and readings, as tables."""

import pytest

from tierlb.wire.http_path import READINGS_LIMIT_BYTES, BadPath, is_plain, key, normal, readings

NORMAL = {
    b"/": b"/",
    b"/a/b.c/~d_e-f": b"/a/b.c/~d_e-f",
    b"/%61%44%2d%2E%5f%7e%30": b"/aD-._~0",
    b"/caf%c3%a9": b"/caf%C3%A9",
    b"/%2f%5c%00%25%3b%20": b"/%2F%5C%00%25%3B%20",
    b"/%2561": b"/%2561",  # decoded once only
    b"//a///b//": b"/a/b/",
    b"/./a/./b/.": b"/a/b/",
    b"/a/../b": b"/b",
    b"/a/b/..": b"/a/",
    b"/a/..": b"/",
    b"/..": b"/",
    b"/../../a": b"/a",
    b"/%2e/a/%2E%2e/.%2e/b": b"/b",
    b"/a//../b": b"/b",  # merged before dot segments are removed, as nginx and Apache do
    b"/...": b"/...",
    b"/.a/..b": b"/.a/..b",
    b"/..;x/a": b"/..;x/a",
    b'/a;b=c/"<>^`{|}\\': b'/a;b=c/"<>^`{|}\\',
}


@pytest.mark.parametrize(("path", "expected"), NORMAL.items())
def test_the_normal_form(path: bytes, expected: bytes) -> None:
    assert normal(path) == expected
    assert normal(expected) == expected


@pytest.mark.parametrize("path", [b"/%", b"/%4", b"/%zz", b"/100%/x", b"/%u002f", b"/%%36%31"])
def test_a_percent_sign_that_begins_no_escape_has_no_normal_form(path: bytes) -> None:
    with pytest.raises(BadPath, match="two hexadecimal digits"):
        normal(path)


KEYS = {
    b"/a": b"/a",
    b"/a;b=c/d;e;f": b"/a/d",
    b"/a,b": b"/a,b",
    b"/a%2Cb%21%3A%40%20": b"/a,b!:@ ",
    b"/caf%C3%A9": b"/caf\xc3\xa9",
    b"/%2F%5C%00%1F%7F%25%3B%3F%23": b"/%2F%5C%00%1F%7F%25%3B%3F%23",
    b"/;/a": b"/;/a",
    b"/..;/a": b"/..;/a",
    b"/.;x": b"/.;x",
}


@pytest.mark.parametrize(("path", "expected"), KEYS.items())
def test_what_a_path_is_compared_by(path: bytes, expected: bytes) -> None:
    assert key(path) == expected


READINGS = {
    b"/admin%2Fx": b"/admin/x",
    b"/x%2F..%2Fadmin": b"/admin",
    b"/..%2Fadmin": b"/admin",
    b"/admin%5Cx": b"/admin/x",
    b"/x\\..\\admin": b"/admin",
    b"/admin%00.html": b"/admin",
    b"/adm%00in": b"/admin",
    b"/admin%0A": b"/admin",
    b"/adm%09in": b"/admin",
    b"/admin%3Fx": b"/admin",
    b"/admin%23x": b"/admin",
    b"/admin%3Bx": b"/admin",
    b"/admin%3Bx/y": b"/admin/y",
    b"/%2561dmin": b"/admin",
    b"/%252561dmin": b"/admin",
    b"/x/%252e%252e/admin": b"/admin",
    b"/x/..;/admin": b"/admin",
    b"/x/..;a=b/admin": b"/admin",
    b"/x/.;/..;/..;/admin;c": b"/admin",
    b"/;/admin": b"/admin",
    b"/;a=b/admin": b"/admin",
    b"/x;y=%2F..%2F..%2Fadmin": b"/admin",
    b"/x/..%3B/admin": b"/admin",
    b"/x/..%00/admin": b"/admin",
    b"/..%C0%AFadmin": b"/admin",
    b"/x/%C0%AE%C0%AE/admin": b"/admin",
    b"/x/%E0%80%AE%E0%80%AE/admin": b"/admin",
    b"/x%F0%80%80%AF../admin": b"/admin",
    b"/x%EF%BC%8F..%EF%BC%8Fadmin": b"/admin",
    b"/%EF%BD%81dmin": b"/admin",
    b"/x%25u002f../admin": b"/admin",
    b"/admin.": b"/admin",
    b"/admin%20": b"/admin",
    b"/x/..%20/admin": b"/admin",
    b"/admin.;x/y.": b"/admin/y",
}


@pytest.mark.parametrize(("path", "reading"), READINGS.items())
def test_what_a_server_may_take_a_path_for_is_among_its_readings(path: bytes, reading: bytes) -> None:
    assert normal(path) == path
    assert key(path) != reading
    assert reading in readings(path)


@pytest.mark.parametrize(
    "path",
    [b"/", b"/a/b.c", b"/a;b=c/d", b"/a%20b", b"/caf%C3%A9", b"/a,b:c@d", b"/.well-known/x", b"/a%2Cb", b"/ADMIN"],
)
def test_most_paths_have_no_other_reading(path: bytes) -> None:
    assert readings(path) == set()


def test_what_takes_too_long_to_read_is_refused() -> None:
    with pytest.raises(BadPath, match="longer than"):
        readings(b"/" + b"%2F" * READINGS_LIMIT_BYTES)
    with pytest.raises(BadPath, match="too many ways"):
        readings(b"/%5C..%252F%C0%AF;x%00%3F./")
    assert readings(b"/" + b"%E3%81%82" * READINGS_LIMIT_BYTES) == set()
    with pytest.raises(BadPath, match="times over"):
        readings(b"/%25252525252561")
    assert readings(b"/" + b"a" * READINGS_LIMIT_BYTES) == set()


@pytest.mark.parametrize("target", [b"/", b"/a", b"/a/b.txt?x=%2F//..", b"/a/", b"/a(b)!*'~", b"/a.b.c/d_e?"])
def test_an_ordinary_target_needs_no_closer_look(target: bytes) -> None:
    assert is_plain(target)


@pytest.mark.parametrize(
    "target", [b"*", b"//a", b"/a//", b"/.", b"/a/..", b"/a.", b"/%61", b"/a;b", b"/a\\b", b"/.well-known", b'/"']
)
def test_an_unusual_target_needs_a_closer_look(target: bytes) -> None:
    assert not is_plain(target)
