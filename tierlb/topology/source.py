"""YAML text → plain mappings, lists and scalars, with the place of every one of them.

Works on ruamel.yaml's event stream rather than on its loaders, for three reasons: every key and value comes with its
place, duplicate keys can be reported without stopping, and depth and size are bounded before anything is built (deep
nesting, or aliases that multiply, cost nothing). Scalars stay text, since only the key they stand under decides how
they are read: a header value `1.10` is not 1.1, and `no` is not false.

Left out on purpose: merge keys (`<<`), tags (`!x`) and several documents in a file.
"""

import re
from collections.abc import Iterator
from typing import Any

import attrs
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from tierlb.topology.problems import Fault, Path
from tierlb.topology.typed import Scalar
from tierlb.topology.units import shown

MAX_CHARS = 1 << 18
"""Thousands of tiers fit, and the worst text of this length takes the parser a few seconds."""
MAX_VALUES = 50_000
"""Keys and values, aliases counted out in full."""
MAX_DEPTH = 20
"""The format needs seven levels."""

LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML's reader counts as the end of a line."""
NULLS = frozenset({"", "~", "null", "Null", "NULL"})


Data = dict[str, Any] | list[Any] | Scalar | None


@attrs.frozen(order=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


@attrs.frozen
class YamlSource:
    """A file's data, where each part of it stands, and what was wrong with the YAML itself."""

    data: Data
    keys: dict[Path, Place]
    values: dict[Path, Place]
    faults: tuple[tuple[Place, Fault], ...] = ()

    def place(self, path: Path, *, at_key: bool = False) -> Place:
        """Where to point for a path; for one that is not in the file, where its nearest parent is."""
        while path:
            place = self.keys.get(path) if at_key or path not in self.values else self.values[path]
            if place is not None:
                return place
            path, at_key = path[:-1], True
        return self.values.get((), Place(1, 1))


class UnreadableError(Exception):
    """The text is not YAML that could be a topology; the reason has one place in it."""

    def __init__(self, place: Place, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.place = place
        self.fault = Fault(path, message)


def read_source(text: str) -> YamlSource:
    """Parse the text. Raises UnreadableError where no data can be had at all."""
    lines = Lines(text)
    if len(text) > MAX_CHARS:
        raise UnreadableError(Place(1, 1), f"the file is too large: at most {MAX_CHARS} characters are read")
    if "\0" in text:
        raise UnreadableError(lines.place_of(text.index("\0")), "not a text file: it holds a NUL character")
    builder = Builder(lines)
    try:
        return builder.build(YAML(typ="safe", pure=True).parse(text))
    except UnreadableError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = lines.within(mark.line, mark.column) if mark else Place(1, 1)
        reason = error.problem or error.context or "syntax error"
        raise UnreadableError(place, f"not valid YAML: {printable_line(reason)}") from None
    except ReaderError as error:
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise UnreadableError(lines.place_of(error.position), message) from None
    except Exception as error:
        # ruamel lets other exceptions out on hostile text (ValueError on "\UFFFFFFFF", for one): same meaning
        raise UnreadableError(builder.at, f"not valid YAML near here: {printable_line(str(error))}") from None


class Lines:
    """Where the lines of a text begin, to keep every place inside of it."""

    def __init__(self, text: str) -> None:
        self.lengths = [len(line) for line in LINE_END.split(text)]
        if len(self.lengths) > 1 and self.lengths[-1] == 0:
            self.lengths.pop()
        self._text = text

    def within(self, line: int, column: int) -> Place:
        """The place for a position counted from 0; a position past the end is moved to the end."""
        if line >= len(self.lengths):
            return Place(len(self.lengths), self.lengths[-1] + 1)
        return Place(line + 1, min(column, self.lengths[line]) + 1)

    def place_of(self, index: int) -> Place:
        """The place of a character of the text."""
        before = LINE_END.split(self._text[:index])
        return self.within(len(before) - 1, len(before[-1]))


@attrs.frozen
class ScalarNode:
    """A parsed value that has no path yet: an alias may put it under several."""

    place: Place
    scalar: Scalar | None


@attrs.frozen
class ListNode:
    place: Place
    items: "list[SourceNode]"


@attrs.frozen
class MappingNode:
    place: Place
    pairs: "list[tuple[SourceNode, SourceNode]]"


SourceNode = ScalarNode | ListNode | MappingNode


class Builder:
    """Events → nodes → data with places."""

    def __init__(self, lines: Lines) -> None:
        self.at = Place(1, 1)
        self._lines = lines
        self._anchors: dict[str, SourceNode] = {}
        self._keys: dict[Path, Place] = {}
        self._values: dict[Path, Place] = {}
        self._faults: list[tuple[Place, Fault]] = []
        self._seen = 0

    def build(self, events: Iterator[Event]) -> YamlSource:
        """Read all events. Raises UnreadableError, and whatever ruamel raises."""
        root: SourceNode | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise UnreadableError(self._mark(event), "a second YAML document begins: a topology is one")
                root = self._node(next(events), events, 0)
        self._seen = 0
        data = self._expand(root, (), 0) if root else None
        return YamlSource(data, self._keys, self._values, tuple(self._faults))

    def _mark(self, event: Event) -> Place:
        self.at = self._lines.within(event.start_mark.line, event.start_mark.column)
        return self.at

    def _node(self, event: Event, events: Iterator[Event], depth: int) -> SourceNode:
        place = self._mark(event)
        self._count(place, depth)
        if isinstance(event, AliasEvent):
            return self._alias(event.anchor, place)
        assert isinstance(event, (ScalarEvent, CollectionStartEvent))
        if event.tag is not None:
            tag = shown(str(event.tag))
            self._faults.append((place, Fault((), f"tags such as {tag} have no meaning here")))
        node = self._content(event, events, depth, place)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: Event, events: Iterator[Event], depth: int, place: Place) -> SourceNode:
        if isinstance(event, ScalarEvent):
            quoted = bool(event.style)
            null = not quoted and event.value in NULLS
            return ScalarNode(place, None if null else Scalar(event.value, quoted))
        is_list = isinstance(event, SequenceStartEvent)
        children = []
        while not isinstance(event := next(events), (SequenceEndEvent, MappingEndEvent)):
            children.append(self._node(event, events, depth + 1))
        if is_list:
            return ListNode(place, children)
        return MappingNode(place, list(zip(children[::2], children[1::2], strict=True)))

    def _alias(self, anchor: str, place: Place) -> SourceNode:
        if anchor not in self._anchors:
            raise UnreadableError(place, f"the alias *{anchor[:60]} stands before the end of what it refers to")
        return self._anchors[anchor]

    def _count(self, place: Place, depth: int) -> None:
        self._seen += 1
        if depth > MAX_DEPTH:
            raise UnreadableError(place, f"nested more than {MAX_DEPTH} levels deep")
        if self._seen > MAX_VALUES:
            raise UnreadableError(place, f"more than {MAX_VALUES} keys and values, aliases counted in full")

    def _expand(self, node: SourceNode, path: Path, depth: int) -> Data:
        """Give a node its path. Counts again, since aliases can multiply nodes."""
        self._count(node.place, depth)
        self._values[path] = node.place
        if isinstance(node, ListNode):
            return [self._expand(item, (*path, index), depth + 1) for index, item in enumerate(node.items)]
        if isinstance(node, MappingNode):
            return self._expand_mapping(node, path, depth)
        if node.scalar is None and path in self._keys:
            self._values[path] = self._keys[path]
        return node.scalar

    def _expand_mapping(self, node: MappingNode, path: Path, depth: int) -> Data:
        data: dict[str, Any] = {}
        for key, value in node.pairs:
            self._count(key.place, depth)
            if not isinstance(key, ScalarNode):
                self._faults.append((key.place, Fault(path, "a key must be plain text")))
                continue
            name = key.scalar.text if key.scalar else "null"
            here = (*path, name)
            if here in self._keys:
                first = self._keys[here].line
                self._faults.append((key.place, Fault(here, f"duplicate key, first given in line {first}")))
                continue
            self._keys[here] = key.place
            data[name] = self._expand(value, here, depth + 1)
        return data


def printable_line(text: str) -> str:
    """A parser's message, which may quote the file, made safe to print."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]
