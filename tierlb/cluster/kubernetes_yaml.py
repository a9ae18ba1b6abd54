"""Kubernetes objects as YAML: one thing on each line, as in all manifests, for they are compared by line.

A text of several lines is written as it is, which is how a person wants to see the topology file, if it comes back from
that just as it was. For everything else see yaml_text.py.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tierlb.cluster.yaml_text import scalar

LINES = re.compile(r"[!-~\u00a1-\u2027\u202a-\ud7ff][\t\n -~\u00a1-\u2027\u202a-\ud7ff]*\n(?<!\n\n)")
"""What a block gives back: no other line ends, no blanks to guess an indentation from, one line end at the end."""


def documents(objects: Iterable[dict[str, Any]]) -> str:
    """One document for each object."""
    return "".join(f"{line}\n" for each in objects for line in ("---", *_mapping(each)))


def _mapping(data: dict[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        first, *others = _value(value)
        yield f"{scalar(key)}:{first}"
        yield from (f"  {line}" if line else "" for line in others)


def _value(value: Any) -> Iterator[str]:
    """What follows a key on its line, then the lines below."""
    if isinstance(value, dict | list | tuple) and value:
        yield ""
        yield from _mapping(value) if isinstance(value, dict) else _items(value)
    elif isinstance(value, str) and LINES.fullmatch(value):
        yield " |"
        yield from value.removesuffix("\n").split("\n")
    else:
        yield f" {_empty(value) or scalar(value)}"


def _items(items: Iterable[Any]) -> Iterator[str]:
    for item in items:
        if isinstance(item, dict) and item:
            first, *others = _mapping(item)
        else:
            first, *others = _value(item)
        yield f"- {first.removeprefix(' ')}".rstrip()
        yield from (f"  {line}" if line else "" for line in others)


def _empty(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    return "[]" if isinstance(value, list | tuple) else ""
