"""YAML text → its parts with their offsets, for changes of the text.

`source` reads the same events for data: it follows aliases, keeps lines and columns, and bounds what it reads. This one
keeps the text's own structure (what is in braces, what is an alias) and relies on the loader having been there before.
"""

import re
from collections.abc import Iterator

import attrs
from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
)

from tierlb.topology.source import LINE_END

ANCHOR = re.compile(r"&\S+\s*")


@attrs.frozen
class Word:
    """A scalar. Offsets are those of its first character, after an anchor, and past its last one."""

    start: int
    end: int
    text: str


@attrs.frozen
class ListPart:
    """A list. `flow`: in brackets."""

    start: int
    end: int
    flow: bool
    items: "tuple[Part, ...]"


@attrs.frozen
class MappingPart:
    """A mapping by the text of its keys, in the file's order. `flow`: in braces."""

    start: int
    end: int
    flow: bool
    entries: "dict[str, MappingEntry]"


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
    """The whole text. `shared`: from where to where the anchored parts go that have aliases. `spans`: the same of
    everything that is neither comment nor layout."""

    root: Part
    shared: tuple[tuple[int, int], ...]
    spans: tuple[tuple[int, int], ...]


def parse_parts(text: str) -> Parsed:
    """Read a text that the loader has accepted."""
    return PartReader(text).read(YAML(typ="safe", pure=True).parse(text))


def meant(part: Part) -> Word | ListPart | MappingPart:
    """The part itself, or what the alias stands for."""
    return part.part if isinstance(part, Alias) else part


class PartReader:
    """Events → parts."""

    def __init__(self, text: str) -> None:
        self._shared: list[tuple[int, int]] = []
        self._spans: list[tuple[int, int]] = []
        self._text = text
        self._anchors: dict[str, tuple[int, Word | ListPart | MappingPart]] = {}

    def read(self, events: Iterator[Event]) -> Parsed:
        """Read all events of a text that loads."""
        while not isinstance(next(events), DocumentStartEvent):
            pass
        root = self._part(next(events), events)
        return Parsed(root, tuple(self._shared), tuple(self._spans))

    def _part(self, event: Event, events: Iterator[Event]) -> Part:
        start = event.start_mark.index
        if isinstance(event, AliasEvent):
            at, part = self._anchors[event.anchor]
            self._shared.append((at, part.end))
            return self._noted(Alias(start, event.end_mark.index, part))
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        found = ANCHOR.match(self._text, start) if event.anchor else None
        inner = found.end() if found else start
        part = self._word(event, inner) if isinstance(event, ScalarEvent) else self._collection(event, inner, events)
        if event.anchor:
            self._anchors[event.anchor] = (start, part)
        return part

    def _noted(self, part: Part) -> Part:
        self._spans.append((part.start, part.end))
        return part

    def _word(self, event: ScalarEvent, start: int) -> Word:
        end: int = event.end_mark.index
        if event.style in ("|", ">"):
            # the parser goes on to the next line that is not blank
            raw = self._text[start:end]
            kept = "+" in LINE_END.split(raw)[0]
            end = start + len(raw[:-1] if kept and raw.endswith("\n") else raw.rstrip())
        found = Word(min(start, end), end, event.value)
        self._noted(found)
        return found

    def _collection(self, event: CollectionStartEvent, start: int, events: Iterator[Event]) -> ListPart | MappingPart:
        parts = []
        while not isinstance(last := next(events), CollectionEndEvent):
            parts.append(self._part(last, events))
        flow = bool(event.flow_style)
        if not flow:
            start = parts[0].start
        end = last.end_mark.index if flow else parts[-1].end
        if flow:
            self._spans.append((start, end))
        if not isinstance(event, MappingStartEvent):
            return ListPart(start, end, flow, tuple(parts))
        entries = {}
        for key, value in zip(parts[::2], parts[1::2], strict=True):
            scalar = meant(key)
            assert isinstance(scalar, Word)
            entries[scalar.text] = MappingEntry(Word(key.start, key.end, scalar.text), value)
        return MappingPart(start, end, flow, entries)
