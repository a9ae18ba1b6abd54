"""The forms of values that are parts of HTTP messages: paths, methods, fields, statuses, fixed answers."""

import re
from typing import Annotated

from tierlb.topology.forms import PLAIN_VALUE, matching, printable_text, range_schema, text_schema, whole
from tierlb.topology.problems import suggestion
from tierlb.topology.typed import Form, Scalar, Schema
from tierlb.topology.units import shown

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 §5.6.2 # noqa: S105
PATH = r"/[!-\"$->@-~]*"
TARGET = r"/[!-\"$-~]*"
MEDIA_TYPE = rf"{TOKEN}/{TOKEN}( *;[ -~]*)?"
STATUS = r"[2-5][0-9]{2}"
STATUS_RANGE = re.compile(rf"({STATUS})(?:-({STATUS}))?")
STATUS_RANGE_SCHEMA: Schema = {"anyOf": [range_schema(200, 599), text_schema(f"{STATUS}(-{STATUS})?")]}
DOT_SEGMENT_IN_PATH = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
URL_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
URL_PLACEHOLDERS = ("scheme", "host", "hostname", "path", "query")
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
KNOWN_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
MAX_BODY_CHARS = 64 * 1024
"""A fixed answer is kept in memory at every node; files belong behind an endpoint."""

_path = matching(PATH, "a path: begin with /, percent-encode, leave out ? and #")
_header_token = matching(TOKEN, "a header name")
_token = matching(TOKEN, "a method: write one such as GET")
_visible_url = matching(r"[!-~]+", "a URL: write visible ASCII characters, no spaces")
_any_redirect = whole(300, 399)


def _prefix(scalar: Scalar) -> str:
    if DOT_SEGMENT_IN_PATH.search(_path(scalar)):
        raise ValueError(f"{shown(scalar.text)} can never match: paths with . or .. segments match no prefix")
    return scalar.text


def _method(scalar: Scalar) -> str:
    method = _token(scalar)
    if method not in KNOWN_METHODS and method.upper() in KNOWN_METHODS:
        raise ValueError(f"the case of a method counts: write {method.upper()}")
    return method


def _hash_header(scalar: Scalar) -> str:
    return _header_token(scalar).lower()


def _header_name(scalar: Scalar) -> str:
    name = _hash_header(scalar)
    if name == "host":
        raise ValueError("write the key host of the match instead of the header")
    return name


def _body(scalar: Scalar) -> str:
    if len(scalar.text) > MAX_BODY_CHARS:
        raise ValueError(f"a fixed answer holds at most {MAX_BODY_CHARS} characters")
    return scalar.text


def _location(scalar: Scalar) -> str:
    url = _visible_url(scalar)
    for found in URL_PLACEHOLDER.findall(url):
        if found not in URL_PLACEHOLDERS:
            choice = ", ".join(f"{{{name}}}" for name in URL_PLACEHOLDERS)
            raise ValueError(f"{{{found[:60]}}} has no meaning: write {choice}{suggestion(found, URL_PLACEHOLDERS)}")
    if "{" in URL_PLACEHOLDER.sub("", url) or "}" in URL_PLACEHOLDER.sub("", url):
        raise ValueError("a { or } stands alone: percent-encode it as %7B or %7D")
    return url


def _status_range(scalar: Scalar) -> tuple[int, int]:
    found = STATUS_RANGE.fullmatch(scalar.text)
    if found is None:
        raise ValueError(
            f"{shown(scalar.text)} is not a status: write one such as 200, a range such as 200-299, or a list"
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise ValueError(f"{shown(scalar.text)} holds no status: write {last}-{first}")
    return first, last


def _status_range_text(statuses: tuple[int, int]) -> str:
    first, last = statuses
    return f"{first}-{last}" if first < last else str(first)


def _redirect_status(scalar: Scalar) -> int:
    status: int = _any_redirect.read(scalar)
    if status not in REDIRECT_STATUSES:
        raise ValueError(f"{status} does not redirect: write {', '.join(map(str, REDIRECT_STATUSES))}")
    return status


UrlPath = Annotated[str, Form(_path, text_schema(PATH))]
UrlPrefix = Annotated[str, Form(_prefix, text_schema(PATH))]
Target = Annotated[
    str, Form(matching(TARGET, "a path: begin with /, percent-encode, leave out #"), text_schema(TARGET))
]
"""A path with or without a query."""
Method = Annotated[str, Form(_method, text_schema(TOKEN))]
HeaderName = Annotated[str, Form(_header_name, text_schema(TOKEN))]
HashHeader = Annotated[str, Form(_hash_header, text_schema(TOKEN), write="{{header: {}}}".format)]
QueryName = Annotated[str, Form(printable_text(1), {"type": "string", "minLength": 1})]
FieldValue = Annotated[str | None, Form(printable_text(0), {"type": [*PLAIN_VALUE["type"], "null"]}, accepts_null=True)]
"""The value a header or query field must have, or None where presence is enough."""
Status = Annotated[int, whole(200, 599)]
StatusRange = Annotated[tuple[int, int], Form(_status_range, STATUS_RANGE_SCHEMA, write=_status_range_text)]
"""The first and the last of the statuses meant."""
RedirectStatus = Annotated[int, Form(_redirect_status, {"enum": list(REDIRECT_STATUSES)})]
Body = Annotated[str, Form(_body, PLAIN_VALUE)]
ContentType = Annotated[
    str, Form(matching(MEDIA_TYPE, "a media type: write one such as text/html; charset=utf-8"), text_schema(MEDIA_TYPE))
]
Location = Annotated[str, Form(_location, text_schema(r"[!-~]+"))]
