"""Parts of a YAML text as they would be written in another place of it."""

import re
from collections.abc import Iterator

from tierlb.topology.layout import Layout
from tierlb.topology.parts import LINE_END, Alias, ListPart, MappingPart, Part, Word, meant

NOT_ANYWHERE = re.compile(rf"{LINE_END.pattern}|[#&*]")
"""What may keep a flow mapping or list from being copied as it is."""
PLAIN_WORD = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)[a-z][a-z0-9-]*")
"""Names that no YAML reader takes for something else; all others are quoted."""


def word(text: str) -> str:
    """A name as YAML."""
    return text if PLAIN_WORD.fullmatch(text) else f'"{text}"'


def entry_text(key: str, value: str, column: int | None) -> str:
    """An entry of a mapping with its keys at the column: a line, or what stands between braces."""
    return f"{key}:{value}" if column is None else f"{' ' * column}{key}:{value}\n"


def flow_text(text: str, part: Part) -> str:
    """The part on one line, as it can stand anywhere; as it is written, if that is so."""
    found = meant(part)
    raw = text[found.start : found.end]
    if isinstance(found, Word):
        return word(found.text) if raw[:1] in "|>*" or LINE_END.search(raw) else raw
    if found.flow and not NOT_ANYWHERE.search(raw):
        return raw
    if isinstance(found, ListPart):
        return f"[{', '.join(flow_text(text, item) for item in found.items)}]"
    pairs = (f"{flow_text(text, entry.key)}: {flow_text(text, entry.value)}" for entry in found.entries.values())
    return f"{{{', '.join(pairs)}}}"


def moved(layout: Layout, mapping: MappingPart, key: str, column: int | None) -> str:
    """An entry as it would be written in a mapping with its keys at the column; comments go along between block
    mappings."""
    entry = mapping.entries[key]
    if mapping.flow or column is None:
        return entry_text(key, f" {flow_text(layout.text, entry.value)}", column)
    first, last = layout.lines_of(entry)
    lines = LINE_END.split(layout.text[layout.start(first) : layout.end(last)])
    return "".join(f"{line}\n" for line in _shifted(lines, column - layout.column_of(entry)))


def value_text(layout: Layout, mapping: MappingPart, key: str, column: int | None) -> str:
    """What stands behind an entry's colon, as it would be written in a mapping with its keys at the column."""
    entry = mapping.entries[key]
    if column is None or isinstance(entry.value, Alias | Word):
        return f" {flow_text(layout.text, entry.value)}" + ("" if column is None else layout.tail(entry))
    start = entry.value.start if entry.value.flow else layout.after_colon(entry)
    first, *others = LINE_END.split(layout.text[start : entry.value.end] + layout.tail(entry))
    shift = 0 if mapping.flow else column - layout.column_of(entry)
    return (" " if entry.value.flow else "") + "\n".join([first, *_shifted(others, shift)])


def _shifted(lines: list[str], by: int) -> Iterator[str]:
    """The lines further right, or further left as far as they are indented."""
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        yield " " * max(indent + by, 0) + line[indent:] if line.strip() else line
