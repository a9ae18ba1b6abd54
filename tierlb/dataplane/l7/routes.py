"""Which rule a request falls under. Pure: a function of the parsed head and of the snapshot's rules.

A match is compiled into the list of the checks it really makes, so a route without conditions costs nothing and
one with a path costs one comparison.

Unless the tier says `paths: as-sent`, the path in a head is brought into normal form first, and that is what is matched
and what is forwarded (wire/http_path.py). Where servers may read it in another way, each reading must lead to the same
action, else the request is refused: a rule is not to be passed by with a spelling. With `as-sent`, paths are compared
byte by byte, and one with a segment `.` or `..`, plain or encoded, is under no prefix other than `/`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import parse_qsl

from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Paths
from tierlb.wire import http_path
from tierlb.wire.head_values import RequestHead
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_path import BadPath

Check = Callable[[RequestHead, bytes], bool]
"""Takes the head, and the path as it is compared."""
Matcher = tuple[Check, ...]

DOT_SEGMENT: Final = re.compile(rb"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
QUERY_FIELDS: Final = 1000
"""A query with more fields is refused where a route looks at it; parsing it would cost more than answering."""


class Routes:
    """The rules of a snapshot, compiled."""

    __slots__ = ("_actions", "_as_sent", "_guards_paths", "_matchers")

    def __init__(self, rules: Sequence[Rule], paths: Paths) -> None:
        self._as_sent = paths is Paths.AS_SENT
        self._matchers = tuple(compile_match(rule.match, paths) for rule in rules)
        self._actions = tuple(rule.action for rule in rules)
        self._guards_paths = any(rule.match.path is not None or rule.match.path_prefix is not None for rule in rules)

    def find(self, head: RequestHead) -> tuple[int | None, RequestHead]:
        """The position of the first rule all of whose checks hold, or None, and the head as it is to be forwarded.

        Raises BadHead for a path that could pass a rule by.
        """
        target = head.target
        if self._as_sent or http_path.is_plain(target):
            return self._first(head, target.partition(b"?")[0]), head
        path, mark, query = target.partition(b"?")
        try:
            return self._find_unusual(head, path, mark + query)
        except BadPath as error:
            if self._guards_paths:
                raise BadHead(400, str(error)) from None
            return self._first(head, path), head

    def _find_unusual(self, head: RequestHead, path: bytes, query: bytes) -> tuple[int | None, RequestHead]:
        """Raises BadPath, BadHead."""
        if path == b"*":
            return self._first(head, path), head
        normal = http_path.normal(path)
        if normal != path:
            head = RequestHead(head.method, normal + query, head.minor, head.block)
        position = self._first(head, http_path.key(normal))
        if self._guards_paths:
            action = self._action(position)
            for reading in http_path.readings(normal):
                if self._action(self._first(head, reading)) != action:
                    raise BadHead(400, "the path can be read in two ways, and the routes here treat them differently")
        return position, head

    def _first(self, head: RequestHead, path: bytes) -> int | None:
        for position, checks in enumerate(self._matchers):
            for check in checks:
                if not check(head, path):
                    break
            else:
                return position
        return None

    def _action(self, position: int | None) -> object:
        return None if position is None else self._actions[position]


def compile_match(match: Match, paths: Paths = Paths.NORMALISED) -> Matcher:
    """The checks of one match, cheap ones first."""
    checks: list[Check] = []
    if match.methods:
        methods = frozenset(name.encode() for name in match.methods)
        checks.append(lambda head, _: head.method in methods)
    if match.path is not None:
        whole = _as_compared(match.path, paths)
        checks.append(lambda _, path: path == whole)
    if match.path_prefix is not None and match.path_prefix.rstrip("/"):
        stem = _as_compared(match.path_prefix.rstrip("/"), paths)
        checks.append(lambda _, path: _under(stem, path))
    if match.hosts:
        exact = frozenset(name.encode() for name in match.hosts if not name.startswith("*."))
        endings = tuple(name[1:].encode() for name in match.hosts if name.startswith("*."))
        checks.append(lambda head, _: _host_matches(exact, endings, head.host_name))
    checks += [_header_check(name.encode(), value) for name, value in match.headers]
    if match.query:
        checks.append(lambda head, _: _query_matches(match.query, head.target.partition(b"?")[2]))
    return tuple(checks)


def _as_compared(path: str, paths: Paths) -> bytes:
    return path.encode() if paths is Paths.AS_SENT else http_path.key(http_path.normal(path.encode()))


def _under(stem: bytes, path: bytes) -> bool:
    return (path == stem or path.startswith(stem + b"/")) and not DOT_SEGMENT.search(path)


def _host_matches(exact: frozenset[bytes], endings: tuple[bytes, ...], name: bytes) -> bool:
    return name in exact or (name.endswith(endings) and not name.startswith(b"."))


def _header_check(name: bytes, value: str | None) -> Check:
    if value is None:
        return lambda head, _: head.get(name) is not None
    wanted = value.encode("latin-1")
    return lambda head, _: any(field.lower == name and field.value == wanted for field in head.fields)


def _query_matches(conditions: Sequence[tuple[str, str | None]], query: bytes) -> bool:
    if query.count(b"&") >= QUERY_FIELDS:
        raise BadHead(400, f"the query has more than {QUERY_FIELDS} fields")
    sent = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    return all(any(key == name and value in (None, given) for key, given in sent) for name, value in conditions)
