"""Normal forms against a slow and obvious reading of RFC 3986, and against what a server makes of them."""

import re
from urllib.parse import unquote_to_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tierlb.wire.http_path import BadPath, is_plain, key, normal, readings

PIECES = st.sampled_from(
    b"/ // . .. ;x ; %2e %2E %2f %5c \\ %61 a admin %25 %2561 %00 %c3%a9 %C0%AE %zz % , %2C ~ %7e ? %3f b.c".split()
)
PATHS = st.lists(PIECES, max_size=10).map(lambda pieces: b"/" + b"".join(pieces).replace(b"?", b""))
SLASHES = re.compile(rb"/{2,}")
UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")


def expected(path: bytes) -> bytes:
    """RFC 3986 §6.2.2.1, §6.2.2.2 and §5.2.4, letter by letter, with duplicate slashes merged in between."""
    out, at = b"", 0
    while at < len(path):
        if path[at : at + 1] == b"%":
            byte = bytes([int(path[at + 1 : at + 3], 16)])
            out += byte if UNRESERVED.fullmatch(byte) else path[at : at + 3].upper()
            at += 3
        else:
            out += path[at : at + 1]
            at += 1
    while b"//" in out:
        out = out.replace(b"//", b"/")
    done = b""
    while out:
        if out.startswith(b"/./"):
            out = out[2:]
        elif out == b"/.":
            out = b"/"
        elif out.startswith(b"/../"):
            out, done = out[3:], done.rpartition(b"/")[0]
        elif out == b"/..":
            out, done = b"/", done.rpartition(b"/")[0]
        else:
            end = out.find(b"/", 1) % (len(out) + 1)
            done, out = done + out[:end], out[end:]
    return done


@settings(deadline=None, max_examples=1000)
@given(PATHS)
def test_the_normal_form_is_that_of_the_rfc(path: bytes) -> None:
    try:
        made = normal(path)
    except BadPath:
        assert re.search(rb"%(?![0-9A-Fa-f]{2})", path)
        return
    assert made == expected(path)
    assert normal(made) == made


@settings(deadline=None, max_examples=1000)
@given(PATHS)
def test_a_plain_path_is_its_own_normal_form_and_key(path: bytes) -> None:
    if is_plain(path):
        assert normal(path) == key(path) == path
        assert readings(path) == set()


@settings(deadline=None, max_examples=1000)
@given(PATHS)
@example(b"/a;x%2f/")
def test_where_a_path_has_one_reading_servers_agree_on_its_segments(path: bytes) -> None:
    """A server that decodes first and one that splits first find the same segments, parameters left aside. Both take
    slashes that follow each other for one."""
    try:
        made = normal(path)
        others = readings(made)
    except BadPath:
        return
    decoded = [segment.partition(b";")[0] for segment in SLASHES.sub(b"/", unquote_to_bytes(made)).split(b"/")]
    split = [unquote_to_bytes(segment.partition(b";")[0]) for segment in made.split(b"/")]
    if not others:
        assert decoded == split
        assert b"/".join(split) == key(made)
        assert not {b".", b".."} & set(split)
