"""The path of a request in normal form, and the other ways in which servers may read it.

`/%61dmin`, `//admin`, `/./admin` and `/x/../admin` all name `/admin`, and servers resolve them before they choose a
file or a handler. So a proxy that compares paths as they were sent can be bypassed. Here a path is brought into the
normal form of RFC 3986 §6.2.2 (escapes in upper case, unreserved characters decoded, dot segments removed) with
duplicate slashes merged, as nginx and Apache do. That form is forwarded, and routes are matched on its `key`.

Some spellings mean different things to different servers: an encoded slash, a backslash, a segment `..;a=b`, an escape
of an escape. No normal form resolves those. `readings` lists what such a path may become, so that the caller can refuse
it where the readings would match different routes.

Left out: case, because paths are case-sensitive (RFC 3986 §6.2.2.1), and the query.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

READINGS_LIMIT_BYTES: Final = 1024
MOST_TEXTS: Final = 32
"""A path that may have several readings is refused when longer, or when it may have more of them: checking all of them
would take longer than 2 ms, in which other connections wait."""
DECODINGS: Final = 3
"""How often escapes of escapes are decoded. Servers decode once, and once more by mistake or in a proxy between."""

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986 §2.3
_DELIMITERS: Final = frozenset(b"/\\%;?#")
_SEGMENT: Final = rb"[A-Za-z0-9_~!$&'()*+,=:@-](?>[A-Za-z0-9_~!$&'()*+,=:@.-]*)(?<!\.)"
_DIGITS: Final = "0123456789ABCDEFabcdef"
_ESCAPES: Final = {(high + low).encode(): int(high + low, 16) for high in _DIGITS for low in _DIGITS}
_NORMAL: Final = {
    digits: bytes((byte,)) if byte in _UNRESERVED else b"%" + digits.upper() for digits, byte in _ESCAPES.items()
}
_COMPARED: Final = {
    digits: b"%" + digits if byte in _DELIMITERS or byte < 0x20 or byte == 0x7F else bytes((byte,))
    for digits, byte in _ESCAPES.items()
}
"""Each escape, by its two digits: in the normal form, and in the key."""
_PLAIN: Final = re.compile(rb"(?>(?:/%b)*)/?(?:\?|\Z)" % _SEGMENT).match
_SLASHES: Final = re.compile(rb"/{2,}")
_DOTS: Final = re.compile(rb"/\.{1,2}(?:/|\Z)").search
_PARAMETERS: Final = re.compile(rb";[^/]*")
_AMBIGUOUS: Final = re.compile(rb"[%\\\x7f]|[. ](?:[/;]|\Z)").search
_UNICODE_ESCAPE: Final = re.compile(rb"%u([0-9A-Fa-f]{4})")
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")
_OVERLONG: Final = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}")
# The dots and blanks at the ends of names that Windows ignores.
_TRAILING: Final = re.compile(rb"(?:(?<=[^/. ])[. ]+| +)(?=/|\Z)")


class BadPath(ValueError):  # noqa: N818 (a verdict on the input, like BadHead)
    """A path that has no normal form or too many readings, and why."""


def is_plain(target: bytes) -> bool:
    """Whether the path in a target is in normal form and its own key. Cheap; false where a full check is needed."""
    return _PLAIN(target) is not None


def normal(path: bytes) -> bytes:
    """The path in normal form. Raises BadPath for a `%` that begins no escape."""
    if b"%" in path:
        try:
            path = _rewritten(path, _NORMAL)
        except KeyError:
            raise BadPath("the path holds a % that is not followed by two hexadecimal digits") from None
    return _without_dots(path)


def key(path: bytes) -> bytes:
    """The key by which a path in normal form is compared: without parameters of segments, and with every escape decoded
    that no server takes for a delimiter."""
    if b";" in path:
        path = b"/".join(map(_without_parameters, path.split(b"/")))
    return _rewritten(path, _COMPARED) if b"%" in path else path


def readings(path: bytes) -> set[bytes]:
    """The keys of all other readings of a path in normal form; empty for nearly every path.

    Raises BadPath where they cannot all be listed.
    """
    own = key(path)
    opened = _rewritten(path, _COMPARED)
    if b";" not in own and not _AMBIGUOUS(opened) and _folded(opened) == opened:
        return set()
    if len(path) > READINGS_LIMIT_BYTES:
        raise BadPath(f"the path can be read in several ways and is longer than {READINGS_LIMIT_BYTES} bytes")
    texts: set[bytes] = set()
    for text in _decoded(opened):
        for folded in {text, _folded(text)}:
            for slashed in {folded, folded.replace(b"\\", b"/")}:
                texts |= _cut(slashed)
    texts |= {_PARAMETERS.sub(b"", text) for text in texts}
    if len(texts) > MOST_TEXTS:
        raise BadPath("the path can be read in too many ways")
    found = {_compared(text) for text in texts}
    found |= {_compared(_TRAILING.sub(b"", text)) for text in found}
    return found - {own}


def _rewritten(path: bytes, escapes: dict[bytes, bytes]) -> bytes:
    """Each escape replaced. Raises KeyError for a `%` that begins none."""
    first, *rest = path.split(b"%")
    return first + b"".join([escapes[piece[:2]] + piece[2:] for piece in rest])


def _without_dots(path: bytes) -> bytes:
    """Without duplicate slashes and dot segments."""
    if b"//" in path:
        path = _SLASHES.sub(b"/", path)
    if not _DOTS(path):
        return path
    segments = path.split(b"/")[1:]
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _compared(text: bytes) -> bytes:
    return b"/".join(map(_without_parameters, _without_dots(text).split(b"/")))


def _without_parameters(segment: bytes) -> bytes:
    """As it is where only a dot segment or nothing would be left: whether that is resolved differs among servers."""
    name = segment.partition(b";")[0]
    return segment if name in (b"", b".", b"..") else name


def _decoded(text: bytes) -> Iterator[bytes]:
    """The text itself, decoded, decoded twice, and so on while that changes something."""
    for _ in range(DECODINGS + 1):
        yield text
        text, before = unquote_to_bytes(text), text
        if text == before:
            return
    raise BadPath(f"the path is escaped more than {DECODINGS} times over")


def _folded(text: bytes) -> bytes:
    """What lenient decoders make of it: overlong UTF-8, compatibility forms such as the full-width slash, `%u002f`."""
    if text.isascii() and b"%u" not in text:
        return text
    text = _UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "replace"), text)
    text = _OVERLONG.sub(_shortest, text)
    return unicodedata.normalize("NFKC", text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _shortest(found: re.Match[bytes]) -> bytes:
    first, *rest = found[0]
    number = first & (0x1F if first < 0xE0 else 0x0F if first < 0xF0 else 0x07)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return chr(number).encode("utf-8", "replace")


def _cut(text: bytes) -> set[bytes]:
    """The text as it is, ended by NUL or by a decoded `?` or `#`, and without control characters."""
    return {
        text,
        text.partition(b"\x00")[0],
        text.partition(b"?")[0].partition(b"#")[0],
        _CONTROLS.sub(b"", text),
    }
