"""YAML text → plain mappings, lists and scalars, with the place of every one of them.

Scalars stay text, since only the key they stand under decides how they are read. A header value `1.10` is not 1.1, and
`no` is not false. Aliases are followed, and counted in full, for they can multiply what a text holds.

Left out on purpose: merge keys (`<<`).
"""

from typing import Any

import attrs

from tierlb.topology.parts import Bounds, ListPart, MappingPart, Place, Word, meant, parse_parts
from tierlb.topology.problems import Fault, Path
from tierlb.topology.typed import Scalar

NULLS = frozenset({"", "~", "null", "Null", "NULL"})

Data = dict[str, Any] | list[Any] | Scalar | None


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


def read_source(text: str) -> YamlSource:
    """The data of the text. Raises UnreadableError where none can be had at all."""
    parsed = parse_parts(text)
    reader = DataReader()
    data = None if parsed.root is None else reader.data(meant(parsed.root), (), 0)
    return YamlSource(data, reader.keys, reader.values, (*parsed.faults, *reader.faults))


class DataReader:
    """Parts → data. Gives each part its path: an alias may put it under several."""

    def __init__(self) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.faults: list[tuple[Place, Fault]] = []
        self._bounds = Bounds()

    def data(self, part: Word | ListPart | MappingPart, path: Path, depth: int) -> Data:
        """The data of a part, whose places are noted. Raises UnreadableError."""
        self._bounds.count(part.place, depth)
        self.values[path] = part.place
        if isinstance(part, ListPart):
            return [self.data(meant(item), (*path, index), depth + 1) for index, item in enumerate(part.items)]
        if isinstance(part, MappingPart):
            return self._mapping(part, path, depth)
        if not _is_null(part):
            return Scalar(part.text, part.quoted)
        self.values[path] = self.keys.get(path, part.place)
        return None

    def _mapping(self, part: MappingPart, path: Path, depth: int) -> Data:
        data: dict[str, Any] = {}
        for key, value in ((meant(key), meant(value)) for key, value in part.pairs):
            self._bounds.count(key.place, depth)
            if not isinstance(key, Word):
                self.faults.append((key.place, Fault(path, "a key must be plain text")))
                continue
            name = "null" if _is_null(key) else key.text
            here = (*path, name)
            if here in self.keys:
                first = self.keys[here].line
                self.faults.append((key.place, Fault(here, f"duplicate key, first given in line {first}")))
                continue
            self.keys[here] = key.place
            data[name] = self.data(value, here, depth + 1)
        return data


def _is_null(word: Word) -> bool:
    return not word.quoted and word.text in NULLS
