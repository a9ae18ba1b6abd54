"""Text or file → a topology that everything after may rely on, or all of its problems at once.

Six stages, each in its module: YAML with places (`source`), the shape of each mapping (`reading`), rules within a
mapping (`rules`), and rules between them (`graph`). Then come the files that are named (`files`), and what the command
that runs the file cannot do (`uses`). A stage that finds faults does not stop the next one, as far as there is
something left to look at. What is right but probably not meant is found afterwards (`advice`).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as FilePath

import attrs

from tierlb.model.topology import Topology
from tierlb.topology.advice import advice
from tierlb.topology.build import build
from tierlb.topology.cores import available_cores
from tierlb.topology.files import certificate_advice, file_faults
from tierlb.topology.graph import graph_faults
from tierlb.topology.parts import MAX_CHARS, Lines, Place, UnreadableError
from tierlb.topology.problems import Fault, Problem, TopologyError, path_text
from tierlb.topology.reading import TypedReading, read_typed
from tierlb.topology.rules import local_faults
from tierlb.topology.shapes import FileShape
from tierlb.topology.source import Data, YamlSource, read_source
from tierlb.topology.timeouts import timeout_advice
from tierlb.topology.typed import Scalar
from tierlb.topology.uses import Use, cores_of, use_faults

MAX_FILE_BYTES = 4 * MAX_CHARS
"""UTF-8 takes at most four bytes a character."""


@attrs.frozen
class Checked:
    """A topology without a fault, and what is probably not meant in its file, in the file's order."""

    topology: Topology
    warnings: tuple[Problem, ...] = ()


def load_file(path: str | os.PathLike[str]) -> Topology:
    """Read a topology file. Raises TopologyError, also if there is no such file."""
    return check_file(path).topology


def load_text(text: str, file: str, cores: Callable[[], int] = available_cores) -> Topology:
    """Read a topology from text; `file` is what problems are reported under, and files that the text names are looked
    for in its folder. `cores`: how many nodes `replicas: auto` is, if not one per core of this process. Raises
    TopologyError."""
    return check_text(text, file, cores=cores).topology


def check_file(path: str | os.PathLike[str], use: Use | None = None) -> Checked:
    """Read a topology file and look what is odd in it, where it is run by this command. Raises TopologyError."""
    file = os.fspath(path)
    start = Place(1, 1)
    try:
        with FilePath(file).open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TopologyError([_problem(file, start, Fault((), f"cannot be read: {reason}"))]) from None
    try:
        return check_text(content.decode("utf-8-sig"), file, use, cores_of(use))
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        place = Lines(before + "?").place_of(len(before))
        message = f"not UTF-8 text: the byte {content[error.start]:#04x} cannot stand here"
        raise TopologyError([_problem(file, place, Fault((), message))]) from None


def check_text(text: str, file: str, use: Use | None = None, cores: Callable[[], int] = available_cores) -> Checked:
    """The same for a text. Raises TopologyError."""
    try:
        source = read_source(text)
    except UnreadableError as error:
        raise TopologyError([_problem(file, error.place, error.fault)]) from None
    if not isinstance(source.data, dict):
        what = "the file is empty" if source.data is None else "a topology is a mapping"
        fault = Fault((), f"{what}: begin with cluster: NAME, then tiers and pools")
        placed = [*source.faults, (source.place(()), fault)]
        raise TopologyError(_problem(file, place, fault) for place, fault in placed)
    return _checked(source, file, use, cores)


def _checked(source: YamlSource, file: str, use: Use | None, cores: Callable[[], int]) -> Checked:
    folder = os.path.dirname(file)
    reading = _read_shape(source.data)
    faults, shape = list(reading.faults), reading.value
    if shape is not None:
        faults += local_faults(shape, reading)
        tiers, pools = _given_names(source.data, "tiers"), _given_names(source.data, "pools")
        faults += graph_faults(shape, reading, tiers, pools)
        faults += file_faults(shape, folder)
        faults += use_faults(shape, use)
    placed = [*source.faults, *_placed(source, faults)]
    if placed or shape is None:
        raise TopologyError(_problem(file, place, fault) for place, fault in placed)
    topology = build(shape, folder, cores)
    odd = (*advice(shape, use), *timeout_advice(topology), *certificate_advice(topology))
    warnings = [_problem(file, *each, warning=True) for each in _placed(source, odd)]
    return Checked(topology, tuple(sorted(warnings)))


def _read_shape(data: Data) -> TypedReading:
    """The file's shape. One without a name is read as if it had one, so that the rest of it is checked too."""
    reading = read_typed(FileShape, data)
    if reading.value is not None or not isinstance(data, dict):
        return reading
    return attrs.evolve(reading, value=read_typed(FileShape, {**data, "cluster": Scalar("unnamed")}).value)


def _placed(source: YamlSource, faults: Iterable[Fault]) -> Iterator[tuple[Place, Fault]]:
    return ((source.place(fault.path, at_key=fault.at_key), fault) for fault in faults)


def _given_names(data: Data, key: str) -> list[str]:
    """The names under tiers or pools as the file gives them, right or not."""
    named = data.get(key) if isinstance(data, dict) else None
    return list(named) if isinstance(named, dict) else []


def _problem(file: str, place: Place, fault: Fault, *, warning: bool = False) -> Problem:
    return Problem(file, place.line, place.column, path_text(fault.path), fault.message, warning)
