"""YAML text → a tree of parts, each with its place and its offsets in the text.

Works on ruamel.yaml's event stream rather than on its loaders. Every part comes with its place, and duplicate keys can
be reported without stopping. Depth and size are bounded before anything is built. The tree keeps the text's own
structure (what is in braces, what is an alias), for changes of the text (`rewrite`). `source` makes data of it.

Left out on purpose: tags (`!x`), which are faults, and several documents in a file.
"""

import re
from collections.abc import Iterator

import attrs
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from tierlb.topology.problems import Fault, Path
from tierlb.topology.units import shown

MAX_CHARS = 1 << 18
"""Thousands of tiers fit, and the worst text of this length takes the parser a few seconds."""
MAX_VALUES = 50_000
"""Keys and values, aliases counted out in full."""
MAX_DEPTH = 20
"""The format needs seven levels."""

LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML's reader counts as the end of a line."""
ANCHOR = re.compile(r"&\S+\s*")


@attrs.frozen(order=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


class UnreadableError(Exception):
    """The text is not YAML that could be a topology; the reason has one place in it."""

    def __init__(self, place: Place, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.place = place
        self.fault = Fault(path, message)


@attrs.frozen
class Word:
    """A scalar. Offsets are those of its first character, after an anchor, and past its last one."""

    start: int
    end: int
    place: Place
    text: str
    quoted: bool = False


@attrs.frozen
class ListPart:
    """A list. `flow`: in brackets."""

    start: int
    end: int
    place: Place
    flow: bool
    items: "tuple[Part, ...]"


@attrs.frozen
class MappingPart:
    """A mapping, in the file's order. `flow`: in braces."""

    start: int
    end: int
    place: Place
    flow: bool
    pairs: "tuple[tuple[Part, Part], ...]"

    @property
    def entries(self) -> "dict[str, MappingEntry]":
        """Keys with their values, by the text of the keys, in a mapping where each is a scalar and there once."""
        keys = [(key, meant(key), value) for key, value in self.pairs]
        words = [
            (attrs.evolve(word, start=key.start, end=key.end), value)
            for key, word, value in keys
            if isinstance(word, Word)
        ]
        return {word.text: MappingEntry(word, value) for word, value in words}


@attrs.frozen
class Alias:
    """`*name`, standing for a part that is written elsewhere."""

    start: int
    end: int
    part: "Word | ListPart | MappingPart"


Part = Word | ListPart | MappingPart | Alias


@attrs.frozen
class MappingEntry:
    """A key with its value."""

    key: Word
    value: Part


@attrs.frozen
class Parsed:
    """The whole text; `root` is None where it is empty. `shared`: from where to where the anchored parts go that have
    aliases. `spans`: the same of everything that is neither comment nor layout. `faults`: tags."""

    root: Part | None
    shared: tuple[tuple[int, int], ...]
    spans: tuple[tuple[int, int], ...]
    faults: tuple[tuple[Place, Fault], ...]


def parse_parts(text: str) -> Parsed:
    """Parse the text. Raises UnreadableError where no tree can be had at all."""
    lines = Lines(text)
    if len(text) > MAX_CHARS:
        raise UnreadableError(Place(1, 1), f"the file is too large: at most {MAX_CHARS} characters are read")
    if "\0" in text:
        raise UnreadableError(lines.place_of(text.index("\0")), "not a text file: it holds a NUL character")
    reader = PartReader(text, lines)
    try:
        return reader.read(YAML(typ="safe", pure=True).parse(text))
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
        raise UnreadableError(reader.at, f"not valid YAML near here: {printable_line(str(error))}") from None


def meant(part: Part) -> Word | ListPart | MappingPart:
    """The part itself, or what the alias stands for."""
    return part.part if isinstance(part, Alias) else part


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


class Bounds:
    """How many parts there are, and how deep they are nested, at most."""

    def __init__(self) -> None:
        self._seen = 0

    def count(self, place: Place, depth: int) -> None:
        """One more. Raises UnreadableError."""
        self._seen += 1
        if depth > MAX_DEPTH:
            raise UnreadableError(place, f"nested more than {MAX_DEPTH} levels deep")
        if self._seen > MAX_VALUES:
            raise UnreadableError(place, f"more than {MAX_VALUES} keys and values, aliases counted in full")


class PartReader:
    """Events → parts. `at`: the place of the last event."""

    def __init__(self, text: str, lines: Lines) -> None:
        self.at = Place(1, 1)
        self._text = text
        self._lines = lines
        self._bounds = Bounds()
        self._shared: list[tuple[int, int]] = []
        self._spans: list[tuple[int, int]] = []
        self._faults: list[tuple[Place, Fault]] = []
        self._anchors: dict[str, tuple[int, Word | ListPart | MappingPart]] = {}

    def read(self, events: Iterator[Event]) -> Parsed:
        """Read all events. Raises UnreadableError, and whatever ruamel raises."""
        root: Part | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise UnreadableError(self._mark(event), "a second YAML document begins: a topology is one")
                root = self._part(next(events), events, 0)
        return Parsed(root, tuple(self._shared), tuple(self._spans), tuple(self._faults))

    def _mark(self, event: Event) -> Place:
        self.at = self._lines.within(event.start_mark.line, event.start_mark.column)
        return self.at

    def _part(self, event: Event, events: Iterator[Event], depth: int) -> Part:
        place, start = self._mark(event), event.start_mark.index
        self._bounds.count(place, depth)
        if isinstance(event, AliasEvent):
            return self._alias(event, place)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        if event.tag is not None:
            self._faults.append((place, Fault((), f"tags such as {shown(str(event.tag))} have no meaning here")))
        found = ANCHOR.match(self._text, start) if event.anchor else None
        inner = found.end() if found else start
        part: Word | ListPart | MappingPart
        if isinstance(event, ScalarEvent):
            part = self._word(event, inner, place)
        else:
            part = self._collection(event, inner, place, events, depth)
        if event.anchor:
            self._anchors[event.anchor] = (start, part)
        return part

    def _alias(self, event: AliasEvent, place: Place) -> Alias:
        if event.anchor not in self._anchors:
            raise UnreadableError(place, f"the alias *{event.anchor[:60]} stands before the end of what it refers to")
        at, part = self._anchors[event.anchor]
        self._shared.append((at, part.end))
        alias = Alias(event.start_mark.index, event.end_mark.index, part)
        self._spans.append((alias.start, alias.end))
        return alias

    def _word(self, event: ScalarEvent, start: int, place: Place) -> Word:
        end: int = event.end_mark.index
        if event.style in ("|", ">"):
            # the parser goes on to the next line that is not blank
            raw = self._text[start:end]
            kept = "+" in LINE_END.split(raw)[0]
            end = start + len(raw[:-1] if kept and raw.endswith("\n") else raw.rstrip())
        found = Word(min(start, end), end, place, event.value, bool(event.style))
        self._spans.append((found.start, found.end))
        return found

    def _collection(
        self, event: CollectionStartEvent, start: int, place: Place, events: Iterator[Event], depth: int
    ) -> ListPart | MappingPart:
        parts = []
        while not isinstance(last := next(events), CollectionEndEvent):
            parts.append(self._part(last, events, depth + 1))
        flow = bool(event.flow_style)
        if flow or not parts:
            end = last.end_mark.index
            self._spans.append((start, end))
        else:
            start, end = parts[0].start, parts[-1].end
        if isinstance(event, MappingStartEvent):
            return MappingPart(start, end, place, flow, tuple(zip(parts[::2], parts[1::2], strict=True)))
        return ListPart(start, end, place, flow, tuple(parts))


def printable_line(text: str) -> str:
    """A parser's message, which may quote the file, made safe to print."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]
