"""Changes to a YAML text that leave all other characters as they are.

ruamel.yaml's round trip writes the whole file anew: comments survive, but lists move to another indentation and empty
values become `null`. So only its parser is used: text → parts with their offsets (`parts`) → splices of the text.
`layout` finds the lines that belong to a part, `excerpts` how it is written elsewhere.

What an anchor shares between places is never changed in one of them: `Sheet.spliced` refuses.
"""

from collections.abc import Iterable

import attrs

from tierlb.topology.excerpts import entry_text, word
from tierlb.topology.layout import Layout, LayoutError
from tierlb.topology.parts import ListPart, MappingEntry, MappingPart, Part, meant, parse_parts


@attrs.frozen
class Splice:
    """Put `text` (lines end in a line feed) in the place of the characters from `start` to `end`. `within`: an offset
    inside of what is changed, even where an insertion itself stands behind it."""

    start: int
    end: int
    text: str
    within: int


class Sheet:
    """One text, its parts, and the splices that change it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed = parse_parts(text)
        self.layout = Layout(text, self._parsed.spans)

    def mapping(self, *path: str) -> MappingPart:
        """The mapping that the keys lead to."""
        assert self._parsed.root is not None, "a text that loads is not empty"
        found = meant(self._parsed.root)
        for key in path:
            assert isinstance(found, MappingPart)
            found = meant(found.entries[key].value)
        assert isinstance(found, MappingPart)
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

    def with_value(self, entry: MappingEntry, value: str, *, comment: bool = False) -> Splice:
        """Write another value, as `value_text` gives it, in the place of the entry's; and of the comment behind it."""
        end = entry.value.end + (len(self.layout.tail(entry)) if comment else 0)
        plain = value.removeprefix(" ")
        is_block = plain.lstrip(" ")[:1] in "#\n"
        if is_block or (isinstance(entry.value, MappingPart | ListPart) and not entry.value.flow):
            return Splice(self.layout.after_colon(entry), end, value, entry.value.start)
        return Splice(entry.value.start, end, plain, entry.value.start)

    def with_key(self, mapping: MappingPart, key: str, value: str, after: Iterable[str]) -> Splice:
        """Set a scalar; a key that is not there yet comes behind the last of those in `after` that is."""
        if key in mapping.entries:
            return self.replaced(mapping.entries[key].value, value)
        return self.with_entry(mapping, entry_text(key, f" {value}", self.layout.column(mapping)), after)

    def with_entry(self, mapping: MappingPart, entry: str, after: Iterable[str]) -> Splice:
        """Put an entry, written for the mapping's column, behind the last of the keys in `after` that is there."""
        last = mapping.entries[[key for key in after if key in mapping.entries][-1]]
        if mapping.flow:
            return Splice(last.value.end, last.value.end, f", {entry}", mapping.start)
        line = self.layout.lines_of(last)[1]
        at = self.layout.next(line)
        if self.layout.end(line) == at:
            entry = "\n" + entry.removesuffix("\n")
        return Splice(at, at, entry, mapping.start)

    def with_block(self, mapping: MappingPart, block: str, *, before: str | None = None, after: str = "") -> Splice:
        """Put a larger entry beside another one, with a blank line between if that is how the mapping is written."""
        blank = "\n" if not mapping.flow and self.layout.is_spaced(mapping) else ""
        if before is None:
            return self.with_entry(mapping, blank + block, [after])
        start = mapping.entries[before].key.start
        if mapping.flow:
            return Splice(start, start, f"{block}, ", mapping.start)
        start = self.layout.start(self.layout.lines_of(mapping.entries[before])[0])
        return Splice(start, start, block + blank, mapping.start)

    def without(self, mapping: MappingPart, key: str) -> Splice:
        """Take an entry out, with its comments, and with the blank lines that kept it apart."""
        entries = list(mapping.entries.values())
        index = list(mapping.entries).index(key)
        if mapping.flow:
            return self._without_of_flow([(entry.key.start, entry.value.end) for entry in entries], index, mapping)
        return self._without_lines(
            *self.layout.lines_of(entries[index]), mapping, is_last=entries[index] is entries[-1]
        )

    def without_item(self, series: ListPart, index: int) -> Splice:
        """Take an item out of a list of scalars."""
        item = series.items[index]
        if series.flow:
            return self._without_of_flow([(item.start, item.end) for item in series.items], index, series)
        self.layout.item_indent(item)
        lines = self.layout.line(item.start), self.layout.line(item.end)
        return self._without_lines(*lines, series, is_last=index + 1 == len(series.items))

    def with_items(self, series: ListPart, index: int, names: list[str]) -> Splice:
        """Write names in the place of one item of a list of scalars."""
        item = series.items[index]
        if len(names) == 1:
            return self.renamed(item, names[0])
        between = ", " if series.flow else "\n" + self.layout.item_indent(item)
        return self.replaced(item, between.join(map(word, names)))

    def with_pairs(self, mapping: MappingPart, key: str, pairs: dict[str, str]) -> Splice:
        """Write names with their scalars in the place of one entry of a mapping to scalars."""
        entry = mapping.entries[key]
        column = self.layout.column(mapping)
        between = ", " if column is None else "\n" + " " * column
        text = between.join(f"{word(name)}: {value}" for name, value in pairs.items())
        return Splice(entry.key.start, entry.value.end, text, mapping.start)

    def _refuse_shared(self, splice: Splice) -> None:
        for start, end in self._parsed.shared:
            covers = splice.start <= start and end <= splice.end
            if covers or start <= splice.within < end:
                name = self.text[start:end].split(None, 1)[0]
                raise LayoutError(
                    f"line {self.layout.line(start) + 1}: the edit changes what {name} shares with another place: "
                    f"write it out in both places, without {name}, and try again"
                )

    def _without_of_flow(self, spans: list[tuple[int, int]], index: int, whole: Part) -> Splice:
        start, end = spans[index]
        if index + 1 < len(spans):
            return Splice(start, spans[index + 1][0], "", whole.start)
        before = spans[index - 1][1] if index else start
        # a comment behind the part before would go too; a comma at the end is harmless
        return Splice(start if "#" in self.text[before:start] else before, end, "", whole.start)

    def _without_lines(self, first: int, last: int, whole: Part, *, is_last: bool) -> Splice:
        first, last = self.layout.with_blank_lines(first, last, is_last=is_last)
        return Splice(self.layout.start(first), self.layout.next(last), "", whole.start)
