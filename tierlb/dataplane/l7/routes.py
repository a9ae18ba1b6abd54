"""Which rule a request falls under. Pure: a function of the parsed head and of the snapshot's rules.

A match is compiled into the list of the checks it really makes, so a route without conditions costs nothing and
one with a path costs one comparison.

Paths are compared as sent, percent-encoding and all; a path with a segment `.` or `..`, plain or encoded, is
under no prefix other than `/`, so that `/api/../admin` cannot pass as `/api`.
"""

import re
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match
from tierlb.wire.http_head import RequestHead

Check = Callable[[RequestHead], bool]
Matcher = tuple[Check, ...]

DOT_SEGMENT = re.compile(rb"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
QUERY_FIELDS = 1000
"""A query with more fields matches no query condition; parsing it would cost more than answering."""


def compile_rules(rules: Sequence[Rule]) -> tuple[Matcher, ...]:
    """The checks of every rule, in order."""
    return tuple(compile_match(rule.match) for rule in rules)


def find_rule(matchers: Sequence[Matcher], head: RequestHead) -> int | None:
    """The position of the first rule all of whose checks hold, or None."""
    for position, checks in enumerate(matchers):
        for check in checks:
            if not check(head):
                break
        else:
            return position
    return None


def compile_match(match: Match) -> Matcher:
    """The checks of one match, cheap ones first."""
    checks: list[Check] = []
    if match.methods:
        methods = frozenset(name.encode() for name in match.methods)
        checks.append(lambda head: head.method in methods)
    if match.path is not None:
        path = match.path.encode()
        checks.append(lambda head: head.target.partition(b"?")[0] == path)
    if match.path_prefix is not None and match.path_prefix.rstrip("/"):
        stem = match.path_prefix.rstrip("/").encode()
        checks.append(lambda head: _under(stem, head.target.partition(b"?")[0]))
    if match.hosts:
        exact = frozenset(name.encode() for name in match.hosts if not name.startswith("*."))
        endings = tuple(name[1:].encode() for name in match.hosts if name.startswith("*."))
        checks.append(lambda head: _host_matches(exact, endings, head.host))
    checks += [_header_check(name.encode(), value) for name, value in match.headers]
    if match.query:
        checks.append(lambda head: _query_matches(match.query, head.target.partition(b"?")[2]))
    return tuple(checks)


def _under(stem: bytes, path: bytes) -> bool:
    return (path == stem or path.startswith(stem + b"/")) and not DOT_SEGMENT.search(path)


def _host_matches(exact: frozenset[bytes], endings: tuple[bytes, ...], host: bytes) -> bool:
    name = host.lower()
    if not name.endswith(b"]"):
        name = re.sub(rb":\d*$", b"", name)
    return name in exact or (name.endswith(endings) and not name.startswith(b"."))


def _header_check(name: bytes, value: str | None) -> Check:
    if value is None:
        return lambda head: head.get(name) is not None
    wanted = value.encode("latin-1")
    return lambda head: any(field.lower == name and field.value == wanted for field in head.fields)


def _query_matches(conditions: Sequence[tuple[str, str | None]], query: bytes) -> bool:
    if query.count(b"&") >= QUERY_FIELDS:
        return False
    sent = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    return all(any(key == name and value in (None, given) for key, given in sent) for name, value in conditions)
