"""Plain data as YAML that people like to read: what is short stands on one line, what is long in a block.

Whatever is not plainly a word is written in JSON's quotes, which all YAML readers take the same way. So it does not
matter that docker-compose 1.29 reads YAML 1.1, where `on` is true and 22:22 a number, and its successors read YAML 1.2.

Left out: comments within, and everything that is not a mapping, list, text, number, truth value or None.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

WIDTH = 100
PLAIN = re.compile(r"(?:\./|/|--?)?[a-zA-Z][a-zA-Z0-9_./-]*|[1-9][0-9]*[smhgk]")
TAKEN = re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE)
"""Words that are not text in YAML 1.1 or 1.2."""
UNPRINTABLE = re.compile("[^ -~\xa0-\u2027\u202a-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What JSON may have as it is and YAML may not (YAML 1.2.2 §5.1), or takes for the end of a line."""


def dump(data: Mapping[str, Any]) -> str:
    """The text of one document. In the outer two levels, entries of several lines are set apart by empty ones."""
    return "".join(f"{line}\n" for line in _block(data, apart=2))


def scalar(value: Any) -> str:
    """The text of what is neither a mapping nor a list."""
    if value is None:
        return "null"
    if isinstance(value, str) and PLAIN.fullmatch(value) and not TAKEN.fullmatch(value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "." not in text:
        return text.replace("e", ".0e")
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _block(data: Mapping[str, Any], apart: int = 0) -> Iterator[str]:
    begun = False
    for key, value in data.items():
        short = _short(value)
        if short is not None:
            yield f"{scalar(key)}: {short}".rstrip()
        else:
            if begun and apart > 0:
                yield ""
            yield f"{scalar(key)}:"
            yield from (f"  {line}" if line else "" for line in _long(value, apart - 1))
        begun = True


def _long(value: Any, apart: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _block(value, apart)
    elif not any(map(_is_deep, value)):
        yield from _filled(value)
    else:
        yield from _items(value)


def _filled(words: Iterable[Any]) -> Iterator[str]:
    """A list without depth, as many of it on each line as there is room for."""
    line = "["
    for word in words:
        text = f"{scalar(word)}, "
        if len(line) > 1 and len(line) + len(text) > WIDTH:
            yield line.rstrip()
            line = " "
        line += text
    yield f"{line.removesuffix(', ')}]"


def _items(items: Iterable[Any]) -> Iterator[str]:
    for item in items:
        short = _short(item)
        lines = [short] if short is not None else list(_long(item, 0))
        yield f"- {lines[0]}"
        yield from (f"  {line}" for line in lines[1:])


def _short(value: Any) -> str | None:
    """The value on one line, unless it is deep or long."""
    if isinstance(value, Mapping):
        parts = [f"{scalar(key)}: {scalar(item)}" for key, item in value.items() if not _is_deep(item)]
        text = f"{{{', '.join(parts)}}}"
    elif isinstance(value, list | tuple):
        parts = [scalar(item) for item in value if not _is_deep(item)]
        text = f"[{', '.join(parts)}]"
    else:
        return scalar(value)
    return text if len(parts) == len(value) and len(text) <= WIDTH else None


def _is_deep(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)
