"""Which rule a request falls under. Pure: a function of the parsed head and of the snapshot's rules.

Paths are compared as sent, percent-encoding and all, in the manner of Envoy without path normalisation; a segment
`.` or `..`, plain or encoded, never matches a prefix other than `/`, so that `/api/../admin` cannot pass as
`/api`.
"""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match
from tierlb.wire.http_head import RequestHead

DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def find_rule(rules: Sequence[Rule], head: RequestHead) -> int | None:
    """The position of the first rule that matches, or None."""
    for position, rule in enumerate(rules):
        if matches(rule.match, head):
            return position
    return None


def matches(match: Match, head: RequestHead) -> bool:
    """Whether every condition of the match holds."""
    path, _, query = head.target.decode("ascii").partition("?")
    return (
        (match.path is None or path == match.path)
        and (match.path_prefix is None or _under(match.path_prefix, path))
        and (not match.hosts or _host_matches(match.hosts, head.host))
        and (not match.methods or head.method.decode("ascii") in match.methods)
        and all(_header_matches(head, name, value) for name, value in match.headers)
        and (not match.query or _query_matches(match.query, query))
    )


def _under(prefix: str, path: str) -> bool:
    stem = prefix.rstrip("/")
    if not stem:
        return True
    return (path == stem or path.startswith(stem + "/")) and not DOT_SEGMENT.search(path)


def _host_matches(patterns: Sequence[str], host: bytes) -> bool:
    name = host.decode("ascii").lower()
    if not name.endswith("]"):
        name = re.sub(r":\d*$", "", name)
    return any(
        name.endswith(pattern[1:]) and len(name) > len(pattern) - 1 if pattern.startswith("*.") else name == pattern
        for pattern in patterns
    )


def _header_matches(head: RequestHead, name: str, value: str | None) -> bool:
    wanted = name.encode("latin-1")
    found = [sent.decode("latin-1") for field, sent in head.headers if field.lower() == wanted]
    return bool(found) if value is None else value in found


def _query_matches(conditions: Sequence[tuple[str, str | None]], query: str) -> bool:
    sent = parse_qsl(query, keep_blank_values=True, max_num_fields=1000) if query.count("&") < 1000 else []
    return all(any(key == name and value in (None, given) for key, given in sent) for name, value in conditions)
