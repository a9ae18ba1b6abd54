"""Changes to a YAML text that leave all other characters as they are.

ruamel.yaml's round trip writes the whole file anew: comments survive, but lists move to another indentation and empty
values become `null`. So only its parser is used: text → parts with their offsets (`parts`) → splices of the text.

Which comments belong to an entry of a block mapping is a matter of layout: the lines right above its key at the key's
own indentation, what follows on its last line, and the lines right below it that are indented deeper. They go where it
goes; all others stay. What an anchor shares between places is never changed in one of them: `Sheet.spliced` refuses.
"""

import bisect
import re
from collections.abc import Iterable, Iterator

import attrs

from tierlb.topology.parts import Alias, Entry, Mapping, Part, Series, Word, meant, parse
from tierlb.topology.source import LINE_END

COMMENT = re.compile(r" *#")
NOT_ANYWHERE = re.compile(rf"{LINE_END.pattern}|[#&*]")
"""What may keep a flow mapping or list from being copied as it is."""
DASH = re.compile(r" *-\s+")
PLAIN_WORD = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)[a-z][a-z0-9-]*")
"""Names that no YAML reader takes for something else; all others are quoted."""
DEFAULT_INDENT = 2


class LayoutError(ValueError):
    """The text is valid YAML, but not written in a way that can be changed here; the message says how to write it."""


@attrs.frozen
class Splice:
    """Put `text` (lines end in a line feed) in the place of the characters from `start` to `end`. `within`: an offset
    inside of what is changed, even where an insertion itself stands behind it."""

    start: int
    end: int
    text: str
    within: int


def entry_text(key: str, value: str, column: int | None) -> str:
    """An entry of a mapping with its keys at the column: a line, or what stands between braces."""
    return f"{key}:{value}" if column is None else f"{' ' * column}{key}:{value}\n"


def word(text: str) -> str:
    """A name as YAML."""
    return text if PLAIN_WORD.fullmatch(text) else f'"{text}"'


