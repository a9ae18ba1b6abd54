"""The lines of a YAML text and what belongs to an entry of it: its comments, its column, the blank lines around it.

Which comments belong to an entry of a block mapping is a matter of layout. They are the lines right above its key at
the key's own indentation, what follows on its last line, and the lines right below it that are indented deeper. They go
where it goes; all others stay.
"""

import bisect
import re
from collections.abc import Iterable

from tierlb.topology.parts import LINE_END, MappingEntry, MappingPart, Part

COMMENT = re.compile(r" *#")
DASH = re.compile(r" *-\s+")
DEFAULT_INDENT = 2


class LayoutError(ValueError):
    """The text is valid YAML, but not written in a way that can be changed here; the message says how to write it."""


class Layout:
    """Lines are counted from 0; `spans` are the places of everything that is neither comment nor layout."""

    def __init__(self, text: str, spans: Iterable[tuple[int, int]]) -> None:
        self.text = text
        self._starts = [0, *(found.end() for found in LINE_END.finditer(text))]
        lines = [(self.line(start), self.line(end)) for start, end in spans]
        self._taken = {line for first, last in lines for line in range(first, last + 1)}

    def line(self, offset: int) -> int:
        """The line in which a character stands."""
        return bisect.bisect_right(self._starts, offset) - 1

    def start(self, line: int) -> int:
        """Where the line begins."""
        return self._starts[line]

    def next(self, line: int) -> int:
        """Where the next line begins."""
        return self._starts[line + 1] if line + 1 < len(self._starts) else len(self.text)

    def end(self, line: int) -> int:
        """Where the line ends, without what ends it."""
        found = LINE_END.search(self.text, self._starts[line])
        return found.start() if found else len(self.text)

    def lines_of(self, entry: MappingEntry) -> tuple[int, int]:
        """The first and the last line of an entry of a block mapping, its comments included."""
        column = self.column_of(entry)
        first, last = self.line(entry.key.start), self.line(entry.value.end)
        while first > 0 and self._comment_column(first - 1) == column:
            first -= 1
        while last + 1 < len(self._starts) and self._comment_column(last + 1) > column:
            last += 1
        return first, last

    def with_blank_lines(self, first: int, last: int, *, is_last: bool) -> tuple[int, int]:
        """The same lines and the blank ones that keep them apart: those below them, or above the last of a mapping."""
        while is_last and first > 0 and self._is_blank(first - 1):
            first -= 1
        while not is_last and last + 1 < len(self._starts) and self._is_blank(last + 1):
            last += 1
        return first, last

    def column_of(self, entry: MappingEntry) -> int:
        """How far the key is indented. Raises LayoutError where other text stands before it."""
        line = self.line(entry.key.start)
        indent = self.text[self._starts[line] : entry.key.start]
        if indent.strip(" -"):
            said = f"line {line + 1}: write the key {entry.key.text!r} plainly, as key: value, and try again"
            raise LayoutError(said)
        return len(indent)

    def column(self, mapping: MappingPart) -> int | None:
        """How far the keys of a block mapping are indented; None for a flow mapping."""
        return None if mapping.flow else self.column_of(next(iter(mapping.entries.values())))

    def inner_column(self, mapping: MappingPart, beside: str) -> int | None:
        """The column for the keys of a new mapping in a mapping, by the example of those that are there."""
        column = self.column(mapping)
        if column is None:
            return None
        entries = mapping.entries
        for entry in (entries[beside], *entries.values()):
            if isinstance(entry.value, MappingPart) and not entry.value.flow:
                return self.column(entry.value)
        return column + (column or DEFAULT_INDENT)

    def item_indent(self, item: Part) -> str:
        """What stands before an item of a block list on its line. Raises LayoutError where there is no dash."""
        line = self.line(item.start)
        found = DASH.match(self.text, self._starts[line], item.start)
        if not found:
            raise LayoutError(f"line {line + 1}: write each item of the list on a line with its dash, and try again")
        return found[0]

    def is_spaced(self, mapping: MappingPart) -> bool:
        """Whether blank lines keep the mapping's entries apart; one entry alone is judged by what follows it."""
        lines = [self.lines_of(entry) for entry in mapping.entries.values()]
        gaps = [last + 1 for _, last in (lines[:-1] or lines)]
        return any(line + 1 < len(self._starts) and self._is_blank(line) for line in gaps)

    def tail(self, entry: MappingEntry) -> str:
        """The comment behind an entry on its last line, with the space before it; nothing for one in a flow mapping."""
        tail = self.text[entry.value.end : self.end(self.line(entry.value.end))].rstrip()
        return tail if COMMENT.match(tail) else ""

    def after_colon(self, entry: MappingEntry) -> int:
        """Where what follows the entry's colon begins."""
        return self.text.index(":", entry.key.end) + 1

    def _comment_column(self, line: int) -> int:
        """The column of the comment that a line consists of, -1 if it is no such line."""
        found = None if line in self._taken else COMMENT.match(self.text, self._starts[line])
        return found.end() - 1 - self._starts[line] if found else -1

    def _is_blank(self, line: int) -> bool:
        start, end = self._starts[line], self.next(line)
        return start < end and line not in self._taken and not self.text[start:end].strip()
