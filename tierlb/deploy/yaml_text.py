"""Plain data as readable YAML, in two forms; both keep a text of several lines as it is.

`dump` is compact: short values are on one line, long ones in a block. `documents` has one value on each line, as is
usual for Kubernetes manifests, which are compared by line.

Everything that is not plainly a word is written in JSON's quotes, which all YAML readers take the same way. So it does
not matter that docker-compose 1.29 reads YAML 1.1, where `on` is true and 22:22 a number, and its successors YAML 1.2.
A text is written as it is if reading it gives back the same text.

Left out: comments within, and everything that is not a mapping, list, text, number, truth value or None. With
ruamel.yaml both forms would need a style set at each node, and quotes would follow rules of its own.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

YAML_WIDTH = 100
SPREAD = 0
"""The width with which only empty values are on one line."""
PLAIN_SCALAR = re.compile(r"(?:\./|/|--?)?[a-zA-Z][a-zA-Z0-9_./-]*|[1-9][0-9]*[smhgk]")
TAKEN = re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE)
"""Words that are not text in YAML 1.1 or 1.2."""
UNPRINTABLE = re.compile("[^ -~\xa0-\u2027\u202a-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that JSON allows and YAML does not (YAML 1.2.2 §5.1), or takes for the end of a line."""
LINES = re.compile(r"[!-~\u00a1-\u2027\u202a-\ud7ff][\t\n -~\u00a1-\u2027\u202a-\ud7ff]*\n(?<!\n\n)")
"""Texts that a block preserves: no other line ends, no blanks to guess an indentation from, one line end at the end."""


def dump(data: Mapping[str, Any]) -> str:
    """The text of one document. In the outer two levels, entries of several lines are separated by empty lines."""
    return "".join(f"{line}\n" for line in _block(data, YAML_WIDTH, apart=2))


def documents(objects: Iterable[Mapping[str, Any]]) -> str:
    """One document for each object."""
    return "".join(f"{line}\n" for each in objects for line in ("---", *_block(each, SPREAD)))


def _block(data: Mapping[str, Any], width: int, apart: int = 0) -> Iterator[str]:
    begun = False
    for key, value in data.items():
        first, *others = _yaml_value(value, width, apart - 1)
        if others and begun and apart > 0:
            yield ""
        yield f"{_yaml_scalar(key)}: {first}".rstrip()
        yield from _indented(others)
        begun = True


def _yaml_value(value: Any, width: int, apart: int = 0) -> Iterator[str]:
    """The rest of a key's line, then the lines below."""
    short = _flow_text(value, width)
    if short is not None:
        yield short
    elif isinstance(value, str):
        yield "|"
        yield from value.removesuffix("\n").split("\n")
    else:
        yield ""
        yield from _long(value, width, apart)


def _long(value: Any, width: int, apart: int = 0) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _block(value, width, apart)
    elif width == SPREAD or any(map(_is_deep, value)):
        yield from _items(value, width)
    else:
        yield from _filled_lines(value, width)


def _filled_lines(words: Iterable[Any], width: int) -> Iterator[str]:
    """A flat list, as many values on each line as fit."""
    line = "["
    for word in words:
        text = f"{_yaml_scalar(word)}, "
        if len(line) > 1 and len(line) + len(text) > width:
            yield line.rstrip()
            line = " "
        line += text
    yield f"{line.removesuffix(', ')}]"


def _items(items: Iterable[Any], width: int) -> Iterator[str]:
    for item in items:
        first, *others = _yaml_value(item, width)
        if not first:
            first, *others = others
        yield f"- {first}"
        yield from _indented(others)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)


def _flow_text(value: Any, width: int) -> str | None:
    """The value on one line, unless it is deep or long."""
    if isinstance(value, Mapping):
        parts = [f"{_yaml_scalar(key)}: {_yaml_scalar(item)}" for key, item in value.items() if not _is_deep(item)]
        text = f"{{{', '.join(parts)}}}"
    elif isinstance(value, list | tuple):
        parts = [_yaml_scalar(item) for item in value if not _is_deep(item)]
        text = f"[{', '.join(parts)}]"
    else:
        return None if isinstance(value, str) and LINES.fullmatch(value) else _yaml_scalar(value)
    return text if len(parts) == len(value) and (len(text) <= width or not parts) else None


def _yaml_scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str) and PLAIN_SCALAR.fullmatch(value) and not TAKEN.fullmatch(value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "." not in text:
        return text.replace("e", ".0e")
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _is_deep(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)
