"""Where a redirect leads: its location filled in from the request. Pure.

The path is the one that was matched (in normal form unless the tier says `paths: as-sent`). The request's query is kept
unless the location has one.
"""

import re

from tierlb.model.topology import Redirect
from tierlb.wire.head_values import RequestHead

PLACEHOLDER = re.compile(r"\{(scheme|host|hostname|path|query)\}")
_PORT = re.compile(r":[0-9]*$")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_LEADING = re.compile(r"^[/\\]+")
_ONLY_QUERY = re.compile(r"\?\{query\}(?=#|$)")
_OWN_HOST = re.compile(r"^[^/]*//\{host(?:name)?\}(?::[0-9]*)?(?=/|\{path\})")
"""What is left out of a location for a client (HTTP/1.0) that named no host, so that it stays with this one."""


def location(redirect: Redirect, head: RequestHead, *, trusted: bool, secured: bool = False) -> bytes:
    """The value of the Location field. `trusted`: whether the peer's X-Forwarded-Proto is believed. `secured`: it came
    over TLS."""
    path, _, query = head.target.decode("ascii").partition("?")
    host = head.host.decode("ascii")
    parts = {
        "scheme": _scheme(head, secured=secured) if trusted else _own_scheme(secured=secured),
        "host": host,
        "hostname": _PORT.sub("", host),
        "path": "" if path == "*" else path,
        "query": query,
    }
    template = redirect.location if host else _OWN_HOST.sub("", redirect.location)
    if template.startswith("{path}"):  # `//host` and `/\\host` would lead to another server
        parts["path"] = _LEADING.sub("/", path)
    if not query:
        template = _ONLY_QUERY.sub("", template)
    elif "?" not in template and "{query}" not in template:
        before, mark, fragment = template.partition("#")
        template = f"{before}?{{query}}{mark}{fragment}"
    return PLACEHOLDER.sub(lambda found: parts[found[1]], template).encode("latin-1", "replace")


def _scheme(head: RequestHead, *, secured: bool) -> str:
    """The scheme that the client used, by the field of the first proxy."""
    named = head.get(b"x-forwarded-proto")
    if named is None:
        return _own_scheme(secured=secured)
    return _SCHEMES.get(named.partition(b",")[0].strip().lower().decode("latin-1"), "http")


def _own_scheme(*, secured: bool) -> str:
    return "https" if secured else "http"