class Sheet:
    """One text, its parts, and the splices that change it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(found.end() for found in LINE_END.finditer(text))]
        self._parsed = parse(text)
        spans = [(self._line(start), self._line(end)) for start, end in self._parsed.spans]
        self._taken = {line for first, last in spans for line in range(first, last + 1)}

    def mapping(self, *path: str) -> Mapping:
        """The mapping that the keys lead to."""
        found = meant(self._parsed.root)
        for key in path:
            assert isinstance(found, Mapping)
            found = meant(found.entries[key].value)
        assert isinstance(found, Mapping)
        return found

    def spliced(self, splices: Iterable[Splice]) -> str:
        """The text with the splices carried out; they must not overlap. Raises LayoutError if one of them changes what
        an alias shares."""
        line_feed = "\r\n" if "\r\n" in self.text else "\n"
        pieces, done = [], 0
        for splice in sorted(splices, key=lambda splice: (splice.start, splice.end)):
            assert done <= splice.start
            self._refuse_shared(splice)
            pieces += [self.text[done : splice.start], splice.text.replace("\n", line_feed)]
            done = splice.end
        return "".join([*pieces, self.text[done:]])

    def renamed(self, part: Part, name: str) -> Splice:
        """Write a name in the place of a scalar or of an alias for one, in the quotes that are there."""
        quote = self.text[part.start] if self.text[part.start] in "'\"" else ""
        return self.replaced(part, f"{quote}{name}{quote}" if quote else word(name))

    def replaced(self, part: Part, text: str) -> Splice:
        """Write other text in the place of a part."""
        return Splice(part.start, part.end, text, part.start)

    def with_value(self, entry: Entry, value: str, *, comment: bool = False) -> Splice:
        """Write another value, as `value_text` gives it, in the place of the entry's; and of the comment behind it."""
        end = entry.value.end + (len(self._tail(entry)) if comment else 0)
        if isinstance(entry.value, Mapping | Series) and not entry.value.flow:
            return Splice(self._after_colon(entry), end, value, entry.value.start)
        plain = value.removeprefix(" ")
        is_block = plain.lstrip(" ")[:1] in "#\n"
        start = self._after_colon(entry) if is_block else entry.value.start
        return Splice(start, end, value if is_block else plain, entry.value.start)

    def with_key(self, mapping: Mapping, key: str, value: str, after: Iterable[str]) -> Splice:
        """Set a scalar; a key that is not there yet comes behind the last of those in `after` that is."""
        if key in mapping.entries:
            return self.replaced(mapping.entries[key].value, value)
        return self.with_entry(mapping, entry_text(key, f" {value}", self.column(mapping)), after)

    def with_entry(self, mapping: Mapping, entry: str, after: Iterable[str]) -> Splice:
        """Put an entry, written for the mapping's column, behind the last of the keys in `after` that is there."""
        last = mapping.entries[[key for key in after if key in mapping.entries][-1]]
        if mapping.flow:
            return Splice(last.value.end, last.value.end, f", {entry}", mapping.start)
        line = self._lines(last)[1]
        at = self._next(line)
        if self._end(line) == at:
            entry = "\n" + entry.removesuffix("\n")
        return Splice(at, at, entry, mapping.start)

    def with_block(self, mapping: Mapping, block: str, *, before: str | None = None, after: str = "") -> Splice:
        """Put a larger entry beside another one, with a blank line between if that is how the mapping is written."""
        blank = "\n" if not mapping.flow and self._is_spaced(mapping) else ""
        if before is None:
            return self.with_entry(mapping, blank + block, [after])
        start = mapping.entries[before].key.start
        if mapping.flow:
            return Splice(start, start, f"{block}, ", mapping.start)
        start = self._starts[self._lines(mapping.entries[before])[0]]
        return Splice(start, start, block + blank, mapping.start)

    def without(self, mapping: Mapping, key: str) -> Splice:
        """Take an entry out, with its comments, and with the blank lines that kept it apart."""
        entries = list(mapping.entries.values())
        index = list(mapping.entries).index(key)
        if mapping.flow:
            spans = [(entry.key.start, entry.value.end) for entry in entries]
            return self._without_of_flow(spans, index, mapping.start)
        first, last = self._lines(entries[index])
        return self._without_lines(first, last, mapping.start, is_last=index + 1 == len(entries))

    def without_item(self, series: Series, index: int) -> Splice:
        """Take an item out of a list of scalars."""
        item = series.items[index]
        if series.flow:
            return self._without_of_flow([(item.start, item.end) for item in series.items], index, series.start)
        self._item_indent(item)
        is_last = index + 1 == len(series.items)
        return self._without_lines(self._line(item.start), self._line(item.end), series.start, is_last=is_last)

    def with_items(self, series: Series, index: int, names: list[str]) -> Splice:
        """Write names in the place of one item of a list of scalars."""
        item = series.items[index]
        if len(names) == 1:
            return self.renamed(item, names[0])
        between = ", " if series.flow else "\n" + self._item_indent(item)
        return self.replaced(item, between.join(map(word, names)))

    def with_pairs(self, mapping: Mapping, key: str, pairs: dict[str, str]) -> Splice:
        """Write names with their scalars in the place of one entry of a mapping to scalars."""
        entry = mapping.entries[key]
        column = self.column(mapping)
        between = ", " if column is None else "\n" + " " * column
        text = between.join(f"{word(name)}: {value}" for name, value in pairs.items())
        return Splice(entry.key.start, entry.value.end, text, mapping.start)

    def as_mapping(self, entry: Entry, series: Series, values: list[str]) -> Iterator[Splice]:
        """Make the entry's list of scalars a mapping from each of them to a value; comments and layout stay."""
        within = series.start
        for item, value in zip(series.items, values, strict=True):
            if not isinstance(item, Word):
                line = self._line(item.start) + 1
                raise LayoutError(f"line {line}: write the item out, without an alias, and try again")
            if not series.flow:
                dash = self._item_indent(item)
                column = len(dash) - len(dash.lstrip(" "))
                column = column if column > self._column_of(entry) else self._column_of(entry) + DEFAULT_INDENT
                yield Splice(self._starts[self._line(item.start)], item.start, " " * column, within)
            yield Splice(item.end, item.end, f": {value}", within)
        if series.flow:
            yield Splice(series.start, series.start + 1, "{", within)
            yield Splice(series.end - 1, series.end, "}", within)

    def column(self, mapping: Mapping) -> int | None:
        """How far the keys of a block mapping are indented; None for a flow mapping."""
        return None if mapping.flow else self._column_of(next(iter(mapping.entries.values())))

    def inner_column(self, mapping: Mapping, beside: str) -> int | None:
        """The column for the keys of a new mapping in a mapping, by the example of those that are there."""
        column = self.column(mapping)
        if column is None:
            return None
        entries = mapping.entries
        for entry in (entries[beside], *entries.values()):
            if isinstance(entry.value, Mapping) and not entry.value.flow:
                return self.column(entry.value)
        return column + (column or DEFAULT_INDENT)

    def moved(self, mapping: Mapping, key: str, column: int | None) -> str:
        """An entry as it would be written in a mapping with its keys at the column; comments go along between block
        mappings."""
        entry = mapping.entries[key]
        if mapping.flow or column is None:
            return entry_text(key, f" {self.flow_text(entry.value)}", column)
        first, last = self._lines(entry)
        lines = LINE_END.split(self.text[self._starts[first] : self._end(last)])
        return "".join(f"{line}\n" for line in _shifted(lines, column - self._column_of(entry)))

    def value_text(self, mapping: Mapping, key: str, column: int | None) -> str:
        """What stands behind an entry's colon, as it would be written in a mapping with its keys at the column."""
        entry = mapping.entries[key]
        if column is None or isinstance(entry.value, Alias | Word):
            return f" {self.flow_text(entry.value)}" + ("" if column is None else self._tail(entry))
        start = entry.value.start if entry.value.flow else self._after_colon(entry)
        first, *others = LINE_END.split(self.text[start : entry.value.end] + self._tail(entry))
        shift = 0 if mapping.flow else column - self._column_of(entry)
        return (" " if entry.value.flow else "") + "\n".join([first, *_shifted(others, shift)])

    def flow_text(self, part: Part) -> str:
        """The part on one line, as it can stand anywhere; as it is written, if that is so."""
        found = meant(part)
        raw = self.text[found.start : found.end]
        if isinstance(found, Word):
            return word(found.text) if raw[:1] in "|>*" or LINE_END.search(raw) else raw
        if found.flow and not NOT_ANYWHERE.search(raw):
            return raw
        if isinstance(found, Series):
            return "[" + ", ".join(map(self.flow_text, found.items)) + "]"
        pairs = (f"{self.flow_text(entry.key)}: {self.flow_text(entry.value)}" for entry in found.entries.values())
        return "{" + ", ".join(pairs) + "}"

    def _refuse_shared(self, splice: Splice) -> None:
        for start, end in self._parsed.shared:
            covers = splice.start <= start and end <= splice.end
            if covers or start <= splice.within < end:
                name = self.text[start:end].split(None, 1)[0]
                line = self._line(start) + 1
                raise LayoutError(
                    f"line {line}: the edit changes what {name} shares with another place: "
                    f"write it out in both places, without {name}, and try again"
                )

    def _lines(self, entry: Entry) -> tuple[int, int]:
        """The first and the last line of an entry of a block mapping, its comments included."""
        column = self._column_of(entry)
        first, last = self._line(entry.key.start), self._line(entry.value.end)
        while first > 0 and self._comment_column(first - 1) == column:
            first -= 1
        while last + 1 < len(self._starts) and self._comment_column(last + 1) > column:
            last += 1
        return first, last

    def _column_of(self, entry: Entry) -> int:
        start = self._starts[self._line(entry.key.start)]
        indent = self.text[start : entry.key.start]
        if indent.strip(" -"):
            line = self._line(entry.key.start) + 1
            raise LayoutError(f"line {line}: write the key {entry.key.text!r} plainly, as key: value, and try again")
        return len(indent)

    def _comment_column(self, line: int) -> int:
        """The column of the comment that a line consists of, -1 if it is no such line."""
        found = None if line in self._taken else COMMENT.match(self.text, self._starts[line])
        return found.end() - 1 - self._starts[line] if found else -1

    def _is_blank(self, line: int) -> bool:
        start, end = self._starts[line], self._next(line)
        return start < end and line not in self._taken and not self.text[start:end].strip()

    def _is_spaced(self, mapping: Mapping) -> bool:
        """Whether blank lines keep the mapping's entries apart; one entry alone is judged by what follows it."""
        lines = [self._lines(entry) for entry in mapping.entries.values()]
        gaps = [last + 1 for _, last in (lines[:-1] or lines)]
        return any(line + 1 < len(self._starts) and self._is_blank(line) for line in gaps)

    def _tail(self, entry: Entry) -> str:
        """The comment behind an entry on its last line, with the space before it; nothing for one in a flow mapping."""
        tail = self.text[entry.value.end : self._end(self._line(entry.value.end))].rstrip()
        return tail if COMMENT.match(tail) else ""

    def _after_colon(self, entry: Entry) -> int:
        return self.text.index(":", entry.key.end) + 1

    def _item_indent(self, item: Part) -> str:
        start = self._starts[self._line(item.start)]
        found = DASH.match(self.text, start, item.start)
        if not found:
            line = self._line(item.start) + 1
            raise LayoutError(f"line {line}: write each item of the list on a line with its dash, and try again")
        return found[0]

    def _without_of_flow(self, spans: list[tuple[int, int]], index: int, within: int) -> Splice:
        start, end = spans[index]
        if index + 1 < len(spans):
            return Splice(start, spans[index + 1][0], "", within)
        before = spans[index - 1][1] if index else start
        # a comment behind the part before would go too; a comma at the end is harmless
        return Splice(start if "#" in self.text[before:start] else before, end, "", within)

    def _without_lines(self, first: int, last: int, within: int, *, is_last: bool) -> Splice:
        if is_last:
            while first > 0 and self._is_blank(first - 1):
                first -= 1
        else:
            while last + 1 < len(self._starts) and self._is_blank(last + 1):
                last += 1
        return Splice(self._starts[first], self._next(last), "", within)

    def _line(self, offset: int) -> int:
        return bisect.bisect_right(self._starts, offset) - 1

    def _next(self, line: int) -> int:
        """Where the next line begins."""
        return self._starts[line + 1] if line + 1 < len(self._starts) else len(self.text)

    def _end(self, line: int) -> int:
        """Where the line ends, without what ends it."""
        found = LINE_END.search(self.text, self._starts[line])
        return found.start() if found else len(self.text)


def _shifted(lines: list[str], by: int) -> Iterator[str]:
    """The lines further right, or further left as far as they are indented."""
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        yield " " * max(indent + by, 0) + line[indent:] if line.strip() else line
